"""The HTML report: all of it is there, it is well formed, and nothing gets out of its place."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import runs
from entries import ratios

from pytest_onnxcheck.history import History, points_of
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.report.html import page
from pytest_onnxcheck.report.html.plots import strips
from pytest_onnxcheck.verdict import Finding, Grade

#: elements that have no end
VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, texts by element, and what is wrong with the nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.stack: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack[-1:] == [tag], f"</{tag}> ends {self.stack[-3:]}"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        for tag in set(self.stack):
            self.texts[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def failing() -> Page:
    return Page(page([runs.record(*runs.model("net"), *runs.model("bad")), runs.failing()]))


def test_a_page_is_well_formed_and_its_links_lead_somewhere(failing: Page):
    ids = [attributes["id"] for _, attributes in failing.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(link["href"]) for link in failing.all("a")]
    assert len(links) > 5
    assert [link for link in links if link.startswith("#") and link[1:] not in ids] == []
    labels = [
        attributes["aria-labelledby"]
        for _, attributes in failing.elements
        if "aria-labelledby" in attributes
    ]
    assert set(labels) <= set(ids)


def test_headings_step_down_one_at_a_time(failing: Page):
    levels = [int(tag[1]) for tag, _ in failing.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_table_has_a_caption_and_every_picture_a_name(failing: Page):
    tables, captions = len(failing.all("table")), len(failing.all("caption"))
    assert tables == captions > 8
    for svg in failing.all("svg"):
        assert svg.get("aria-hidden") == "true" or svg.get("aria-label")
    for cell in failing.all("th"):
        assert cell["scope"] in ("col", "row")
    landmarks = {tag for tag, _ in failing.elements}
    assert {"header", "nav", "main", "footer"} <= landmarks


def test_a_failure_is_told_whole_with_its_commands(failing: Page):
    texts = "\n".join(failing.texts["pre"])
    assert "layers that lose most" in texts
    assert "exclude_nodes" in texts
    assert "pytest 'models.toml::bad::dynamo-op20-int8-static::test_equivalence[cpu]'" in texts
    assert "python .onnxcheck/repro/net/run.py" in texts
    assert "unknown key 'shpae'" in texts
    assert failing.texts["h1"] == ["Failed: 1 of 16 checks failed and 1 could not be collected"]


def test_what_a_model_was_found_to_be_is_all_there(failing: Page):
    headings = failing.texts["h4"]
    for heading in (
        *("Checks", "Measured against what is allowed", "Size on disk", "Latency"),
        *("Frontier: size, latency and loss", "Loss per layer", "Worst elements"),
        *("Where the time went", "Warnings", "Skipped", "Files"),
    ):
        assert heading in headings
    text = "\n".join(failing.texts["main"])
    for fact in (
        *("tolerance.safety", "fails beyond 0.35", "0.25 of fp32", "ab" * 32, "layer1.conv"),
        *("library libops.so", "ef" * 32, "probe inf*", "skip_probes: no audio is infinite"),
    ):
        assert fact in text


def test_a_text_is_not_wrapped_where_the_browser_wraps_it():
    long = "word " * 60
    wrong = Finding(Grade.FAIL, "output 'y' error", f"9 noise floors {long}end", "batch=1")
    bad = [
        dataclasses.replace(entry, findings=(wrong,)) if entry.outcome == "failed" else entry
        for entry in runs.model(fails=True)
    ]
    texts = Page(page([runs.record(*bad)])).texts["pre"]
    assert str(wrong) in texts[0].splitlines()


def test_a_check_that_passes_against_its_xfail_is_told_with_its_mend():
    passes = [
        dataclasses.replace(entry, outcome="xpassed", reason="[XPASS(strict)] a static dim")
        if entry.check == "structure"
        else entry
        for entry in runs.model()
    ]
    text = Page(page([runs.record(*passes, exitstatus=1)])).texts["pre"][0]
    assert text == (
        "it passes, which the manifest does not expect (a static dim): take it out of the "
        "model's `xfail`"
    )


def test_the_stages_that_took_longest_are_shown_and_the_others_as_one():
    stages = {f"stage {number}": 10.0 + number for number in range(8)} | {"brief": 0.5, "odd": 0.25}
    entry = dataclasses.replace(runs.model()[0], stages=stages)
    found = Page(page([runs.record(entry)]))
    shown = [text for text in found.texts["span"] if text.startswith("stage ")]
    assert shown == [f"stage {number}" for number in range(7, 0, -1)]
    assert "other" in found.texts["span"]
    assert found.texts["td"].count("10.8 s") == 1


def test_only_a_model_that_failed_is_open(failing: Page):
    models = [each for each in failing.all("details") if each.get("class") == "model"]
    assert [(each["data-state"], "open" in each) for each in models] == [
        ("warn", False),
        ("FAIL", True),
    ]


def test_what_changed_against_another_record_is_told(failing: Page):
    assert "Against 2026-11-30 20:00 (012345678)" in failing.texts["h2"]
    assert "Worse: 1" in failing.texts["h3"]
    same = Page(page([runs.failing(), runs.failing()]))
    assert "Every check ends as it did." in same.texts["p"]
    alone = Page(page([runs.failing()]))
    assert not any(title.startswith("Against") for title in alone.texts["h2"])


def test_one_is_no_plural():
    only = page([runs.record(runs.model("net")[0])])
    assert re.findall(r"<b>1</b> (\w+)", only)[:3] == ["model", "variant", "check"]
    both = page([runs.record(*runs.model("net"), *runs.model("other"))])
    assert re.findall(r"<b>\d+</b> (\w+)", both)[:3] == ["models", "variants", "checks"]


def test_a_run_that_passes():
    found = Page(page([runs.record(*runs.model())]))
    assert found.texts["h1"] == ["Passed: 1 with warnings, 1 skipped, 6 passed"]
    assert found.texts["title"][0] == "Pass: onnxcheck, 2026-11-30"


def test_a_run_without_models_and_without_an_origin():
    found = Page(page([dataclasses.replace(runs.record(), source=runs.Source(), job=runs.Job())]))
    assert "No model was checked." in found.texts["p"]
    with pytest.raises(ValueError, match="needs a record"):
        page([])


def test_a_record_without_what_is_new_is_shown():
    plain = [
        dataclasses.replace(entry, stages={}, limits=(), measurement=runs.LATENCY)
        if entry.check == "latency"
        else dataclasses.replace(entry, stages={}, limits=())
        for entry in runs.model()
    ]
    headings = Page(page([runs.record(*plain)])).texts["h4"]
    assert "Where the time went" not in headings
    assert "Measured against what is allowed" not in headings
    assert "Latency" in headings


def test_nothing_is_loaded_and_no_other_script_runs(failing: Page):
    loaded = [
        (tag, name)
        for tag, attributes in failing.elements
        for name in attributes
        if name in ("src", "srcset", "style", "data") or name.startswith("on")
    ]
    assert loaded == []
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in failing.elements}
    policy = next(str(meta["content"]) for meta in failing.all("meta") if "http-equiv" in meta)
    for tag in ("script", "style"):
        (text,) = failing.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_nothing_gets_out_of_its_place():
    text = page([runs.record(*runs.model("net")), runs.evil()])
    found = Page(text)
    assert found.all("img") == []
    assert len(found.all("script")) == 1
    assert [link["href"] for link in found.all("a") if not str(link["href"]).startswith("#")] == []
    assert not any(char in text for char in "\x1b\u202e")
    for _, attributes in found.elements:
        assert not any(name.startswith("on") for name in attributes)


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Three runs of a model, the first of them accepted."""
    found = History(tmp_path)
    for times in (2.0, 2.1, 2.2):
        timed = runs.latency(ratios=ratios(torch=1.5, kernel=1 / times), kernel_name="k; 1")
        entries = [
            dataclasses.replace(entry, measurement=timed)
            for entry in runs.model()
            if entry.check == "latency" and entry.measurement is not None
        ]
        points = points_of(entries, Path("/work"), {})
        found.append(points)
        if times == 2.0:
            found.accept(points)
    return found


def test_the_trend_of_the_history_is_drawn(history: History):
    found = Page(page([runs.record(*runs.model(), *runs.model("other"))], history=history))
    assert found.texts["h4"].count("Latency over the runs") == 1
    trends = [svg for svg in found.all("svg") if svg.get("class") == "trend"]
    assert len(trends) == 2
    assert "3 runs" in str(trends[0]["aria-label"])
    assert "from 2.00 to 2.20 kernels" in str(trends[0]["aria-label"])
    assert len([line for line in found.all("line") if line.get("class") == "accepted"]) == 2


def timed(seconds: float, created: str) -> Record:
    kernel = runs.latency(onnx=seconds, ratios=ratios(torch=1.5, kernel=0.001 / seconds))
    entries = [
        dataclasses.replace(entry, measurement=kernel) if entry.point == "cpu-batch1" else entry
        for entry in runs.model()
    ]
    return runs.record(*entries, created=created)


def test_without_a_history_the_trend_is_that_of_the_records():
    records = [timed(0.002, "2026-11-28T01:02:03"), timed(0.003, "2026-11-29T01:02:03")]
    found = Page(page(records))
    trends = [svg for svg in found.all("svg") if svg.get("class") == "trend"]
    assert len(trends) == 2
    assert "2 runs from 2026-11-28 to 2026-11-29, from 2.00 to 3.00 k" in str(
        trends[0]["aria-label"]
    )
    assert "Latency over the runs" not in Page(page(records[:1])).texts["h4"]


def test_a_manifest_of_another_folder_has_no_trend(history: History):
    elsewhere = [dataclasses.replace(entry, manifest="/work/x.toml") for entry in runs.model()]
    found = Page(page([runs.record(*elsewhere)], history=history))
    assert "Latency over the runs" not in found.texts["h4"]


@pytest.mark.parametrize("time", [0.0, -1.0, math.inf, math.nan])
def test_times_that_no_call_takes_are_placed_somewhere(time):
    timing = dataclasses.replace(runs.latency().torch, quantiles=(time,) * 21, median=time)
    placed = strips(dataclasses.replace(runs.latency(), torch=timing))
    assert all(0 < strip.low < 10_000 for strip in placed)
