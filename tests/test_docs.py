"""README and docs say what is true: blocks parse, printed parts are what is printed today."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
import yaml

from pytest_onnxcheck import cli
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.terms import Precision

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])

#: language of a block -> what a test does with it
KINDS = {
    "toml": "parsed",
    "python": "parsed",
    "yaml": "parsed",
    "sh": "parsed",
    "cpp": "compiled where there are headers",
    "html": "opened in Chromium by tox -e web",
    "text": "output",
}


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.M):
            found.append((page.name, block))
    return found


def options() -> set[str]:
    """The plugin's options."""
    settings = (ROOT / "pytest_onnxcheck" / "plugin" / "settings.py").read_text()
    return set(re.findall(r'"(--onnxcheck[a-z-]*)"', settings))


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_every_manifest_shown_is_valid(tmp_path: Path, page: str, text: str):
    if "[models." not in text:
        text += '[models.m]\nfactory = "a:b"\ninputs.x.shape = [1]\noutputs.y.shape = [1]\n'
    named = re.findall(r'^checkpoint = "(.*\*.*)"', text, re.MULTILINE)
    for listed in re.findall(r"^depends = \[(.*)\]", text, re.MULTILINE):
        named += re.findall('"([^"]+)"', listed)
    for pattern in named:
        matching = tmp_path / pattern.replace("*", "one")
        matching.parent.mkdir(parents=True, exist_ok=True)
        matching.touch()
    (tmp_path / "models.toml").write_text(text)
    load_manifest(tmp_path / "models.toml").check()


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_every_python_block_parses(page: str, text: str):
    ast.parse(text)


def test_every_yaml_block_parses():
    assert all(yaml.safe_load(text) for _, text in blocks("yaml"))


@pytest.mark.parametrize(("page", "text"), blocks("sh"))
def test_every_command_shown_is_shell_and_has_options_that_exist(page: str, text: str):
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert set(re.findall(r"--onnxcheck[a-z-]*", text)) <= options()


def test_every_block_is_of_a_kind_that_a_test_looks_at(capsys: pytest.CaptureFixture[str]):
    languages = Counter(
        language
        for page in PAGES
        for language in re.findall(r"^```([^\n]*)\n.*?^```", page.read_text(), re.DOTALL | re.M)
    )
    assert set(languages) <= set(KINDS)
    marks = Counter(
        kind for page in PAGES for kind in re.findall(r"^<!-- (\w+)", page.read_text(), re.M)
    )
    kinds = Counter()
    for language, count in languages.items():
        kinds[KINDS[language]] += count
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    with capsys.disabled():
        print(
            f"\n{languages.total()} blocks in {len(PAGES)} pages: {told}; of them "
            f"{marks['run']} run, {marks['file']} written as files, "
            f"{marks['output'] + marks['failure']} held to what is printed"
        )
    assert marks["run"] > 10


def test_every_heading_of_the_troubleshooting_is_in_the_code():
    text = (DOCS / "troubleshooting.md").read_text()
    said = re.findall(r"^### `(.*)`$", text, re.MULTILINE)
    package = ROOT / "pytest_onnxcheck"
    code = "\n".join(path.read_text() for path in sorted(package.rglob("*.py")))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a text that goes on in the next line
    assert len(said) >= 30
    assert [words for words in said if words not in code] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_into_the_repository_leads_somewhere(page: Path):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_navigation_of_the_site():
    site = tomllib.loads((ROOT / "zensical.toml").read_text())
    named = re.findall(r"'([\w/-]+\.md)'", str(site["project"]["nav"]))
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} <= set(named)
    assert len(named) == len(set(named))


def test_the_readme_is_one_screen():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 70


def test_the_readmes_manifest_has_ten_lines():
    text = next(text for page, text in blocks("toml") if page == "README.md")
    assert len([line for line in text.splitlines() if line]) <= 10


def test_the_reference_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["schema", "--markdown"]) == 0
    assert (DOCS / "manifest.md").read_text().endswith(capsys.readouterr().out)


def test_every_option_is_in_the_docs():
    running = (DOCS / "running.md").read_text()
    assert len(options()) > 10
    assert {option for option in options() if f"| `{option}" not in running} == set()


def test_the_built_in_tolerances_are_the_ones_in_the_guide():
    from pytest_onnxcheck.manifest.sections import BUILTIN_TOLERANCE, METRICS, Bounds

    guide = (DOCS / "tolerances.md").read_text()
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

    guide = (DOCS / "precisions.md").read_text()
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
    table = (DOCS / "precisions.md").read_text().split("```toml")[0]
    _, _, *explained = re.findall(r"^\| (\S+) \|", table, re.MULTILINE)
    assert explained == [precision for precision in get_args(Precision) if precision != "fp32"]


def test_the_table_of_the_zoo_names_every_variant():
    page = (DOCS / "zoo.md").read_text()
    table = page.split("<!-- table: begin -->")[1].split("<!-- table: end -->")[0]
    shown = re.findall(r"^\| (\S+) \| (\S+-\S+) \| (?:pass|warn)", table, re.MULTILINE)
    manifest = load_manifest(ROOT / "models.toml")
    assert shown == [
        (model.name, variant.name)
        for model in manifest.models.values()
        for variant in model.variants
    ]


def test_the_map_names_modules_that_exist():
    text = (DOCS / "architecture.md").read_text()
    engine = ROOT / "pytest_onnxcheck" / "engine"
    rooms = {path.name for path in engine.iterdir() if path.is_dir()} - {"__pycache__"}
    named = re.findall(rf"`((?:{'|'.join(rooms)})/\w+)`", text)
    assert len(named) > 40
    assert [name for name in named if not (engine / f"{name}.py").is_file()] == []
    table = text.partition("| room | what for |")[2].partition("\n\n")[0]
    assert rooms == set(re.findall(r"^\| `(\w+)/`", table, flags=re.MULTILINE))
