"""The PyTorch reference of a model: factory, checkpoint, and how it is called."""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.checkpoint import Checkpoint, load_checkpoint, load_state
from pytest_onnxcheck.errors import CheckpointError, InputError
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.places import is_ours

if TYPE_CHECKING:
    import numpy as np
    import torch

    Arrays = Mapping[str, np.ndarray[Any, Any]]

#: attributes of a module that decide what it computes and stand in no repr
_PLAIN = (bool, int, float, str, tuple)

__all__ = [
    "Reference",
    "arrays_of",
    "flatten",
    "import_named",
    "import_object",
    "load_reference",
    "output_paths",
    "tensors_of",
    "user_frames",
]


@dataclass
class Reference:
    """The PyTorch model that an artefact must agree with.

    Attributes:
        model: The manifest's model.
        module: The module in eval mode. Never run it directly: runs may change its state.
        shapes: Input name -> shape, with symbolic dims as strings.
        config: The checkpoint's own config, if the manifest names one.
        notes: What the user should be told although it is no failure.
        checkpoint_sha256: Hash of the checkpoint file, if there is one.
    """

    model: Model
    module: torch.nn.Module
    shapes: dict[str, tuple[int | str, ...]]
    config: Any = None
    notes: tuple[str, ...] = ()
    checkpoint_sha256: str | None = None

    def call(
        self, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Calls a module with inputs by name and flattens what it returns."""
        args, kwargs = self.arguments(inputs)
        return flatten(module(*args, **kwargs))

    def arguments(self, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of `forward`: by position, or by name where `forward` has all the names."""
        if self.by_keyword:
            return (), dict(inputs)
        return tuple(inputs.values()), {}

    @cached_property
    def by_keyword(self) -> bool:
        """Whether inputs are passed by name: `forward` has them all, but not in this order."""
        try:
            parameters = inspect.signature(self.module.forward).parameters
        except (TypeError, ValueError):
            return False
        names = list(self.model.inputs)
        positional = [
            name
            for name, parameter in parameters.items()
            if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        return positional[: len(names)] != names and set(names) <= set(parameters)

    def run(
        self,
        inputs: Arrays | Mapping[str, torch.Tensor],
        module: torch.nn.Module | None = None,
    ) -> list[np.ndarray[Any, Any]]:
        """Runs the reference.

        Args:
            inputs: Arrays by input name, which are copied, or tensors, which are used.
            module: The copy of the module to run; by default a fresh one.

        Returns:
            The flattened outputs as arrays, in order.

        Raises:
            InputError: The model does not take these inputs, or returns other outputs than
                declared.
        """
        import torch

        module = copy.deepcopy(self.module) if module is None else module
        tensors = {
            name: value if isinstance(value, torch.Tensor) else torch.tensor(value)
            for name, value in inputs.items()
        }
        try:
            # not inference mode: it hides in-place changes and keeps composite operators whole
            with torch.no_grad():
                args, kwargs = self.arguments(tensors)
                returned = module(*args, **kwargs)
                outputs = flatten(returned)
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            raise InputError(
                f"{self.model.name}: PyTorch itself does not run on {shapes}: "
                f"{type(error).__name__}: {error}\n{user_frames(error)}"
            ) from error
        self._check_outputs(output_paths(returned))
        return arrays_of(outputs)

    def _check_outputs(self, paths: list[str]) -> None:
        declared = list(self.model.outputs)
        if len(paths) != len(declared):
            raise InputError(
                f"{self.model.name}: PyTorch returns {len(paths)} tensors ({', '.join(paths)}), "
                f"the manifest declares {len(declared)} outputs: {', '.join(declared)}"
            )
        if paths != declared and sorted(paths) == sorted(declared):
            raise InputError(
                f"{self.model.name}: forward returns {', '.join(paths)} in this order, the "
                f"manifest declares {', '.join(declared)}: outputs are matched by position, so "
                "these would be swapped; declare them in forward's order"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides what is exported: weights, structure and code."""
        digest = hashlib.sha256()
        for name, tensor in sorted(_tensors(self.module).items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
        digest.update(repr(self.module).encode())
        for child in self.module.modules():
            plain = {k: v for k, v in vars(child).items() if isinstance(v, _PLAIN)}
            digest.update(repr(sorted(plain.items())).encode())
        digest.update(repr((self.model.factory, sorted(self.model.kwargs.items()))).encode())
        digest.update(repr((self.config, self.checkpoint_sha256)).encode())
        for path in sorted(_sources(self.module, self.model.factory)):
            digest.update(path.read_bytes())
        return digest.hexdigest()


def load_reference(model: Model) -> Reference:
    """Builds the reference of a model: factory, then checkpoint, then eval mode.

    Raises:
        CheckpointError: Something is missing or does not fit; the text says what.
    """
    import torch

    checkpoint = load_checkpoint(model.checkpoint, trust=model.trust) if model.checkpoint else None
    config = checkpoint.at(model.config_key) if checkpoint and model.config_key else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(model))
        module = _build(model, checkpoint, config)
    notes = []
    if any(child.training for child in module.modules()):
        notes.append(
            f"{model.factory or model.checkpoint} gives the model in train mode; it was put into "
            "eval mode here, and whatever exports it for release must do so too (model.eval())"
        )
        _put_into_eval_mode(module)
    return Reference(
        model=model,
        module=module,
        shapes=_shapes(model, config),
        config=config,
        notes=tuple(notes),
        checkpoint_sha256=file_sha256(model.checkpoint) if model.checkpoint else None,
    )


def import_object(path: str, root: Path) -> Callable[..., Any]:
    """The callable behind `module:name` or `path.py:name`, as `import_named` finds it.

    Raises:
        CheckpointError: There is no such module or name, or it is not callable.
    """
    target = import_named(path, root)
    if not callable(target):
        raise CheckpointError(f"{path!r} is a {type(target).__name__}, not a callable")
    return target  # type: ignore[no-any-return]


def import_named(path: str, root: Path) -> Any:
    """What stands behind `module:name` or `path.py:name`; modules are also looked for in `root`.

    Raises:
        CheckpointError: There is no such module or name, or importing it failed.
    """
    location, _, name = path.rpartition(":")
    try:
        module = (
            _import_file(root / location) if location.endswith(".py") else _import(location, root)
        )
    except Exception as error:
        raise CheckpointError(
            f"{path!r} cannot be imported (looked in {root} and sys.path): "
            f"{type(error).__name__}: {error}"
        ) from error
    target: Any = module
    for part in name.split("."):
        if not hasattr(target, part):
            callables = [key for key, value in vars(module).items() if callable(value)]
            raise CheckpointError(f"{path!r}: {location} has no {name!r}; it has {callables}")
        target = getattr(target, part)
    return target


def flatten(value: Any) -> tuple[torch.Tensor, ...]:
    """The tensors of a nested tuple, list, dict or dataclass, in order; None is left out.

    Raises:
        InputError: Something else is in it.
    """
    import torch

    return tuple(
        entry if isinstance(entry, torch.Tensor) else torch.tensor(entry)
        for _, entry in _leaves(value, "")
    )


def tensors_of(arrays: Arrays) -> dict[str, torch.Tensor]:
    """Copies of arrays as tensors, by name."""
    import torch

    return {name: torch.tensor(array) for name, array in arrays.items()}


def arrays_of(outputs: Iterable[torch.Tensor]) -> list[np.ndarray[Any, Any]]:
    """Tensors as arrays; bfloat16, which numpy lacks, as float32."""
    import torch

    floats = [o.float() if o.dtype is torch.bfloat16 else o for o in outputs]
    return [output.detach().cpu().numpy() for output in floats]


def output_paths(value: Any) -> list[str]:
    """Where the tensors of `flatten` stand in what `forward` returned, e.g. `hidden.0`."""
    return [path or "0" for path, _ in _leaves(value, "")]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    import torch

    def inside(key: object) -> str:
        return f"{path}.{key}" if path else str(key)

    if value is None:
        return
    if isinstance(value, torch.Tensor | bool | int | float):
        yield path, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(entry, inside(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        names = getattr(value, "_fields", range(len(value)))
        for key, entry in zip(names, value, strict=True):
            yield from _leaves(entry, inside(key))
    elif hasattr(value, "__dataclass_fields__"):
        for key in value.__dataclass_fields__:
            yield from _leaves(getattr(value, key), inside(key))
    else:
        raise InputError(f"forward returned a {type(value).__name__}, which holds no tensors")


def user_frames(error: BaseException) -> str:
    """Where in the user's code an error was raised: `file:line in function`, innermost last."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and not is_ours(frame.filename)
    ]
    return "\n".join(f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)


def _build(model: Model, checkpoint: Checkpoint | None, config: Any) -> torch.nn.Module:
    import torch

    if model.factory is None:
        if checkpoint is None or checkpoint.module is None:
            raise CheckpointError(
                f"{model.checkpoint}: holds weights but no model: set factory = 'module:callable'"
            )
        return checkpoint.module
    arguments = dict(model.kwargs)
    if model.config_key is not None:
        arguments["config"] = config
    factory = import_object(model.factory, model.root)
    try:
        module = factory(**arguments)
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise CheckpointError(
            f"{model.factory}({given}) failed: {type(error).__name__}: {error}\n"
            f"{user_frames(error)}"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise CheckpointError(
            f"{model.factory} returned a {type(module).__name__}, not a torch.nn.Module"
        )
    if checkpoint is not None:
        if checkpoint.module is not None:
            raise CheckpointError(
                f"{checkpoint.path}: holds a whole model; drop factory = {model.factory!r}"
            )
        load_state(module, checkpoint.state_dict(model.state_dict), checkpoint.path)
    return module


def _put_into_eval_mode(module: torch.nn.Module) -> None:
    try:
        module.eval()
    except NotImplementedError:  # torch.export programs are fixed in the mode they were made in
        for child in module.modules():
            child.training = False


def _shapes(model: Model, config: Any) -> dict[str, tuple[int | str, ...]]:
    computed: Mapping[str, Sequence[int | str]] = {}
    if model.shapes is not None:
        function = import_object(model.shapes, model.root)
        try:
            computed = function(config)
        except Exception as error:
            raise CheckpointError(
                f"{model.shapes}(config) failed: {type(error).__name__}: {error}"
            ) from error
    shapes: dict[str, tuple[int | str, ...]] = {}
    for name, entry in model.inputs.items():
        shape = entry.shape if entry.shape is not None else computed.get(name)
        if shape is None:
            raise CheckpointError(
                f"{model.shapes} gives no shape for input {name!r}; it gives {list(computed)}"
            )
        unknown = [dim for dim in shape if isinstance(dim, str) and dim not in model.dims]
        if unknown:
            raise CheckpointError(f"input {name!r}: symbolic dims {unknown} are not in dims")
        shapes[name] = tuple(shape)
    return shapes


def _import(name: str, root: Path) -> ModuleType:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module = importlib.import_module(name)
    here = [root.joinpath(*name.split(".")).with_suffix(".py")]
    here.append(root.joinpath(*name.split("."), "__init__.py"))
    loaded = Path(module.__file__).resolve() if module.__file__ else None
    for path in here:
        if path.is_file() and path.resolve() != loaded:
            raise ImportError(
                f"{path} is meant, but a module {name!r} was already imported from {loaded}: "
                "rename one of them, or run the two manifests in two runs of pytest"
            )
    return module


def _import_file(path: Path) -> ModuleType:
    name = f"_onnxcheck_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _seed(model: Model) -> int:
    digest = hashlib.sha256(f"{model.seed}/{model.name}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    # buffers that are not persistent are missing from the state_dict, yet exported
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _bytes(tensor: torch.Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _sources(module: torch.nn.Module, factory: str | None) -> set[Path]:
    """The user's source files that the module's code is in, followed through their imports."""
    pending = {type(child).__module__ for child in module.modules()}
    if factory is not None:
        pending.add(factory.partition(":")[0])
    seen: set[str] = set()
    sources: set[Path] = set()
    while pending:
        name = pending.pop()
        seen.add(name)
        found = sys.modules.get(name)
        file = getattr(found, "__file__", None)
        if found is None or file is None or not _is_users(file):
            continue
        sources.add(Path(file))
        for value in vars(found).values():
            origin = value.__name__ if isinstance(value, ModuleType) else _origin(value)
            if origin and origin not in seen:
                pending.add(origin)
    return sources


def _is_users(file: str) -> bool:
    library = ("site-packages", "dist-packages", sysconfig.get_path("stdlib"))
    return file.endswith(".py") and not any(part in file for part in library)


def _origin(value: object) -> str | None:
    origin = getattr(value, "__module__", None)
    return origin if isinstance(origin, str) else None
