"""README and docs say what is true: blocks parse, printed parts are what is printed today."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import get_args

import pytest

from pytest_onnxcheck import cli
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.terms import Precision

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL):
            found.append((page.name, block))
    return found


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_every_manifest_shown_is_valid(tmp_path: Path, page: str, text: str):
    if "[models." not in text:
        text += '[models.m]\nfactory = "a:b"\ninputs.x.shape = [1]\noutputs.y.shape = [1]\n'
    (tmp_path / "models.toml").write_text(text)
    load_manifest(tmp_path / "models.toml").check()


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_every_python_block_parses(page: str, text: str):
    ast.parse(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_into_the_repository_leads_somewhere(page: Path):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readmes_manifest_has_ten_lines():
    text = next(text for page, text in blocks("toml") if page == "README.md")
    assert len([line for line in text.splitlines() if line]) <= 10


def test_the_reference_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["schema", "--markdown"]) == 0
    assert (ROOT / "docs" / "manifest.md").read_text().endswith(capsys.readouterr().out)


def test_every_option_is_in_the_readme():
    settings = (ROOT / "pytest_onnxcheck" / "plugin" / "settings.py").read_text()
    readme = (ROOT / "README.md").read_text()
    options = set(re.findall(r'"(--onnxcheck[a-z-]*)"', settings))
    assert len(options) > 10
    assert {option for option in options if f"`{option}" not in readme} == set()


def test_the_built_in_tolerances_are_the_ones_in_the_guide():
    from pytest_onnxcheck.manifest.sections import BUILTIN_TOLERANCE, METRICS, Bounds

    guide = (ROOT / "docs" / "equivalence.md").read_text()
    for precision, tolerance in BUILTIN_TOLERANCE.items():
        row = next(
            line for line in guide.splitlines() if line.startswith("| ") and precision in line
        )
        for metric in METRICS:
            bounds = getattr(tolerance, metric)
            if isinstance(bounds, Bounds):
                numbers = re.search(rf"{metric} (\S+) / ([^\s,]+)", row)
                assert numbers is not None, (precision, metric)
                assert (float(numbers[1]), float(numbers[2])) == (bounds.passes, bounds.fails)


def test_the_built_in_options_are_the_ones_in_the_guide():
    from pytest_onnxcheck.manifest.sections import BUILTIN_QUANTIZATION, Quantization

    guide = (ROOT / "docs" / "precisions.md").read_text()
    table = guide.split("<!-- options: begin -->\n")[1].split("<!-- options: end -->")[0]
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
    )
    assert [row[0] for row in rows] == list(Quantization.model_fields)
    for precision, builtin in BUILTIN_QUANTIZATION.items():
        options = builtin.written()
        shown = {row[0]: row[head.index(precision)] for row in rows} if options else {}
        assert {option: value for option, value in shown.items() if value} == {
            option: "auto" if value is None else json.dumps(value)
            for option, value in options.items()
        }


def test_every_precision_is_explained_in_the_guide():
    table = (ROOT / "docs" / "precisions.md").read_text().split("```toml")[0]
    _, _, *explained = re.findall(r"^\| (\S+) \|", table, re.MULTILINE)
    assert explained == [precision for precision in get_args(Precision) if precision != "fp32"]


def test_the_readmes_table_names_every_variant_of_the_zoo():
    readme = (ROOT / "README.md").read_text()
    table = readme.split("<!-- table: begin -->")[1].split("<!-- table: end -->")[0]
    shown = re.findall(r"^\| (\S+) \| (\S+-\S+) \| (?:pass|warn)", table, re.MULTILINE)
    manifest = load_manifest(ROOT / "models.toml")
    assert shown == [
        (model.name, variant.name)
        for model in manifest.models.values()
        for variant in model.variants
    ]


def test_the_map_names_modules_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    engine = ROOT / "pytest_onnxcheck" / "engine"
    rooms = {path.name for path in engine.iterdir() if path.is_dir()} - {"__pycache__"}
    named = re.findall(rf"`((?:{'|'.join(rooms)})/\w+)`", text)
    assert len(named) > 40
    assert [name for name in named if not (engine / f"{name}.py").is_file()] == []
    table = text.partition("| room | what for |")[2].partition("\n\n")[0]
    assert rooms == set(re.findall(r"^\| `(\w+)/`", table, flags=re.MULTILINE))
