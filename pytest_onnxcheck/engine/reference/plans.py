"""Plans of nested arguments: which container holds what, down to tensors and constants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_onnxcheck.engine.reference import containers
from pytest_onnxcheck.engine.reference.imports import import_object
from pytest_onnxcheck.engine.reference.structures import is_cache
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.manifest.terms import PLAIN_CONTAINERS
from pytest_onnxcheck.wording import meant

__all__ = ["Planner", "Tree", "hint", "in_toml", "refused"]


class Tree(dict[str, Any]):
    """A structure: key -> a deeper one, or the plan of a tensor or constant."""


class Planner:
    """Makes plans (see `structures`) of the structures of a model's arguments.

    Attributes:
        classes: The classes that plans name.
        guessed: Paths whose container neither the manifest nor an annotation says -> container.
    """

    def __init__(self, model: Model) -> None:
        """Begins with no structure.

        Args:
            model: Says what holds what.
        """
        self.classes: dict[str, Any] = {}
        self.guessed: dict[str, str] = {}
        self._model = model
        self._held: list[str] = []

    def constant(self, path: str, value: Any) -> Any:
        """A constant as a plan, or as a structure where the manifest names its container."""
        if path not in self._model.containers or not isinstance(value, list | dict):
            return {"value": value}
        entries = value if isinstance(value, dict) else dict(enumerate(value))
        return Tree({str(k): self.constant(f"{path}.{k}", entry) for k, entry in entries.items()})

    def plan(self, tree: Any, path: str, annotation: Any, *, in_cache: bool = False) -> Any:
        """The plan of a structure, with the container of each of its levels."""
        if not isinstance(tree, Tree):
            return tree
        keys = list(tree)
        if all(key.isdigit() for key in keys):
            keys.sort(key=int)
        written = self._model.containers.get(path)
        kind: Any = written
        if written is not None and written not in PLAIN_CONTAINERS:
            kind = import_object(written, self._model.root)
        if kind is None:
            kind = containers.by_annotation(annotation, keys)
        if in_cache:
            kind = "dict"
        if kind is None:
            kind = self.guessed[path] = containers.by_keys(keys)
        self._held.append(path)
        self.check_kind(kind, keys, path)
        entries = {
            key: self.plan(
                tree[key],
                f"{path}.{key}",
                containers.inner(annotation, kind, key),
                in_cache=in_cache or is_cache(kind),
            )
            for key in keys
        }
        if is_cache(kind):
            self._check_layers(path, entries)
        if kind not in PLAIN_CONTAINERS:
            name = written or containers.named(kind, self._model.root)
            self.classes[name] = kind
            kind = name
        return {"container": kind, "entries": entries}

    def check_kind(self, kind: Any, keys: list[str], path: str) -> None:
        """Refuses keys that a container does not take."""
        wrong = containers.misfit(kind, keys)
        if wrong:
            raise refused(
                self._model,
                f"{path!r}: {wrong}; another container is named by containers.{in_toml(path)} = "
                '"list", "tuple", "dict" or "module:class"',
            )

    def _check_layers(self, path: str, layers: Mapping[str, Any]) -> None:
        """Refuses layers of a cache that lack key or value, or have something else."""
        for index, layer in layers.items():
            parts = layer.get("entries", {})
            both = bool(parts.keys() & {"decoder", "encoder"})
            for half in parts.values() if both else [layer]:
                wrong = containers.layer_misfit(half.get("entries", {}))
                if wrong:
                    raise refused(self._model, f"'{path}.{index}': {wrong}")

    def check_containers(self) -> None:
        """Refuses containers that nothing lies in."""
        for path in self._model.containers:
            if path not in self._held:
                raise refused(
                    self._model,
                    f"containers: no input or argument lies in {path!r}{hint(path, self._held)}; "
                    f"one that does is called '{path}.0' or has path = \"{path}.0\"",
                )


def refused(model: Model, text: str) -> CheckpointError:
    """The error about a model's inputs."""
    return CheckpointError(f"{model.name}: {text}")


def hint(name: str, known: Iterable[str], *, listed: bool = True) -> str:
    """Which of the known names may be meant, or else what they are."""
    known = list(known)
    every = f" (there are: {', '.join(known) or 'none'})" if listed else ""
    return meant(name, known) or every


def in_toml(path: str) -> str:
    """A path as a key in TOML."""
    return f'"{path}"' if "." in path else path
