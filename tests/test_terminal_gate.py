"""What a run prints: at the end, in the short summary, and of pytest-benchmark's tables."""

import pytest
from project import Project, mlps

RED = """
[models.small]
factory = "nets.py:mlp"
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
budget.fp32.max_size_mb = 0.0001

[models.mended]
factory = "nets.py:mlp"
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
xfail = [{ checks = ["structure"], reason = "once it was wrong" }]
"""

OWN = """
def test_own(benchmark):
    benchmark(lambda: None)
"""


def section(result):
    """The lines between the heading `onnxcheck` and the next."""
    start = next(i for i, line in enumerate(result.outlines) if line.strip("= ") == "onnxcheck")
    lines = result.outlines[start + 1 :]
    return lines[: next(i for i, line in enumerate(lines) if line.startswith("===="))]


@pytest.fixture
def red(project: Project):
    project.columns = 80
    project.on_clock()
    project.manifest(RED)
    return project


def test_a_red_run_says_what_is_red_within_80_columns(red: Project):
    result = red.run("-m", "not latency")
    assert result.ret == 1
    lines = section(result)
    # what is measured depends on no machine, but in its last digits
    texts = [" ".join(line.split()) for line in lines if not line.startswith("record: ")]
    assert texts[1].startswith("✗ small 1 variant FAIL 2 cases + ")
    assert texts[2].startswith("✗ torchscript-op17-fp32 1.27 kB ")
    assert texts[2].endswith(" FAIL")
    assert texts[3:5] == [
        "FAIL test_export: size: 0.001275 MB on disk, allowed 0.0001",
        "(budget.max_size_mb)",
    ]
    assert texts[5].startswith("✗ mended 1 variant XPASS")
    assert texts[7:9] == [
        "XPASS test_structure: it passes, which the manifest does not expect (once",
        "it was wrong): take it out of the model's `xfail`",
    ]
    assert max(len(line) for line in lines if not line.startswith("record: ")) <= 80
    assert red.outcomes()["mended::torchscript-op17-fp32::test_structure"] == "xpassed"


def test_a_failure_is_ascii_where_the_terminal_is(red: Project):
    red.environ = {"PYTHONIOENCODING": "ascii"}
    result = red.pytest("--onnxcheck", "-k", "small and export", fresh=True)
    assert result.ret == 1
    assert "  small - torchscript-op17-fp32" in result.outlines
    text = "\n".join(result.outlines)
    assert text.isascii()
    assert "\\xb7" not in text  # as pytest writes what is none
    assert "\\u2026" not in text


def test_the_short_summary_begins_with_the_number(red: Project):
    result = red.run("-m", "not latency")
    # as much as pytest leaves of it, without a CI's variable
    start = "FAILED models.toml::small::torchscript-op17-fp32::test_export - 0.001275 MB"
    (line,) = [line for line in result.outlines if line.startswith("FAILED models.toml::small")]
    assert line.startswith(start[: len(line) - 3])
    assert "Failed: " not in line


def test_quiet_it_is_a_line_that_names_what_is_red(red: Project):
    result = red.run("-m", "not latency", "-q")
    said = [line for line in result.outlines if "onnxcheck" in line]
    assert said == ["✗ onnxcheck: 2 variants: 1 FAIL, 1 XPASS: small::torchscript-op17-fp32,"]
    assert not any(line.startswith("record: ") for line in result.outlines)


def tables(result):
    return [line.split()[0] for line in result.outlines if line.startswith(("test_own ", "net::"))]


def test_benchmarks_of_the_projects_own_tests_are_shown_and_ours_when_asked_for(project: Project):
    project.on_clock()
    project.manifest(mlps("net"))
    (project.path / "test_own.py").write_text(OWN)
    both = (
        "models.toml",
        "test_own.py",
        "-m",
        "latency or not onnxcheck",
        "--benchmark-max-time=0",
    )
    result = project.run(*both)
    assert tables(result) == ["test_own"]
    result = project.run(*both, "--benchmark-columns=min")
    assert len(tables(result)) == 5
    result = project.run("-m", "latency")
    assert not any(line.startswith("Legend:") for line in result.outlines)
