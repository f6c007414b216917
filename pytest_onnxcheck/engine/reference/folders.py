"""Folders of weights: which files `save_pretrained` wrote, and what other folders are."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_onnxcheck.engine.reference.formats import begins_as_none, unpacked_too_far, unreadable
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.files import not_found
from pytest_onnxcheck.places import leads_out, relative
from pytest_onnxcheck.wording import listed, several

__all__ = ["CONFIG", "checkpoint_problem", "weight_files", "without_weights"]

CONFIG = "config.json"

#: suffixes of what may hold weights of PyTorch
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pt2")
#: file in a folder -> what such a folder is, and what to do
_OTHERS = {
    "saved_model.pb": "a SavedModel of TensorFlow: convert it to PyTorch first",
    ".metadata": "a checkpoint of torch.distributed: make one file of it with `python -m "
    "torch.distributed.checkpoint.format_utils dcp_to_torch {folder} FILE.pt`",
    "zero_to_fp32.py": "a checkpoint of DeepSpeed: make one file of it with `python "
    "{folder}/zero_to_fp32.py {folder} FOLDER`",
    "adapter_config.json": "an adapter (PEFT) without its base model: merge them, "
    "`model.merge_and_unload().save_pretrained(FOLDER)`",
    "model_index.json": "a pipeline of diffusers: name the folder of one of its models",
    "data.pkl": "an archive of torch.save that was unpacked: name the file it was",
    "tf_model.h5": "weights of TensorFlow alone: convert them to PyTorch first",
    "flax_model.msgpack": "weights of Flax alone: convert them to PyTorch first",
}


def checkpoint_problem(path: Path, root: Path) -> str | None:
    """What is wrong with a checkpoint by its first bytes and its size, without torch; else None.

    Args:
        path: A file, or a folder that `save_pretrained` wrote.
        root: The manifest's folder.
    """
    try:
        files = weight_files(path) if path.is_dir() else [path]
        if not files:
            return f"{path}: {without_weights(path, root, 'checkpoint')}"
        for file in files:
            if not file.is_file():
                return f"checkpoint {not_found(file)}"
            what = None if file.suffix == ".pt2" else unreadable(file)
            what = what or begins_as_none(file)
            if what is not None:
                return f"{file}: cannot be read: it {what}"
            bomb = unpacked_too_far(file)
            if bomb is not None:
                return f"{file}: refused: it {bomb}"
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"{path}: cannot be read: {error}"
    return None


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The files with the weights that `save_pretrained` wrote into a folder.

    Args:
        folder: The folder.
        variant: What stands in their names, such as `fp16` in `model.fp16.safetensors`.

    Returns:
        One file, or all shards that an index names; none where the folder has no such files.

    Raises:
        CheckpointError: A shard is missing, or the index cannot be read.
    """
    infix = f".{variant}" if variant else ""
    names = [f"model{infix}.safetensors", f"model.safetensors.index{infix}.json"]
    names += [f"pytorch_model{infix}.bin", f"pytorch_model.bin.index{infix}.json"]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        indices = sorted(folder.glob("*.safetensors.index.json"))
        if len(indices) > 1:
            names = [index.name for index in indices]
            raise CheckpointError(f"{folder}: has several sets of weights: {listed(names)}")
        found = indices[0] if indices else None
    if found is None:
        return []
    return [found] if found.suffix != ".json" else _shards(found)


def _shards(index: Path) -> list[Path]:
    """All files that an index names, in its order."""
    try:
        table = json.loads(index.read_text(encoding="utf-8"))
        names = list(dict.fromkeys(map(str, table["weight_map"].values())))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        what = unreadable(index) or f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{index}: is no index of shards: {what}") from error
    outside = [name for name in names if leads_out(name)]
    if outside:
        raise CheckpointError(
            f"{index}: refused: it names files outside of its folder: {several(outside)}; copy or "
            "download the folder again, all of it"
        )
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent}: {len(missing)} of {len(names)} shards missing: {several(missing)}; "
            f"{index.name} names them: copy or download the folder again, all of it"
        )
    return [index.parent / name for name in names]


def without_weights(folder: Path, root: Path, key: str) -> str:
    """What a folder is that has no weights of `save_pretrained`, and what may have been meant.

    Args:
        folder: The folder.
        root: The manifest's, which the lines to write are relative to.
        key: Of the manifest, which takes a folder inside this one.
    """
    for name, what in _OTHERS.items():
        if (folder / name).is_file():
            return f"is {what.format(folder=folder)}"
    places = [*folder.glob("*"), *folder.glob("*/*")]
    nested = sorted(path for path in places if path.is_dir() and _saved(path))
    if nested:
        return f"has no weights itself; write {_choices(nested, root, key)}"
    files = [path for path in places if path.is_file() and path.suffix in _SUFFIXES]
    meant = sorted(path for path in files if unreadable(path) is None)
    if meant:
        lines = _choices(meant, root, "checkpoint")
        return f"is a folder that save_pretrained did not write; name a file in it: {lines}"
    held = several(sorted(path.name for path in folder.iterdir()), 8) or "nothing"
    return (
        "is a folder without weights of PyTorch (model.safetensors, pytorch_model.bin or the "
        f"shards of one); it holds {held}"
    )


def _saved(folder: Path) -> bool:
    files = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    return (folder / CONFIG).is_file() and bool(files)


def _choices(paths: list[Path], root: Path, key: str) -> str:
    """Lines of the manifest, one a path."""
    more = [f"one of {len(paths) - 5} more"] if len(paths) > 5 else []
    return " or ".join([f'{key} = "{relative(path, root)}"' for path in paths[:5]] + more)
