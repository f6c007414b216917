"""Hooks by which a project extends pytest-onnxcheck; put them into a conftest.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_onnxcheck.manifest import Model
    from pytest_onnxcheck.manifest.targets import Engine
    from pytest_onnxcheck.plugin.suite import OnnxChecks


@pytest.hookspec(firstresult=True)
def pytest_onnxcheck_suite(config: pytest.Config, model: Model) -> type[OnnxChecks] | None:
    """Return the class whose tests are generated for a model, or None for the default.

    Add a check of your own to every model::

        from pytest_onnxcheck import OnnxChecks

        class OurChecks(OnnxChecks):
            def test_has_no_loop(self, onnxcheck_artefact):
                import onnx
                graph = onnx.load(onnxcheck_artefact.path).graph
                assert "Loop" not in {node.op_type for node in graph.node}

        def pytest_onnxcheck_suite(config, model):
            return OurChecks
    """


def pytest_onnxcheck_targets(config: pytest.Config) -> dict[str, dict[str, Any]] | None:
    """Return targets by name, or None; their keys are those of `[targets.NAME]` in the manifest.

    Add the GPU that this machine has free::

        import os

        def pytest_onnxcheck_targets(config):
            options = {"device_id": os.environ.get("FREE_GPU", "0")}
            return {"free-gpu": {"provider": "CUDAExecutionProvider", "provider_options": options}}

    A manifest can then say `targets = ["cpu", "free-gpu"]`, and `[targets.free-gpu]` in it adds to
    what is given here.
    """


def pytest_onnxcheck_engines(config: pytest.Config) -> dict[str, Engine] | None:
    """Return engines that run artefacts in place of ONNX Runtime, by name, or None.

    Each is a target of its name. It says who it is, and makes of an artefact a function of arrays::

        class OpenVINO:
            def versions(self):
                import openvino
                return {"openvino": openvino.__version__}

            def open(self, path, options, threads):
                import openvino
                if threads is not None:
                    options = {**options, "INFERENCE_NUM_THREADS": threads}
                compiled = openvino.Core().compile_model(path, "CPU", dict(options))
                def run(inputs):
                    found = compiled(inputs)
                    return [found[output] for output in compiled.outputs]
                return run

        def pytest_onnxcheck_engines(config):
            return {"openvino-own": OpenVINO()}

    A manifest can then say `targets = ["cpu", "openvino-own"]`. It runs in pytest's own process.
    """


def pytest_onnxcheck_update_record(config: pytest.Config, record: dict[str, Any]) -> None:
    """Change the record in place before it, and every report made from it, is written.

    It is called before the first check too, with a record without checks: the unfinished record
    begins with that.

    Add the build number::

        import os

        def pytest_onnxcheck_update_record(config, record):
            record["build"] = os.environ.get("BUILD_NUMBER")
    """
