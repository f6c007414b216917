"""Reads a manifest: every problem at once, each with file, line and the closest match."""

from __future__ import annotations

import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pytest_onnxcheck.errors import ManifestError
from pytest_onnxcheck.manifest import rules
from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.checkpoints import checkpoints
from pytest_onnxcheck.manifest.depends import fault_of
from pytest_onnxcheck.manifest.model import Model
from pytest_onnxcheck.manifest.positions import KeyPath, key_lines
from pytest_onnxcheck.manifest.resolve import resolve
from pytest_onnxcheck.manifest.targets import (
    BUILTIN_TARGETS,
    Target,
    deploy_targets,
    resolve_targets,
)
from pytest_onnxcheck.manifest.terms import NAME
from pytest_onnxcheck.wording import meant

__all__ = ["Manifest", "Problem", "carries_schema", "load_manifest", "parse_manifest"]

_S = TypeVar("_S", bound=s.Section)

_SCHEMA_KEY = re.compile(r"^\s*schema\s*=", re.MULTILINE)


@dataclass(frozen=True)
class Problem:
    """One mistake in the manifest.

    Attributes:
        line: Where it is.
        text: What is said of it; complete.
        model: The table of models it is in, if any.
        path: The key that is wrong; empty where none is known.
    """

    line: int
    text: str
    model: str | None = None
    path: KeyPath = ()


@dataclass(frozen=True)
class Manifest:
    """A manifest: the models that are right, and what is wrong with the others.

    Attributes:
        path: The file.
        seed: Seed of every random draw.
        models: The valid models by name, in the file's order.
        problems: Every mistake, in the file's order.
        lines: Where each model's table starts, the wrong ones included.
    """

    path: Path
    seed: int
    models: dict[str, Model]
    problems: tuple[Problem, ...]
    lines: dict[str, int]

    def check(self) -> None:
        """Raises a ManifestError that lists every problem, if there is one."""
        if self.problems:
            raise ManifestError("\n".join(problem.text for problem in self.problems))


def carries_schema(path: Path) -> bool:
    """Whether a TOML file looks like one of ours: `schema` and `models` at the top level."""
    try:
        text = path.read_text(encoding="utf-8")
        if not _SCHEMA_KEY.search(text):
            return False
        document = tomllib.loads(text)
    except (OSError, ValueError):
        return False
    return "schema" in document and "models" in document


def load_manifest(
    path: Path,
    *,
    shown: str | None = None,
    targets: Mapping[str, Mapping[str, object]] | None = None,
) -> Manifest:
    """Reads and validates a manifest.

    Args:
        path: The TOML file.
        shown: How messages name it; default: its file name.
        targets: More targets, as `pytest_onnxcheck_targets` gives them; tables of the manifest
            add to them.

    Returns:
        The valid models and the problems of the others: one bad model leaves the rest usable.

    Raises:
        ManifestError: The file as a whole cannot be used (unreadable, not TOML, no models), or
            `targets` are wrong.
    """
    shown = shown or path.name
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ManifestError(
            f"{shown}: there is no such manifest: name another, or let `onnxcheck init` draft one"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{shown}: cannot be read: {error}") from error
    return parse_manifest(text, path, shown=shown, targets=targets)


def parse_manifest(
    text: str,
    path: Path,
    *,
    shown: str | None = None,
    targets: Mapping[str, Mapping[str, object]] | None = None,
) -> Manifest:
    """Validates the text of a manifest as if it stood in a file, whose folder is its root.

    The arguments are those of `load_manifest`, and so is what it returns and raises.
    """
    shown = shown or path.name
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise ManifestError(f"{shown}:{line.group(1) if line else 1}: not TOML: {error}") from error
    return _Loader(path, shown, document, key_lines(text), _given(targets or {})).load()


def _given(tables: Mapping[str, Mapping[str, object]]) -> dict[str, s.TargetOptions]:
    """The targets a hook gives, validated."""
    hook, given, wrong = "pytest_onnxcheck_targets", {}, []
    for name, table in tables.items():
        try:
            given[name] = s.TargetOptions.model_validate(table)
        except ValidationError as error:
            texts = [_explain(s.TargetOptions, table, detail)[1] for detail in _most_telling(error)]
            wrong += [f"{hook}: target {name!r}: {text}" for text in texts]
    wrong += [f"{hook}: target {path[1]!r}: {text}" for path, text in rules.check_targets(given)]
    if wrong:
        raise ManifestError("\n".join(wrong))
    return given


class _Loader:
    def __init__(
        self,
        path: Path,
        shown: str,
        document: dict[str, Any],
        lines: dict[KeyPath, int],
        given: dict[str, s.TargetOptions],
    ) -> None:
        self.path = path
        self.shown = shown
        self.document = document
        self.lines = lines
        self.problems: list[Problem] = []
        self.tables: dict[str, str] = {}  # model -> the table it comes from
        self.given = given
        self.targets: Mapping[str, Target] = BUILTIN_TARGETS

    def load(self) -> Manifest:
        tables = self.document.get("models")
        if not isinstance(tables, dict) or not tables:
            raise ManifestError(
                f"{self.shown}:{self.line(('models',))}: no models: "
                "add a table [models.NAME] with a factory, inputs and outputs"
            )
        header = {key: value for key, value in self.document.items() if key != "models"}
        file = self.validate(s.ManifestFile, {**header, "models": {}}, ())
        if file is not None and self.note(rules.check_defaults(file.defaults), ("defaults",)):
            file = None
        if file is not None and self.depends(file.defaults, ("defaults",)):
            file = None
        sections = {name: self.section(name, table) for name, table in tables.items()}
        if file is not None:
            root = self.path.parent
            targets = resolve_targets(root, self.given, file.targets)
            deployed = [each.deploy for each in sections.values() if each and each.deploy]
            self.targets = {**targets, **deploy_targets(deployed, targets, root)}
            self.note(rules.check_targets(file.targets, self.given), ())
            self.note(rules.check_target_names(file.defaults, self.targets), ("defaults",))
        models: dict[str, Model] = {}
        for name, section in sections.items():
            for model in self.models(name, section, file):
                if model.name in models:
                    self.problem(("models", name), self.called_twice(models[model.name], model))
                else:
                    models[model.name] = model
                    self.tables[model.name] = name
        if file is not None and not self.problems:
            found = rules.check_default_globs(file.defaults, models.values())
            self.note(found, ("defaults",))
        bad = {problem.model for problem in self.problems}
        self.problems.sort(key=lambda problem: problem.line)
        return Manifest(
            path=self.path,
            seed=file.seed if file else 0,
            models={name: model for name, model in models.items() if self.tables[name] not in bad},
            problems=tuple(self.problems),
            lines={name: self.line(("models", name)) for name in tables},
        )

    def called_twice(self, first: Model, second: Model) -> str:
        """Two models of one name: of two tables, or two matches of a glob."""
        files = [m.checkpoint for m in (first, second) if m.checkpoint is not None]
        if first.section != second.section or len(files) < 2:
            return f"another model is already called {first.name!r}"
        one, other = (os.path.relpath(file, self.path.parent) for file in files)
        return (
            f"{one!r} and {other!r} would both be called {first.name!r}, since a name holds no "
            "other characters: rename one, or let the glob match one of them"
        )

    def section(self, name: str, table: object) -> s.ModelSection | None:
        """A model's table; None where it is wrong by itself."""
        where: KeyPath = ("models", name)
        if not NAME.fullmatch(name):
            self.problem(where, rules.BAD_MODEL_NAME.format(name=name))
            return None
        return self.validate(s.ModelSection, table, where)

    def models(
        self, name: str, section: s.ModelSection | None, file: s.ManifestFile | None
    ) -> Iterator[Model]:
        """The models of one table; none where it, or what it inherits, is wrong."""
        if section is None:
            return
        where: KeyPath = ("models", name)
        defaults = None if file is None else file.defaults
        if self.note(rules.check_model(section, defaults), where) or file is None:
            return
        if self.note(rules.check_target_names(section, self.targets), where):
            return
        if self.depends(section, where):
            return
        files = checkpoints(section, name, self.path.parent)
        if not files:
            self.problem(
                (*where, "checkpoint"),
                f"no file matches checkpoint {section.checkpoint!r} in {self.path.parent}",
            )
        resolved = [
            resolve(
                model_name,
                section,
                checkpoint,
                file.defaults,
                table=name,
                root=self.path.parent,
                line=self.line(where),
                seed=file.seed,
                targets=self.targets,
            )
            for model_name, checkpoint in files
        ]
        for model in resolved[:1]:  # they differ in their names and checkpoints only
            self.note(rules.check_resolved(section, model), where)
        yield from resolved

    def validate(self, kind: type[_S], value: object, where: KeyPath) -> _S | None:
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            found: dict[KeyPath, list[str]] = {}
            for detail in _most_telling(error):
                path, text = _explain(kind, value, detail)
                found.setdefault((*where, *path), []).append(text)
            for path, texts in found.items():
                # a value that fits no member of a union is reported once for each
                missing = all(text.startswith("missing") for text in texts)
                self.problem(path, ("; " if missing else "; or ").join(texts))
            return None

    def depends(self, section: s.Defaults, where: KeyPath) -> bool:
        """Records which patterns of `depends` match no file; True when there was one."""
        faults = [fault_of(pattern, self.path.parent) for pattern in section.depends or ()]
        return self.note(((("depends",), fault) for fault in faults if fault), where)

    def note(self, found: Iterable[tuple[KeyPath, str]], where: KeyPath) -> bool:
        """Records what the rules found; True when there was something."""
        count = len(self.problems)
        for path, text in found:
            self.problem((*where, *path), text)
        return len(self.problems) > count

    def problem(self, path: KeyPath, text: str) -> None:
        line = self.line(path)
        # the table the key stands in; for a table as a whole, the table itself
        table = path[:-1] if text.startswith("unknown key") else path
        while table and not _is_table(self.document, table):
            table = table[:-1]
        section = ".".join(_quoted(part) for part in table if isinstance(part, str))
        place = f"[{section}] " if section else ""
        model = str(path[1]) if len(path) > 1 and path[0] == "models" else None
        self.problems.append(Problem(line, f"{self.shown}:{line}: {place}{text}", model, path))

    def line(self, path: KeyPath) -> int:
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def _is_table(document: Any, path: KeyPath) -> bool:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return False
    return isinstance(document, dict)


def _most_telling(error: ValidationError) -> Iterator[Any]:
    """The errors without those that only follow from another: an array is short of wrong items."""
    details = error.errors(include_url=False)
    for detail in details:
        deeper = any(
            other["loc"] != detail["loc"] and other["loc"][: len(detail["loc"])] == detail["loc"]
            for other in details
        )
        if not (detail["type"] == "too_short" and deeper):
            yield detail


def _explain(kind: type[BaseModel], value: object, detail: Any) -> tuple[KeyPath, str]:
    """One pydantic error as the path of the offending key and a sentence about it."""
    path = _path_in(value, detail["loc"])
    given, context = detail["input"], detail.get("ctx", {})
    key = str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] == "extra_forbidden":
        section = _section_at(kind, path[:-1])
        valid = sorted(field.alias or name for name, field in section.model_fields.items())
        return path, f"unknown key {key!r}{_suggest(key, valid)}"
    if detail["type"] == "missing":
        return path, f"missing key {key!r}"
    if detail["type"] == "literal_error":
        valid = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
        close = _suggest(str(given), valid, only_close=True)
        return path, f"{_named(path)}{given!r} is not one of {', '.join(valid)}{close}"
    message = _SENTENCES.get(detail["type"], detail["msg"])
    message = message.format(**context) if detail["type"] in _SENTENCES else message
    message = message[:1].lower() + message[1:]
    got = "" if "got " in message else f", got {given!r}"
    if detail["type"] == "tuple_type" and path[:1] == ("dims",):
        got += ": write the sizes, [1, 8], or a range, { from = 1, to = 8 }"
    return path, f"{_named(path)}{message}{got}"


#: pydantic's sentences that speak of Python, in the words of TOML
_SENTENCES = {
    "dict_type": "input should be a valid table",
    "model_attributes_type": "input should be a valid table",
    "model_type": "input should be a valid table",
    "string_too_short": "input should have at least {min_length} character",
    "too_short": "input should have at least {min_length} item",
    "tuple_type": "input should be a valid array",
}


def _path_in(value: object, loc: tuple[str | int, ...]) -> KeyPath:
    """The part of a location that is in the document: pydantic adds names of union members."""
    path: list[str | int] = []
    for part in loc:
        keys: Any = value if isinstance(value, dict) else ()
        keys = range(len(value)) if isinstance(value, list) else keys
        if part in keys:
            path.append(part)
            value = value[part]  # type: ignore[index]
    return tuple(path)


def _named(path: KeyPath) -> str:
    names = [part for part in path if isinstance(part, str)]
    return f"{names[-1]}: " if names else ""


def _quoted(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"'


def _suggest(key: str, valid: list[str], *, only_close: bool = False) -> str:
    every = "" if only_close else f" (valid keys: {', '.join(valid)})"
    return meant(key, valid) or every


def _section_at(kind: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """The section class found by walking down the keys of `path` from `kind`."""
    current: Any = kind
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = {field.alias or name: field for name, field in current.model_fields.items()}
            current = _unwrap(fields[str(part)].annotation)
        else:
            current = _unwrap(get_args(current)[-1 if get_origin(current) is dict else 0])
    return typing.cast("type[BaseModel]", current)


def _unwrap(annotation: Any) -> Any:
    """Drops `Annotated` and `| None` around the type of a section or of a container of them."""
    while True:
        if get_origin(annotation) is typing.Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (typing.Union, types.UnionType):
            annotation = next(a for a in get_args(annotation) if a is not type(None))
        else:
            return annotation
