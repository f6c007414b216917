"""How the manifest's inputs become the arguments of `forward`.

Each input has a path, by default its name: its head is a parameter of `forward`, and what follows
a dot lies deeper, in a list, tuple, dict, dataclass or cache. Where `forward` has all heads, they
are passed by position as far as they stand in its order, else by name. What it does not have goes
to its `**kwargs`, or by position.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.containers import by_annotation, hints_of
from pytest_onnxcheck.engine.reference.plans import Planner, Tree, hint, in_toml, refused
from pytest_onnxcheck.engine.reference.structures import build, is_cache
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.manifest import Model

if TYPE_CHECKING:
    import torch

__all__ = ["Signature", "constant", "signature_of"]

_Kind = inspect.Parameter
_POSITIONAL = (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)
_SEVERAL = (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD)
#: a name that goes to `**kwargs` and is this much like a parameter is a slip
_ALIKE = 0.85
#: of so many structures it is told what they were given as
_FEW = 2
#: annotations of what is no tensor, and what is written in TOML for one
_EXAMPLES = {bool: "true", int: "2", float: "0.5"}

Plan = Mapping[str, Any]


@dataclass(frozen=True)
class Signature:
    """How a module is called with the manifest's inputs.

    Attributes:
        args: Plans (see `structures`) of the arguments by position.
        kwargs: Plans of those by name.
        plain: Whether the inputs are the arguments, by position and in the manifest's order.
        named: How many of `args` are parameters that have a name; `*args` takes the others.
        parameters: Of `forward`, as far as Python knows them.
        scalars: Inputs whose parameter is annotated as a number or flag -> how.
        guessed: Paths whose container neither the manifest nor an annotation says -> container.
    """

    args: tuple[Plan, ...]
    kwargs: Mapping[str, Plan]
    plain: bool
    named: int
    parameters: Mapping[str, inspect.Parameter]
    scalars: Mapping[str, type]
    guessed: Mapping[str, str]
    _inputs: tuple[str, ...] = field(repr=False)
    _find: Callable[[str], Any] = field(repr=False)

    def bind(self, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for inputs by name, made anew."""
        if self.plain:  # while PyTorch is timed, all that is done here counts as its own
            return tuple(inputs[name] for name in self._inputs), {}
        return (
            tuple(build(plan, inputs, self._find) for plan in self.args),
            {name: build(plan, inputs, self._find) for name, plan in self.kwargs.items()},
        )

    def refused(self) -> str:
        """Why `forward` cannot be called like that, and what to write; empty where it can."""
        if not self.parameters:
            return ""
        try:
            parameters = list(self.parameters.values())
            inspect.Signature(parameters).bind(*self.args, **self.kwargs)
        except TypeError as error:
            called = [_shown(plan) for plan in self.args]
            called += [f"{name}={_shown(plan)}" for name, plan in self.kwargs.items()]
            text = f"forward({', '.join(map(str, parameters))}) is called as "
            text += f"forward({', '.join(called)}): {error}"
            for name in self._missing()[:1]:
                text += f"; give {name!r} as an input (inputs.{name}.shape = [...]) or as a "
                text += f"constant (arguments = {{ {name} = ... }})"
            return text
        return ""

    def notes(self) -> tuple[str, ...]:
        """What should be told of inputs that `forward` wants as numbers or flags."""
        return tuple(
            f"forward takes {name!r} as {kind.__name__}, and an input is a tensor; "
            f"{constant({name: kind})}"
            for name, kind in self.scalars.items()
        )

    def hint(self) -> str:
        """What to write where structures are other ones than their keys say; else empty."""
        outer = [path for path in self.guessed if path.rpartition(".")[0] not in self.guessed]
        return "".join(
            f"; {path!r} was given as a {self.guessed[path]}: another container is named by "
            f'containers.{in_toml(path)} = "tuple" or "module:class"'
            for path in outer[:_FEW]
        )

    def _taken(self) -> list[str]:
        """Parameters that may be given by position."""
        return [name for name, p in self.parameters.items() if p.kind in _POSITIONAL]

    def _missing(self) -> list[str]:
        """Parameters without a default that get nothing."""
        given = {*self._taken()[: len(self.args)], *self.kwargs}
        return [
            name
            for name, parameter in self.parameters.items()
            if parameter.default is _Kind.empty
            and parameter.kind not in _SEVERAL
            and name not in given
        ]


def constant(names: Mapping[str, type]) -> str:
    """What to write for numbers and flags that were declared as inputs."""
    entries = ", ".join(f"{name} = {_EXAMPLES[kind]}" for name, kind in names.items())
    return (
        "a number or flag that is not a tensor can be given as a constant, in place of the input: "
        f"arguments = {{ {entries} }}"
    )


def signature_of(model: Model, module: torch.nn.Module) -> Signature:
    """How a module is called with a model's inputs and constant arguments.

    Raises:
        CheckpointError: `forward` does not take them, or it cannot be told what is meant.
    """
    return _Binding(model, module).signature()


class _Binding:
    """Puts inputs and constants where `forward` takes them."""

    def __init__(self, model: Model, module: torch.nn.Module) -> None:
        """Reads the signature of `forward`."""
        self._model = model
        self._parameters = _parameters(module)
        self._annotations = hints_of(module.forward)
        kinds = {parameter.kind: name for name, parameter in self._parameters.items()}
        self._star, self._others = kinds.get(_Kind.VAR_POSITIONAL), kinds.get(_Kind.VAR_KEYWORD)
        self._paths = {name: self._path(entry.path or name) for name, entry in model.inputs.items()}
        self._heads = {name: path[0] for name, path in self._paths.items()}
        heads = {key.partition(".")[0] for key in model.arguments} - {*self._heads.values()}
        #: parameters that may be given by position and that no constant takes
        self._free = [name for name in self._names(*_POSITIONAL) if name not in heads]
        self._planner = Planner(model)

    def signature(self) -> Signature:
        """How `forward` is called."""
        trees, loose = self._trees()
        by_name = not loose and not self._ordered()
        listed: list[Any] = []
        if loose and self._takes_by_name(loose):
            by_name = True
            for name in loose:
                self._check_slip(name)
                self._put(trees, self._paths[name], {"input": name})
        elif loose:
            trees, listed = self._in_order(trees, loose)
        args, kwargs, named = self._emitted(trees, listed, by_name=by_name)
        self._planner.check_containers()
        return Signature(
            args=tuple(args),
            kwargs=kwargs,
            plain=not kwargs and args == [{"input": name} for name in self._model.inputs],
            named=named,
            parameters=self._parameters,
            scalars={
                name: self._annotations[path[0]]
                for name, path in self._paths.items()
                if len(path) == 1 and self._annotations.get(path[0]) in (bool, int, float)
            },
            guessed=self._planner.guessed,
            _inputs=tuple(self._model.inputs),
            _find=self._planner.classes.__getitem__,
        )

    def _names(self, *kinds: Any) -> list[str]:
        return [name for name, parameter in self._parameters.items() if parameter.kind in kinds]

    def _path(self, dotted: str) -> list[str]:
        """The parts of a path; `kwargs.scale` is `scale` where `forward` takes `**kwargs`."""
        path = dotted.split(".")
        return path[1:] if len(path) > 1 and path[0] == self._others else path

    def _trees(self) -> tuple[Tree, list[str]]:
        """What goes to parameters by their names, and the inputs that name none."""
        trees, loose = Tree(), []
        for name, entry in self._model.inputs.items():
            path = self._paths[name]
            explicit = entry.path is not None
            if self._is_place(path) or (explicit and self._others):
                self._put(trees, path, {"input": name})
            elif explicit:
                raise self._error(f"input {name!r}: path: {self._no(path[0])}")
            else:
                loose.append(name)
        for key, value in self._model.arguments.items():
            path = self._path(key)
            if not self._is_place(path) and not self._others:
                raise self._error(f"arguments: {self._no(path[0])}")
            self._put(trees, path, self._planner.constant(key, value))
        return trees, loose

    def _is_place(self, path: list[str]) -> bool:
        """Whether a path begins at a parameter, or is a place in `*args`."""
        parameter = self._parameters.get(path[0])
        if parameter is None or parameter.kind is _Kind.VAR_KEYWORD:
            return False
        starred = parameter.kind is _Kind.VAR_POSITIONAL
        return not starred or (len(path) > 1 and path[1].isdigit())

    def _put(self, trees: Tree, path: list[str], plan: Any) -> None:
        """Puts a plan at its path."""
        tree = trees
        for at, key in enumerate(path[:-1]):
            found = tree.setdefault(key, Tree())
            if not isinstance(found, Tree):
                whole = ".".join(path[: at + 1])
                raise self._error(f"{'.'.join(path)!r} is a part of {whole!r}, which is given too")
            tree = found
        if path[-1] in tree:
            raise self._error(f"{'.'.join(path)!r} is given twice, or as a whole and in parts")
        tree[path[-1]] = plan

    def _takes_by_name(self, loose: list[str]) -> bool:
        """Whether inputs that name no parameter go to `**kwargs`, and not by position."""
        if self._others is None:
            return False
        known = any(head in self._parameters for head in self._heads.values())
        return known or (self._star is None and len(loose) > len(self._free))

    def _ordered(self) -> bool:
        """Whether inputs stand in the order of forward's parameters, none of them left out."""
        positional = self._names(*_POSITIONAL)
        heads = [head for head in dict.fromkeys(self._heads.values()) if head in positional]
        return self._free[: len(heads)] == heads

    def _in_order(self, trees: Tree, loose: list[str]) -> tuple[Tree, list[Any]]:
        """Gives inputs that name no parameter the place they stand at.

        Returns:
            What goes to parameters, and what is left over, for `*args`.
        """
        by_name = Tree(
            {head: tree for head, tree in trees.items() if head not in self._heads.values()}
        )
        placed: dict[str, Any] = {}
        for name, head in self._heads.items():
            if name in loose:
                placed[name] = {"input": name}
            elif self._parameters[head].kind in _POSITIONAL:
                placed[head] = trees[head]
            else:
                by_name[head] = trees[head]
        listed = []
        for at, (name, tree) in enumerate(placed.items()):
            taken = self._free[at] if at < len(self._free) else None
            if name not in loose and name != taken:
                raise self._moved(
                    name, taken or (f"*{self._star}" if self._star else "one more"), loose
                )
            if taken is None:
                listed.append(tree)
            else:
                by_name[taken] = tree
        return by_name, listed

    def _emitted(
        self, trees: Tree, listed: list[Any], *, by_name: bool
    ) -> tuple[list[Any], dict[str, Any], int]:
        """Plans by position, plans by name, and how many of the first are of named parameters."""
        starred = trees.pop(self._star, None) if self._star else None
        if starred is not None:
            self._planner.check_kind("list", list(starred), self._star or "")
            listed = [starred[key] for key in sorted(starred, key=int)]
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        skipped: list[str] = []
        for name, parameter in self._parameters.items():
            if name not in trees:
                skipped += [name] if parameter.kind in _POSITIONAL else []
                continue
            plan = self._planner.plan(trees.pop(name), name, self._annotations.get(name))
            at_place = parameter.kind is _Kind.POSITIONAL_ONLY or not by_name or bool(listed)
            if at_place and not skipped and parameter.kind in _POSITIONAL:
                args.append(plan)
            else:
                kwargs[name] = plan
        if listed and skipped:
            raise self._error(f"*{self._star} is given, and {skipped[0]!r} before it is not")
        for name, tree in trees.items():
            kwargs[name] = self._planner.plan(tree, name, self._renamed(tree))
        element = self._annotations.get(self._star or "")
        rest = [
            self._planner.plan(tree, f"{self._star}.{at}", element)
            for at, tree in enumerate(listed)
        ]
        return [*args, *rest], kwargs, len(args)

    def _renamed(self, tree: Any) -> Any:
        """The annotation of the one cache that gets nothing: `**kwargs` takes its old name."""
        free = [p for p in self._parameters if p not in self._heads.values()]
        found = [
            hint
            for name in free
            if isinstance(tree, Tree)
            and (hint := self._annotations.get(name)) is not None
            and is_cache(by_annotation(hint, tree))
        ]
        return found[0] if len(found) == 1 else None

    def _check_slip(self, name: str) -> None:
        """Refuses a name in `**kwargs` that is nearly a parameter's."""
        head = self._heads[name]
        others = [p for p in self._parameters if p not in self._heads.values()]
        close = difflib.get_close_matches(head, others, 1, _ALIKE)
        if close:
            raise self._error(
                f"input {name!r} would be passed in **{self._others} (did you mean {close[0]!r}?); "
                f'if that is meant, give it path = "{name}"'
            )

    def _no(self, head: str) -> str:
        known = [name for name, p in self._parameters.items() if p.kind not in _SEVERAL]
        return f"forward has no parameter {head!r}{hint(head, known)}"

    def _moved(self, name: str, taken: str, loose: list[str]) -> CheckpointError:
        unused = [p for p in self._parameters if p not in self._heads.values()]
        return self._error(
            f"input {name!r} would be passed as {taken!r}: inputs are passed by position unless "
            f"forward has all their names, and it has no {loose[0]!r}"
            f"{hint(loose[0], unused, listed=False)}"
        )

    def _error(self, text: str) -> CheckpointError:
        return refused(self._model, text)


def _parameters(module: torch.nn.Module) -> Mapping[str, inspect.Parameter]:
    """The parameters of `forward`, as far as Python or TorchScript knows them."""
    forward: Any = module.forward
    try:
        schema = getattr(forward, "schema", None)
        if schema is None:
            return inspect.signature(forward).parameters
        return {
            argument.name: _Kind(
                argument.name,
                _Kind.KEYWORD_ONLY if argument.kwarg_only else _Kind.POSITIONAL_OR_KEYWORD,
                default=argument.default_value if argument.has_default_value() else _Kind.empty,
            )
            for argument in schema.arguments[1:]
        }
    except (TypeError, ValueError):
        return {}


def _shown(plan: Plan) -> str:
    """A plan in short: an input by its name, a constant by its value, a structure by its kind."""
    if "input" in plan:
        return str(plan["input"])
    return repr(plan["value"]) if "value" in plan else str(plan["container"]).rpartition(":")[2]
