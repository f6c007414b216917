"""Models in folders that `save_pretrained` wrote, by their class's `from_pretrained`.

Nothing is downloaded, and no code in a folder is run.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.quiet import quiet
from pytest_onnxcheck.engine.reference.folders import CONFIG, weight_files, without_weights
from pytest_onnxcheck.engine.reference.formats import dtypes_of, unreadable
from pytest_onnxcheck.engine.reference.imports import import_object, user_frames
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.places import relative
from pytest_onnxcheck.wording import meant, one_line, several

if TYPE_CHECKING:
    import torch

__all__ = ["Pretrained", "check_folder", "load_pretrained"]

#: what the names of Hugging Face's hub look like: `bert-base-uncased`, `google/vit-base`
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
#: the first transformers whose `from_pretrained` takes `dtype`; before, it was `torch_dtype`
_HAS_DTYPE = (4, 56)


@dataclass(frozen=True)
class Pretrained:
    """A model and what it was made of.

    Attributes:
        module: The model.
        config: What config.json says.
        files: The files it was read from: config and weights.
        notes: What should be told: weights that were not used, or are of another dtype.
    """

    module: torch.nn.Module
    config: Mapping[str, Any]
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def load_pretrained(model: Model) -> Pretrained:
    """Loads the model of the manifest's `pretrained`, in float32 unless `kwargs` say otherwise.

    Raises:
        CheckpointError: The folder is none of `save_pretrained`, its class is not found, or its
            weights do not fit, which `from_pretrained` would fill with random numbers.
    """
    folder = model.pretrained
    assert folder is not None
    config, weights = _read(model, folder)
    _refuse_code(model.kwargs)
    with _silent():
        made, notes = _class(model, folder, config)
        module, found = _made(model, made, folder)
    _check(folder, made, config, found)
    notes += _told(folder, made, config, found)
    if not _asks_dtype(model):
        notes += _told_dtype(module, weights, config)
    return Pretrained(module, config, (folder / CONFIG, *weights), tuple(notes))


def check_folder(model: Model) -> None:
    """Refuses a folder of `pretrained` that nothing can be loaded from, without transformers.

    Raises:
        CheckpointError: Config or weights are missing or cannot be read.
    """
    assert model.pretrained is not None
    _refuse_code(model.kwargs)
    _read(model, model.pretrained)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps the progress bars and reports of transformers out of the output."""
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        yield


# the folder


def _read(model: Model, folder: Path) -> tuple[Mapping[str, Any], list[Path]]:
    """What config.json says, and the files of weights, each of them whole by its size."""
    if not folder.exists():
        raise CheckpointError(f"pretrained folder not found: {folder}{_meant(model, folder)}")
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: is a file, and pretrained names the folder it is in: write pretrained = "
            f'"{relative(folder.parent, model.root)}", or, for weights alone, checkpoint = '
            f'"{relative(folder, model.root)}" with a factory'
        )
    weights = weight_files(folder, model.kwargs.get("variant"))
    if not weights:
        raise CheckpointError(f"{folder}: {without_weights(folder, model.root, 'pretrained')}")
    for file in weights:
        broken = unreadable(file)
        if broken is not None:
            raise CheckpointError(f"{file}: cannot be read: it {broken}")
    return _config(folder), weights


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(
            f"{folder}: has weights but no {CONFIG}, which says what model they are of: save it "
            "again with save_pretrained, or name the folder as checkpoint beside a factory"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        what = unreadable(path)
        plain = what is None or what.startswith("is a text")  # as a table should be
        said = one_line(error) if plain else f"it {what}"
        raise CheckpointError(f"{path}: cannot be read: {said}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: is a {type(config).__name__}, not a table")
    return config


def _meant(model: Model, folder: Path) -> str:
    """What may have been meant by a folder that is not there."""
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    names = [entry.name for entry in beside if entry.is_dir()]
    name = relative(folder, model.root)
    if (close := meant(folder.name, names)) or not _HUB_NAME.fullmatch(name):
        return close
    return (
        f". If {name!r} is a name on the Hugging Face Hub: nothing is downloaded while checking. "
        f"Get it once, `hf download {name} --local-dir {name}`"
    )


# the class


def _refuse_code(kwargs: Mapping[str, Any]) -> None:
    if kwargs.get("trust_remote_code"):
        raise CheckpointError(
            "kwargs.trust_remote_code is refused: code in a folder of weights is never run. Copy "
            'the model\'s code into your project, and write factory = "my_module.py:Class"'
        )


def _class(model: Model, folder: Path, config: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The class whose `from_pretrained` loads the folder, and what should be told of it."""
    if model.factory is not None:
        made: Any = import_object(model.factory, model.root)
        if not hasattr(made, "from_pretrained"):
            raise CheckpointError(
                f"{model.factory} has no from_pretrained, which pretrained calls: name the model's "
                "class, or, for a factory of your own, write "
                f'checkpoint = "{relative(folder, model.root)}" in place of pretrained'
            )
        return made, []
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise CheckpointError(
            f"{folder / CONFIG}: names no class (architectures): write the one that loads it, such "
            'as factory = "transformers:AutoModel"'
        )
    try:
        import transformers
    except ImportError as error:
        raise CheckpointError(
            f"{folder}: {names[0]} is a class of transformers, which cannot be imported "
            f"({one_line(error, 200)}): pip install 'pytest-onnxcheck[transformers]'"
        ) from error
    notes = []
    if len(names) > 1:
        notes.append(
            f"{folder / CONFIG}: names several classes, of which the first was taken: "
            f'{several(names)}; write factory = "transformers:{names[0]}" if that is meant'
        )
    made = getattr(transformers, str(names[0]), None)
    if made is None:
        raise CheckpointError(_unknown(folder, str(names[0]), config, transformers))
    return made, notes


def _unknown(folder: Path, name: str, config: Mapping[str, Any], transformers: Any) -> str:
    """What to do about a class that transformers does not have."""
    if config.get("auto_map"):
        return (
            f"{folder}: {name} is no class of transformers: its code came with the weights "
            "(auto_map, trust_remote_code), and running that is refused. Copy the code into your "
            'project, read it, and write factory = "my_module.py:Class", whose from_pretrained is '
            "called"
        )
    hint = meant(name, dir(transformers))
    return (
        f"{folder}: transformers {transformers.__version__} has no {name}{hint}: install the "
        "version that the folder was saved with"
        f'{_version(config)}, or write factory = "my_module.py:{name}" for a class of your own'
    )


def _version(config: Mapping[str, Any]) -> str:
    version = config.get("transformers_version")
    return f" ({version})" if version else ""


# loading


def _made(
    model: Model, made: Any, folder: Path
) -> tuple[torch.nn.Module, Mapping[str, Any] | None]:
    """The model, and what its `from_pretrained` says of the weights; None where it says nothing."""
    import torch

    arguments: dict[str, Any] = {**model.kwargs, "local_files_only": True}
    theirs = _of_transformers(made)
    if theirs:
        arguments |= {
            "trust_remote_code": False,
            "output_loading_info": True,
            "ignore_mismatched_sizes": True,  # they are told with their shapes
        }
        if not _asks_dtype(model):
            arguments[_dtype_key()] = torch.float32
    else:
        accepted = inspect.signature(made.from_pretrained).parameters
        if "local_files_only" not in accepted:
            del arguments["local_files_only"]
    try:
        returned = made.from_pretrained(str(folder), **arguments)
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in model.kwargs.items())
        raise CheckpointError(
            f"{_named(made)}.from_pretrained({', '.join(filter(None, [str(folder), given]))}) "
            f"failed: {type(error).__name__}: {one_line(error, 600)}\n{user_frames(error)}"
        ) from error
    module, found = returned if theirs else (returned, None)
    if not isinstance(module, torch.nn.Module):
        raise CheckpointError(
            f"{_named(made)}.from_pretrained returned a {type(module).__name__}, not a "
            "torch.nn.Module"
        )
    return module, found


def _of_transformers(made: Any) -> bool:
    """Whether a class is one of transformers, or derived from one."""
    bases = inspect.getmro(made) if inspect.isclass(made) else ()
    return any(base.__module__.partition(".")[0] == "transformers" for base in bases)


def _asks_dtype(model: Model) -> bool:
    return bool({"dtype", "torch_dtype"} & model.kwargs.keys())


def _dtype_key() -> str:
    import transformers

    version = [int(part) for part in transformers.__version__.split(".")[:2]]
    return "dtype" if tuple(version) >= _HAS_DTYPE else "torch_dtype"


def _named(made: Any) -> str:
    return str(getattr(made, "__name__", made))


def _check(
    folder: Path, made: Any, config: Mapping[str, Any], found: Mapping[str, Any] | None
) -> None:
    """Refuses weights that `from_pretrained` has filled with random numbers."""
    if found is None:
        return
    missing = sorted(found.get("missing_keys", ()))
    shapes = [
        f"{name} is {list(held)}, the model has {list(wanted)}"
        for name, held, wanted in sorted(found.get("mismatched_keys", ()))
    ]
    kinds = [f"missing {several(missing)}"] if missing else []
    kinds += [f"of another shape: {several(shapes)}"] if shapes else []
    kinds += [one_line(error, 300) for error in found.get("error_msgs", ())]
    if not kinds:
        return
    saved = [name for name in config.get("architectures") or () if name != _named(made)]
    hint = "give the class the arguments it was saved with, by kwargs in [models.NAME]"
    under = _prefix(missing, found.get("unexpected_keys", ()))
    if under and not shapes:
        hint = (
            f"the folder has these under {under!r}, as a part of {saved[0] if saved else 'it'}: in "
            "place of pretrained, write a factory of your own that makes the part of its config, "
            f'checkpoint = "{folder.name}" (the folder) and prefix = "{under}"'
        )
    elif saved and not shapes:
        hint = (
            f"the folder was saved from {saved[0]}: leave out factory, or save the {_named(made)} "
            "that was trained"
        )
    elif missing and not shapes:
        hint = (
            "leave out the part they are of, by kwargs in [models.NAME] "
            "(such as kwargs.add_pooling_layer = false), or save the model that was trained"
        )
    raise CheckpointError(
        f"{folder}: does not fit {_named(made)}: {'; '.join(kinds)}. from_pretrained would fill "
        f"them with random numbers: {hint}"
    )


def _prefix(missing: Sequence[str], unused: Collection[str]) -> str:
    """Under what the folder has all that is missing; empty where it does not."""
    for first in missing[:1]:
        starts = {name.removesuffix(first) for name in unused if name.endswith(f".{first}")}
        found = [start for start in starts if all(start + name in unused for name in missing)]
        return found[0] if len(found) == 1 else ""
    return ""


def _told(
    folder: Path, made: Any, config: Mapping[str, Any], found: Mapping[str, Any] | None
) -> list[str]:
    """What is no error: weights that are not used."""
    if found is None:
        return [
            f"{_named(made)}.from_pretrained is not that of transformers, and does not say whether "
            f"it found all weights in {folder}"
        ]
    unused = sorted(found.get("unexpected_keys", ()))
    if not unused:
        return []
    saved = [name for name in config.get("architectures") or () if name != _named(made)]
    hint = f"; it was saved from {saved[0]}" if saved else ""
    return [f"{folder}: {_named(made)} does not use {several(unused)}{hint}"]


def _told_dtype(
    module: torch.nn.Module, weights: list[Path], config: Mapping[str, Any]
) -> list[str]:
    """That the model computes in another dtype than its weights are kept in."""
    used = {
        str(p.dtype).removeprefix("torch.") for p in module.parameters() if p.is_floating_point()
    }
    held = {str(config.get("dtype") or config.get("torch_dtype") or "float32")}
    if all(file.suffix == ".safetensors" for file in weights):
        held = set().union(*(dtypes_of(file) for file in weights))
    if held <= used or not used:
        return []
    return [
        f"{weights[0].parent}: its weights are kept in {several(sorted(held))}, the model was "
        f"loaded in {several(sorted(used))}; in [models.NAME], kwargs.dtype = "
        f'"{sorted(held)[0]}" loads it as they are'
    ]
