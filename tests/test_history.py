"""The history on disk: what is stored, what is read back, what is shown of it."""

from __future__ import annotations

import dataclasses
import json
import platform
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from judge.test_regression import measured, point, ratio, timing

from pytest_onnxcheck import judge, machine
from pytest_onnxcheck.cli import main
from pytest_onnxcheck.errors import HistoryError
from pytest_onnxcheck.history import History, check_key, points_of
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.report.history import listing, svg

CHECK = check_key("models.toml", "net", "dynamo-op20-fp32", "cpu-batch1")
OTHER = check_key("models.toml", "net", "dynamo-op20-fp16", "cpu-batch1")
BROKEN = ["", "{", "[]", "{}", '{"format": 1, "checks": []}', '{"format": 1, "checks": {"a": [3]}}']


RATIOS = {
    "torch": dataclasses.replace(ratio(2.0), low=1.9, high=2.5),
    "kernel": dataclasses.replace(ratio(4.0), low=2.0, high=5.0),
}
TIMED = dataclasses.replace(
    measured(),
    sha256="abc",
    ratios=RATIOS,
    torch=timing(2.0),
    onnxruntime=timing(1.0),
    kernel=timing(4.0),
    device="NVIDIA T4",
)


def entry(**more: Any) -> Entry:
    """A latency check."""
    facts = {
        "nodeid": "sub/models.toml::net::dynamo-op20-fp32::test_latency[cpu-batch1]",
        "manifest": "/root/sub/models.toml",
        "model": "net",
        "variant": "dynamo-op20-fp32",
        "check": "latency",
        "point": "cpu-batch1",
        "outcome": "passed",
        "measurement": TIMED,
    }
    return Entry(**{**facts, **more})


def test_a_point_is_the_time_in_units_of_the_kernel():
    (found,) = points_of([entry()], Path("/root"), {f"sub/{CHECK}": 0.1}).items()
    check, kept = found
    assert check == "sub/models.toml::net::dynamo-op20-fp32[cpu-batch1]"
    assert (kept.normalised, kept.interval) == (0.25, (0.2, 0.5))
    assert (kept.speedup, kept.speedup_interval) == (2.0, (1.9, 2.5))
    assert kept.median_seconds == {"torch": 2e-3, "onnxruntime": 1e-3, "kernel": 4e-3}
    assert (kept.manifest, kept.limit, kept.sha256) == ("sub/models.toml", 0.1, "abc")
    assert kept.device == "NVIDIA T4"
    assert kept.machine == machine.fingerprint()
    assert not kept.noisy


def test_a_point_is_noisy_when_most_rounds_were_interrupted():
    kernel = dataclasses.replace(RATIOS["kernel"], interrupted=0.6)
    busy = dataclasses.replace(TIMED, ratios={**RATIOS, "kernel": kernel})
    (kept,) = points_of([entry(measurement=busy)], Path("/root"), {}).values()
    assert kept.noisy


@pytest.mark.parametrize(
    "other",
    [{"outcome": outcome} for outcome in ("failed", "skipped", "xfailed", "xpassed")]
    + [{"check": "export"}, {"measurement": None}],
)
def test_only_latency_checks_that_passed_are_points(other: dict[str, Any]):
    assert points_of([entry(**other)], Path("/root"), {}) == {}


def test_runs_come_back_in_order_as_they_were(tmp_path: Path):
    history = History(tmp_path / "new")
    assert not history
    for value in (1.0, 2.0, 3.0):
        history.append({CHECK: point(value)})
    names = sorted(path.name.partition("_")[0] for path in history.folder.glob("[!.]*"))
    assert names == ["0001", "0002", "0003"]
    read = History(history.folder, manifest="models.toml")
    assert read
    assert [run[CHECK].normalised for run in read.runs] == [1.0, 2.0, 3.0]
    assert read.runs[0][CHECK] == point(1.0)
    then = read.before("net", "dynamo-op20-fp32", "cpu-batch1")
    assert [earlier.normalised for earlier in then.runs] == [1.0, 2.0, 3.0]
    assert read.before("net", "dynamo-op20-fp32", "cpu-batch8").runs == ()


def test_the_order_is_that_of_the_numbers_beyond_9999(tmp_path: Path):
    content = '{"format": 1, "checks": {}}'
    for number in ("9999", "10000"):
        (tmp_path / f"{number}_x.json").write_text(content)
    assert History(tmp_path).append({}).name.startswith("10001_")


def test_what_is_accepted_replaces_its_own_and_keeps_the_rest(tmp_path: Path):
    elsewhere = dataclasses.replace(point().machine, cpu="Epyc B")
    history = History(tmp_path)
    history.accept({CHECK: point(1.0), OTHER: point(5.0)})
    History(tmp_path).accept({CHECK: point(3.0, machine=elsewhere)})
    History(tmp_path).accept({CHECK: point(2.0)})
    read = History(tmp_path)
    assert {kept.cpu: kept.normalised for kept in read.baseline[CHECK]} == {
        "Xeon A": 2.0,
        "Epyc B": 3.0,
    }
    assert [kept.normalised for kept in read.baseline[OTHER]] == [5.0]
    assert read.runs == []
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["baseline.json"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_baseline_is_told_and_left_as_it_is(tmp_path: Path, text: str):
    file = tmp_path / "baseline.json"
    file.write_text(text)
    history = History(tmp_path)
    (problem,) = history.problems
    assert str(file) in problem
    assert "Restore it, or delete it" in problem
    assert history.before("net", "x", "cpu").problem == problem
    with pytest.raises(HistoryError, match=r"baseline\.json"):
        history.accept({CHECK: point()})
    assert file.read_text() == text


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_run_is_left_out_and_its_number_is_not_reused(tmp_path: Path, text: str):
    history = History(tmp_path)
    history.append({CHECK: point(1.0)})
    broken = tmp_path / "0007_x.json"
    broken.write_text(text)
    read = History(tmp_path)
    assert len(read.runs) == 1
    (problem,) = read.problems
    assert str(broken) in problem
    assert "left out" in problem
    assert read.append({CHECK: point(2.0)}).name.startswith("0008_")
    assert broken.read_text() == text


MISSING = object()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("created", None),
        ("created", "yesterday"),
        ("interval", [1.0]),
        ("interval", [float("nan"), 1.0]),
        ("interval", None),
        ("normalised", float("nan")),
        ("normalised", 0.0),
        ("normalised", float("inf")),
        ("speedup", -1.0),
        ("limit", float("nan")),
        ("median_seconds", {}),
        ("median_seconds", {"onnxruntime": None}),
        ("machine", {}),
        ("machine", {"cpu": None}),
        ("machine", {"cpu": "A", "packages": 3}),
        ("threads", "many"),
        ("sha256", MISSING),
    ],
)
def test_a_point_that_is_corrupt_is_told_and_left_alone(tmp_path: Path, key: str, value: Any):
    kept = dataclasses.asdict(point())
    kept[key] = value
    if value is MISSING:
        del kept[key]
    text = json.dumps({"format": 1, "checks": {"a": kept}})
    accepted = json.dumps({"format": 1, "checks": {"a": [kept]}})
    (tmp_path / "0001_x.json").write_text(text)
    (tmp_path / "baseline.json").write_text(accepted)
    history = History(tmp_path)
    assert ["a: not a point of" in problem for problem in history.problems] == [True, True]
    assert (history.runs, history.baseline) == ([], {})
    with pytest.raises(HistoryError):
        history.accept({CHECK: point()})
    assert (tmp_path / "0001_x.json").read_text() == text
    assert (tmp_path / "baseline.json").read_text() == accepted
    assert listing(history).startswith(str(tmp_path))


def test_a_baseline_whose_points_are_no_list_is_broken(tmp_path: Path):
    (tmp_path / "baseline.json").write_text('{"format": 1, "checks": {"x": null}}')
    (problem,) = History(tmp_path).problems
    assert "x: not a list of points" in problem


def test_older_files_are_read_under_their_manifests_name(tmp_path: Path):
    kept = dataclasses.asdict(point())
    for key in ("clock", "boundary", "dims", "device"):
        del kept[key]
    content = {"format": 1, "checks": {CHECK.partition("::")[2]: [kept]}}
    (tmp_path / "baseline.json").write_text(json.dumps(content))
    assert History(tmp_path).baseline == {CHECK: (point(),)}


def test_a_machine_is_written_whole_and_read_as_far_as_it_is_told(tmp_path: Path):
    kept = json.loads(History(tmp_path).append({CHECK: point()}).read_text())["checks"][CHECK]
    assert list(kept["machine"]) == ["cpu", "cpus", "machine", "platform", "python", "packages"]
    kept["machine"] = {"cpu": "Xeon A", "later": 3}
    (tmp_path / "0002_x.json").write_text(json.dumps({"format": 1, "checks": {CHECK: kept}}))
    assert History(tmp_path).runs[1][CHECK].machine == machine.Machine("Xeon A")


def test_manifests_with_a_model_of_one_name_share_nothing(tmp_path: Path):
    files = [Path("/root") / name for name in ("a/models.toml", "b[1]/models.toml")]
    tail = "net::dynamo-op20-fp32::test_latency[cpu-batch1]"
    entries = [entry(manifest=str(file), nodeid=f"{file}::{tail}") for file in files]
    points = points_of(entries, Path("/root"), {})
    assert list(points) == [
        "a/models.toml::net::dynamo-op20-fp32[cpu-batch1]",
        "b[1]/models.toml::net::dynamo-op20-fp32[cpu-batch1]",
    ]
    History(tmp_path).append(points)
    for name in ("a/models.toml", "b[1]/models.toml"):
        history = History(tmp_path, manifest=name)
        (kept,) = history.before("net", "dynamo-op20-fp32", "cpu-batch1").runs
        assert kept.manifest == name
    assert history.before("web", "dynamo-op20-fp32", "cpu-batch1").runs == ()


def test_runs_at_the_same_time_lose_nothing(tmp_path: Path):
    histories = [History(tmp_path) for _ in range(8)]  # all have read before any writes

    def store(number: int) -> None:
        histories[number].append({CHECK: point(1.0 + number)})
        histories[number].accept({f"models.toml::net::{number}[cpu]": point()})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store, range(8)))
    read = History(tmp_path)
    assert sorted(run[CHECK].normalised for run in read.runs) == [1.0 + n for n in range(8)]
    assert len(read.baseline) == 8
    assert len({path.name[:4] for path in tmp_path.glob("0*.json")}) == 8


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    history = History(tmp_path / "file" / "history")
    with pytest.raises(HistoryError, match="cannot be written"):
        history.append({CHECK: point()})
    with pytest.raises(HistoryError, match="cannot be"):
        history.accept({CHECK: point()})


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel name\t: Xeon A\n", "Xeon A"),
        (
            "CPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\n"
            "CPU implementer\t: 0x41\nCPU part\t: 0xd05\n",
            "CPU implementer 0x41, CPU part 0xd0c/0xd05",
        ),
        ("processor\t: 0\nmodel name\t:\n", ""),
    ],
)
def test_the_name_of_a_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, name: str
):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "processor", platform.machine)
    assert machine.cpu_name() == name


def test_files_of_another_format_say_so(tmp_path: Path):
    (tmp_path / "0001_x.json").write_text('{"format": 2, "checks": {}}')
    (problem,) = History(tmp_path).problems
    assert "written in format 2, and this version reads 1" in problem


def test_files_of_others_are_nobodys_business(tmp_path: Path):
    (tmp_path / "notes.json").write_text("{")
    (tmp_path / "README.md").write_text("")
    assert not History(tmp_path)
    assert History(tmp_path).problems == []


def test_each_accelerator_has_a_baseline_of_its_own(tmp_path: Path):
    history = History(tmp_path)
    for device, value in (("T4", 1.0), ("A100", 2.0), ("T4", 3.0)):
        history.accept({CHECK: point(value, device=device)})
    accepted = History(tmp_path).baseline[CHECK]
    assert {found.device: found.normalised for found in accepted} == {"T4": 3.0, "A100": 2.0}


def told(tmp_path: Path, points: dict[str, Any], checks: Any, **more: Any) -> list[str]:
    history = History(tmp_path)
    history.accept({CHECK: point(sha256="a"), OTHER: point(sha256="b")})
    skipped = more.pop("skipped", {})
    gone = judge.vanished(history.baseline, points, {"models.toml": checks}, tmp_path, **more)
    return [*gone.values(), *judge.unmatched(history.baseline, points, skipped)]


def test_the_same_checks_need_no_word(tmp_path: Path):
    assert told(tmp_path, {CHECK: point()}, [CHECK, OTHER]) == []


def test_a_check_that_vanished_is_told_with_its_new_name(tmp_path: Path):
    new = check_key("models.toml", "web", "dynamo-op20-fp16", "cpu-batch1")
    gone, added = told(tmp_path, {new: point(sha256="b")}, [CHECK, new])
    assert gone == (
        f"vanished: {OTHER} is in the baseline of 2025-11-20, and no longer in models.toml; "
        f"{new} has the same artefact: renamed?"
    )
    assert added == f"new: {new} is in no baseline: --onnxcheck-accept adds it"


def test_checks_of_other_manifests_and_targets_are_not_missed(tmp_path: Path):
    history = History(tmp_path)
    history.accept({CHECK: point()})
    (tmp_path / "models.toml").touch()
    assert judge.vanished(history.baseline, {}, {"other.toml": []}, tmp_path) == {}
    assert judge.vanished(history.baseline, {}, {"models.toml": []}, tmp_path, ["openvino"]) == {}
    assert list(judge.vanished(history.baseline, {}, {"models.toml": []}, tmp_path, ["cpu"])) == [
        CHECK
    ]


def test_checks_of_a_manifest_that_is_gone_are_missed(tmp_path: Path):
    history = History(tmp_path)
    history.accept({CHECK: point()})
    (text,) = judge.vanished(history.baseline, {}, {"other.toml": []}, tmp_path).values()
    assert text.endswith("in the baseline of 2025-11-20, and models.toml is gone")


def test_what_is_to_be_forgotten_is_taken_out_of_the_baseline(tmp_path: Path):
    History(tmp_path).accept({CHECK: point(), OTHER: point()})
    History(tmp_path).accept({}, forget=[CHECK, "unknown"])
    assert list(History(tmp_path).baseline) == [OTHER]


def test_what_was_not_measured_is_told(tmp_path: Path):
    skipped = {CHECK: "timing is off", "unknown": "absent"}
    assert told(tmp_path, {}, [CHECK, OTHER], skipped=skipped) == [
        f"not measured, and in the baseline: {CHECK}: timing is off"
    ]


def test_without_a_baseline_nothing_is_new(tmp_path: Path):
    assert list(judge.unmatched(History(tmp_path).baseline, {CHECK: point()}, {})) == []


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Three runs of one check and one of another, with a baseline."""
    history = History(tmp_path)
    history.accept({CHECK: point(1.0)})
    elsewhere = dataclasses.replace(point().machine, cpu="Epyc <B>")
    history.append({CHECK: point(1.0, limit=0.1)})
    history.append({CHECK: point(1.2, limit=0.1), OTHER: point(3.0)})
    history.append({CHECK: point(1.1, limit=0.1, machine=elsewhere, noisy=True)})
    return history


def test_the_listing_shows_every_run_against_the_baseline(history: History):
    text = listing(history)
    lines = text.splitlines()
    assert lines[0] == f"{OTHER}  ▁"
    block = lines[lines.index(f"{CHECK}  ▁█▄") :]
    assert "accepted, Xeon A" in block[2]
    assert block[3].endswith("+0.0%")
    assert block[4].endswith("+20.0%")
    assert block[5].endswith("+10.0%, noisy, Epyc <B>")
    assert "1.2 [1.188, 1.212]" in block[4]
    assert CHECK not in listing(history, "*fp16*")
    assert OTHER in listing(history, "net")


def test_the_plot_has_a_panel_a_check(history: History):
    root = ET.fromstring(svg(history))
    space = "{http://www.w3.org/2000/svg}"
    panels = root.findall(f"{space}g")
    assert len(panels) == 2
    texts = ["".join(panel.itertext()) for panel in panels]
    assert [OTHER in texts[0], CHECK in texts[1]] == [True, True]
    circles = panels[1].findall(f"{space}circle")
    assert [circle.get("class") for circle in circles] == ["run", "run", "run other"]
    heights = [float(str(circle.get("cy"))) for circle in circles]
    assert heights[1] < heights[2] < heights[0]  # slower is higher
    lines = {line.get("class"): line for line in panels[1].findall(f"{space}line")}
    assert float(str(lines["accepted"].get("y1"))) == pytest.approx(heights[0], abs=0.2)
    assert float(str(lines["limit"].get("y1"))) == pytest.approx(heights[2], abs=0.2)
    assert ["accepted" in texts[0], "accepted" in texts[1]] == [False, True]


def test_points_that_do_not_differ_are_drawn_too(tmp_path: Path):
    history = History(tmp_path)
    same = dataclasses.replace(point(1.0), interval=(1.0, 1.0))
    history.append({CHECK: same})
    history.append({CHECK: same})
    assert "NaN" not in svg(history)
    assert listing(history).startswith(f"{CHECK}  ▁▁")
    ET.fromstring(svg(History(tmp_path / "empty")))


def test_the_command_lists_and_plots(history: History, capsys: pytest.CaptureFixture[str]):
    plot = history.folder / "plot.svg"
    assert main(["history", str(history.folder), "net", "--svg", str(plot)]) == 0
    assert capsys.readouterr().out == listing(history)
    assert plot.read_text() == svg(history)
    assert main(["history", str(history.folder), CHECK]) == 0
    assert OTHER not in capsys.readouterr().out
    assert main(["history", str(history.folder), CHECK, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["checks"]) == [CHECK]
    runs = found["checks"][CHECK]["runs"]
    assert len(runs) == len([run for run in history.runs if CHECK in run])
    assert runs[0]["median_seconds"] == history.runs[0][CHECK].median_seconds


def test_the_command_says_what_there_is_instead(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["history", str(history.folder), "web"]) == 1
    assert f"no check matches 'web'; it holds: {OTHER}, {CHECK}" in capsys.readouterr().err
    assert main(["history", str(tmp_path / "nowhere")]) == 1
    assert "no history: run pytest --onnxcheck --onnxcheck-history=" in capsys.readouterr().err


def test_the_command_shows_what_it_cannot_read(
    history: History, capsys: pytest.CaptureFixture[str]
):
    (history.folder / "0009_x.json").write_text("{")
    assert main(["history", str(history.folder)]) == 0
    assert "0009_x.json: not readable" in capsys.readouterr().out


def test_the_files_are_small_and_readable(history: History):
    (first, *_) = sorted(history.folder.glob("0*.json"))
    content = json.loads(first.read_text())
    assert content["format"] == 1
    assert content["checks"][CHECK]["interval"] == [0.99, 1.01]
    assert first.stat().st_size < 1500
