"""models.toml as pytest nodes: ids, selection, marks, and what must not be imported."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from xml.etree import ElementTree

import pytest
from project import LEAN, checks_of, mlps
from project import Project as _Project

import pytest_onnxcheck.manifest  # noqa: F401 - or every in-process run builds its classes anew

HEAVY = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")


class Project(_Project):
    """Collects in this process, which is fast: nothing heavy is imported by it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        super().__init__(pytester.path)
        self.pytester = pytester

    def collect(self, *args: str) -> pytest.RunResult:
        return self.pytester.runpytest("--collect-only", "-q", *LEAN, *args)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # what runs inside is none
    return Project(pytester)


def ids(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "::" in line]


def names(result: pytest.RunResult) -> list[str]:
    """The checks' names, without the nodes they stand under."""
    return [nodeid.rpartition("::")[2] for nodeid in ids(result)]


def test_ids_are_readable_and_parametrised_by_target_and_dims(project: Project):
    project.manifest(mlps("net"), 'precisions = ["fp32", "int8-static"]\ntargets = ["cpu", "cuda"]')
    assert ids(project.collect("--onnxcheck")) == [
        "models.toml::net::torchscript-op17-fp32::test_export",
        "models.toml::net::torchscript-op17-fp32::test_structure",
        "models.toml::net::torchscript-op17-fp32::test_target[cuda]",
        "models.toml::net::torchscript-op17-fp32::test_equivalence[cpu]",
        "models.toml::net::torchscript-op17-fp32::test_equivalence[cuda]",
        "models.toml::net::torchscript-op17-fp32::test_latency[cpu-batch1]",
        "models.toml::net::torchscript-op17-fp32::test_latency[cpu-batch3]",
        "models.toml::net::torchscript-op17-fp32::test_latency[cuda-batch1]",
        "models.toml::net::torchscript-op17-fp32::test_latency[cuda-batch3]",
        "models.toml::net::torchscript-op17-int8-static::test_export",
        "models.toml::net::torchscript-op17-int8-static::test_quantization",
        "models.toml::net::torchscript-op17-int8-static::test_structure",
        "models.toml::net::torchscript-op17-int8-static::test_target[cuda]",
        "models.toml::net::torchscript-op17-int8-static::test_equivalence[cpu]",
        "models.toml::net::torchscript-op17-int8-static::test_equivalence[cuda]",
        "models.toml::net::torchscript-op17-int8-static::test_latency[cpu-batch1]",
        "models.toml::net::torchscript-op17-int8-static::test_latency[cpu-batch3]",
        "models.toml::net::torchscript-op17-int8-static::test_latency[cuda-batch1]",
        "models.toml::net::torchscript-op17-int8-static::test_latency[cuda-batch3]",
    ]


def test_every_printed_id_can_be_selected_again(project: Project):
    project.manifest(mlps("net", "other"), 'precisions = ["fp32", "fp16"]')
    printed = ids(project.collect("--onnxcheck"))
    assert len(printed) == 2 * len([*checks_of("fp32"), *checks_of("fp16")])
    for nodeid in printed:
        assert ids(project.collect(nodeid)) == [nodeid]


def test_a_model_and_a_variant_can_be_selected(project: Project):
    project.manifest(mlps("net", "other"), 'precisions = ["fp32", "fp16"]')
    both = checks_of("fp32") + checks_of("fp16")
    assert names(project.collect("models.toml::other")) == both
    variant = project.collect("models.toml::other::torchscript-op17-fp16")
    assert names(variant) == checks_of("fp16")


def test_marks_and_keywords_select(project: Project):
    project.manifest(mlps("net"), 'precisions = ["fp16"]')
    only = ids(project.collect("--onnxcheck", "-m", "quantization"))
    assert only == ["models.toml::net::torchscript-op17-fp16::test_quantization"]
    assert len(ids(project.collect("--onnxcheck", "-m", "latency"))) == 2
    assert len(ids(project.collect("--onnxcheck", "-k", "structure or export"))) == 2
    assert names(project.collect("--onnxcheck", "--strict-markers")) == checks_of("fp16")


def test_marks_of_a_model_are_on_its_checks(project: Project):
    project.manifest(mlps("net", "other"))
    text = (project.path / "models.toml").read_text()
    (project.path / "models.toml").write_text(
        text.replace("[models.other]\n", '[models.other]\nmarks = ["slow"]\n')
    )
    project.pytester.makeini("[pytest]\nmarkers = slow: takes long")
    chosen = ids(project.collect("--onnxcheck", "-m", "slow", "--strict-markers"))
    assert {nodeid.split("::")[1] for nodeid in chosen} == {"other"}


def test_without_the_switch_nothing_is_collected(project: Project):
    project.manifest(mlps("net"))
    project.pytester.makepyfile(test_theirs="def test_it(): pass")
    assert ids(project.collect()) == ["test_theirs.py::test_it"]
    assert ids(project.collect(str(project.path))) == ["test_theirs.py::test_it"]


def test_the_switch_alone_runs_the_manifest_and_nothing_else(project: Project):
    project.manifest(mlps("net"))
    project.pytester.makepyfile(test_theirs="def test_it(): pass")
    assert all(nodeid.startswith("models.toml::") for nodeid in ids(project.collect("--onnxcheck")))


def test_file_arguments_are_honoured_beside_the_switch(project: Project):
    project.manifest(mlps("net"))
    project.pytester.makepyfile(test_theirs="def test_it(): pass")
    both = ids(project.collect("--onnxcheck", "."))
    assert "test_theirs.py::test_it" in both
    assert len(both) == 1 + len(checks_of())
    assert ids(project.collect("--onnxcheck", "test_theirs.py")) == ["test_theirs.py::test_it"]


def test_a_foreign_models_toml_is_left_alone(project: Project):
    (project.path / "models.toml").write_text("[models]\nname = 'not ours'\n")
    project.pytester.makepyfile(test_theirs="def test_it(): pass")
    result = project.collect("--onnxcheck", ".")  # here it is the default manifest: an error
    result.stdout.fnmatch_lines(["models.toml:1: missing key 'schema'"])
    (project.path / "sub").mkdir()
    (project.path / "models.toml").rename(project.path / "sub" / "models.toml")
    assert ids(project.collect("--onnxcheck", ".")) == ["test_theirs.py::test_it"]


def test_another_manifest_by_option_and_by_ini(project: Project):
    project.manifest(mlps("net"), name="gate.toml")
    first = ids(project.collect("--onnxcheck", "--onnxcheck-manifest=gate.toml"))
    project.pytester.makeini("[pytest]\nonnxcheck_manifest = gate.toml")
    assert first == ids(project.collect("--onnxcheck"))
    assert first[0].startswith("gate.toml::net::")


def test_a_missing_manifest_is_a_usage_error(project: Project):
    result = project.collect("--onnxcheck")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--onnxcheck: no manifest at *models.toml: let `onnxcheck init` draft one*"]
    )


def test_models_are_chosen_by_glob(project: Project):
    project.manifest(mlps("net-a", "net-b", "other"))
    chosen = ids(project.collect("--onnxcheck", "--onnxcheck-model=*-b", "--onnxcheck-model=oth*"))
    assert {nodeid.split("::")[1] for nodeid in chosen} == {"net-b", "other"}


def test_a_glob_that_matches_no_model_is_an_error(project: Project):
    project.manifest(mlps("net"))
    result = project.collect("--onnxcheck", "--onnxcheck-model=nat")
    result.stdout.fnmatch_lines(["*no model matches --onnxcheck-model nat (there are: net)"])
    assert result.ret != 0


def test_targets_of_the_command_line_replace_the_manifests(project: Project):
    project.manifest(mlps("net"))
    chosen = ids(project.collect("--onnxcheck", "--onnxcheck-target=openvino", "-k", "equivalence"))
    assert chosen == ["models.toml::net::torchscript-op17-fp32::test_equivalence[openvino]"]


@pytest.mark.parametrize("option", ["target", "require"])
def test_an_unknown_target_is_an_error_that_lists_those_there_are(project: Project, option: str):
    project.manifest(mlps("net"))
    result = project.collect("--onnxcheck", f"--onnxcheck-{option}=cdua")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert (
        f"--onnxcheck-{option}: 'cdua' is not one of cpu, cuda, tensorrt, openvino, reference (did "
        "you mean 'cuda'?); declare it in [targets.cdua], or by the hook pytest_onnxcheck_targets"
    ) in result.outlines


def test_a_required_target_that_no_model_runs_on_is_an_error(project: Project):
    project.manifest(mlps("net"))
    result = project.collect("--onnxcheck", "--onnxcheck-require=cuda")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert (
        "--onnxcheck-require=cuda: no model chosen here runs on it (targets: cpu); add it to their "
        "targets, or --onnxcheck-target"
    ) in result.outlines
    assert project.collect("--onnxcheck", "--onnxcheck-require=cpu").ret == 0


def test_targets_come_from_the_manifest_and_from_the_hook(project: Project):
    (project.path / "conftest.py").write_text(
        "def pytest_onnxcheck_targets(config):\n"
        "    return {'free': {'provider': 'CUDAExecutionProvider'}}\n"
    )
    table = '[targets.npu]\nprovider = "QNNExecutionProvider"\n'
    project.manifest(table + mlps("net"), 'targets = ["npu", "free", "reference"]')
    assert ids(project.collect("--onnxcheck", "-k", "test_target or equivalence")) == [
        f"models.toml::net::torchscript-op17-fp32::test_{check}"
        for check in (
            *("target[npu]", "target[free]", "equivalence[npu]", "equivalence[free]"),
            "equivalence[reference]",
        )
    ]


def test_a_hook_that_gives_a_wrong_target_is_an_error(project: Project):
    (project.path / "conftest.py").write_text(
        "def pytest_onnxcheck_targets(config):\n"
        "    return {'free': {'providr': 'CUDAExecutionProvider'}, 'other': {}}\n"
    )
    project.manifest(mlps("net"))
    result = project.collect("--onnxcheck")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "pytest_onnxcheck_targets: target 'free': unknown key 'providr' (did you mean "
            "'provider'[?])",
            "pytest_onnxcheck_targets: target 'other': missing key 'provider'*",
        ]
    )


def test_a_wrong_model_fails_alone_and_leaves_the_others_selectable(project: Project):
    project.manifest(mlps("good") + '[models.bad]\nfactory = "nets.py:mlp"\nshpae = 1\n')
    result = project.collect("--onnxcheck")
    result.stdout.fnmatch_lines(["*models.toml:*: [[]models.bad[]] unknown key 'shpae'*"])
    assert result.ret != 0
    good = project.collect("models.toml::good")
    assert good.ret == 0
    assert names(good) == checks_of()


def test_the_projects_python_functions_do_not_matter(project: Project):
    project.manifest(mlps("net"))
    project.pytester.makeini("[pytest]\npython_functions = check_*\npython_classes = Check*")
    assert names(project.collect("--onnxcheck")) == checks_of()


def test_one_model_of_many_is_selected_without_expanding_the_others(project: Project):
    project.manifest(mlps(*(f"net{i}" for i in range(50))))
    project.pytester.makeconftest(
        """
        expanded = []

        def pytest_onnxcheck_suite(config, model):
            expanded.append(model.name)

        def pytest_collection_finish(session):
            print("expanded:", expanded)
        """
    )
    result = project.collect("models.toml::net7")
    result.stdout.fnmatch_lines(["expanded: ['net7']"])


def test_a_project_adds_checks_and_overrides_fixtures(project: Project):
    project.manifest(mlps("net"))
    project.pytester.makeconftest(
        """
        import pytest
        from pytest_onnxcheck import OnnxChecks

        class OurChecks(OnnxChecks):
            def test_name(self, onnxcheck_model, module_wide):
                assert onnxcheck_model.name == "net"

        @pytest.fixture(scope="module")
        def module_wide():
            return 1

        def pytest_onnxcheck_suite(config, model):
            return OurChecks
        """
    )
    result = project.pytester.runpytest("--onnxcheck", "-k", "test_name", *LEAN)
    result.assert_outcomes(passed=1, deselected=len(checks_of()))
    result.stdout.re_match_lines([r". net  1 variant pass"])


def test_skip_and_xfail_of_the_manifest_choose_by_check_variant_and_target(project: Project):
    project.manifest(
        mlps("net")
        + """
        [[models.net.skip]]
        reason = "not now"
        checks = ["structure"]
        variants = ["*-fp32"]
        [[models.net.skip]]
        reason = "no time on cpu"
        checks = ["export", "quantization", "equivalence", "latency"]
        """,
        'precisions = ["fp32", "fp16"]',
    )
    result = project.run("-rs")
    outcomes = project.outcomes()
    assert outcomes["net::torchscript-op17-fp32::test_structure"] == "skipped"
    assert outcomes["net::torchscript-op17-fp16::test_structure"] == "passed"
    result.stdout.fnmatch_lines_random(["SKIPPED*not now", "SKIPPED*no time on cpu"])


def test_junit_points_at_the_models_line(project: Project):
    project.manifest(mlps("net"))
    line = (project.path / "models.toml").read_text().splitlines().index("[models.net]")
    project.run("-k", "structure", "--junitxml=junit.xml", "-o", "junit_family=xunit1")
    case = next(ElementTree.parse(project.path / "junit.xml").iter("testcase"))
    assert case.get("file") == "models.toml"
    assert case.get("line") == str(line)
    assert {entry.get("name") for entry in case.iter("property")} == {"onnxcheck_grade"}


@pytest.mark.parametrize("args", [["--onnxcheck", "--collect-only", "-q"], ["test_theirs.py"]])
def test_collecting_imports_nothing_heavy(project: Project, args: list[str]):
    project.manifest(mlps("net"), 'precisions = ["fp32", "int8-static"]')
    project.pytester.makepyfile(test_theirs="def test_it(): pass")
    project.pytester.makeconftest(
        f"""
        import sys

        def pytest_unconfigure():
            print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
        """
    )
    result = project.pytest("-s", *args, fresh=True)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["heavy: []"])


def test_importing_the_package_imports_nothing_heavy():
    script = f"""
    import sys
    import pytest_onnxcheck.plugin.hooks, pytest_onnxcheck.plugin.collection
    import pytest_onnxcheck.plugin.suite
    import pytest_onnxcheck.engine.builds, pytest_onnxcheck.engine.checks.latency
    import pytest_onnxcheck.engine.checks.equivalence, pytest_onnxcheck.record.record
    print([name for name in {HEAVY!r} if name in sys.modules])
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_nothing_is_written_by_collecting(project: Project):
    project.manifest(mlps("net"))
    before = sorted(path.name for path in project.path.iterdir())
    project.collect("--onnxcheck")
    after = {path.name for path in project.path.iterdir()} - {".benchmarks"}  # pytest-benchmark's
    assert sorted(after) == before


def test_under_xdist_a_model_stays_on_one_worker_and_all_is_as_without(project: Project):
    project.manifest(mlps("net", "other"), 'precisions = ["fp32", "int8-static"]')
    result = project.run("-n", "2", "-rs", "-v")
    assert result.ret == 0
    outcomes, hashes = project.outcomes(), project.hashes()
    assert {o for nodeid, o in outcomes.items() if "latency" in nodeid} == {"skipped"}
    assert {o for nodeid, o in outcomes.items() if "latency" not in nodeid} == {"passed"}
    result.stdout.fnmatch_lines(["SKIPPED*timing is off: --benchmark-disable, or pytest-xdist*"])
    rows = [line.split()[1] for line in result.outlines if line.startswith(("- ", "! ", "  - "))]
    # workers hand them in as they come
    assert rows == [
        *("net", "torchscript-op17-fp32", "torchscript-op17-int8-static"),
        *("other", "torchscript-op17-fp32", "torchscript-op17-int8-static"),
    ]
    ran = [re.match(r"\[(gw\d)\].* models\.toml::(\w+)::", line) for line in result.outlines]
    assert len({found.groups() for found in ran if found}) == 2
    assert len({found[1] for found in ran if found}) == 2

    project.run("-n", "0", "--benchmark-disable", "--onnxcheck-artifacts=apart")
    assert project.outcomes() == outcomes
    assert project.hashes() == hashes


@pytest.mark.parametrize("plugin", ["xdist", "cacheprovider", "terminal"])
def test_it_works_without_plugins_it_does_not_need(project: Project, plugin: str):
    project.manifest(mlps("net"))
    result = project.pytest("--onnxcheck", "-k", "structure", "-p", f"no:{plugin}")
    assert result.ret == 0


@pytest.mark.parametrize(
    "option",
    [
        *("--onnxcheck-recommend=5", "--onnxcheck-frontier", "--onnxcheck-accept"),
        *("--onnxcheck-strict", "--onnxcheck-json=record.json", "--onnxcheck-history=history"),
        *("--onnxcheck-artifacts=built", "--onnxcheck-manifest=models.toml"),
        *("--onnxcheck-model=n*", "--onnxcheck-target=cpu", "--onnxcheck-ahead=1"),
    ],
)
def test_an_option_without_the_gate_is_refused(project: Project, option: str):
    project.manifest(mlps("net"))
    result = project.pytest(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    name = option.partition("=")[0]
    text = f"*{name} does nothing without --onnxcheck, or a manifest as an argument"
    result.stdout.fnmatch_lines([text])
    named = project.pytest("models.toml", option, "--collect-only", "-q")
    assert named.ret == 0


def test_another_manifest_as_an_argument_is_refused(project: Project):
    project.manifest(mlps("net"))
    project.manifest(mlps("other"), name="other.toml")
    result = project.pytest("--onnxcheck-manifest=other.toml", "models.toml::net")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        [
            "*--onnxcheck-manifest=other.toml does nothing beside the argument models.toml, which "
            "is what is checked: leave out one of them, or give both as arguments"
        ]
    )


def test_a_record_of_the_ini_file_is_not_overwritten_by_a_run_of_other_tests(project: Project):
    project.manifest(mlps("net"))
    (project.path / "pytest.ini").write_text("[pytest]\nonnxcheck_json = record.json\n")
    (project.path / "test_other.py").write_text("def test_other(): pass\n")
    record = project.path / "record.json"
    assert project.pytest("test_other.py").ret == 0
    assert not record.exists()
    assert project.pytest("--onnxcheck", "-k", "structure").ret == 0
    written = record.read_bytes()
    assert project.pytest("test_other.py").ret == 0
    assert record.read_bytes() == written


def test_an_empty_path_is_a_usage_error(project: Project):
    """As an empty variable in CI gives it: it would be the folder itself."""
    project.manifest(mlps("net"))
    result = project.pytest("--onnxcheck", "--onnxcheck-history=")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*--onnxcheck-history=: no path is given"])
    result = project.pytest("--onnxcheck", "--onnxcheck-history=models.toml")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*--onnxcheck-history=*models.toml: a file, not a folder"])
