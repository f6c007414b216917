"""An older ONNX Runtime that the manifest names: artefacts are made for it, and held to it."""

import onnx
from project import Project

NET = """
[models.net]
factory = "nets.py:mlp"
exporters = ["dynamo"]
opsets = [{opset}]
precisions = {precisions}
dims = {{ batch = [2, 3] }}
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
deploy.onnxruntime = "{deploy}"
"""


def test_an_export_is_lowered_for_an_older_runtime_and_says_so(project: Project):
    project.manifest(NET.format(opset=18, deploy=">=1.16", precisions=["fp32", "int8-dynamic"]))
    project.run("-k", "structure")
    for precision in ("fp32", "int8-dynamic"):
        variant = f"dynamo-op18-{precision}"
        assert project.outcomes()[f"net::{variant}::test_structure"] == "passed"
        check = next(c for c in project.record["checks"] if c["variant"] == variant)
        (finding,) = check["findings"]
        assert finding["text"].startswith("9 in place of the exporter's 10, so that onnxruntime")
        assert check["measurement"]["runtime"]["lowered_from"] == 10
    for file in project.path.glob(".onnxcheck/net/*/*/model.onnx"):
        assert onnx.load(file, load_external_data=False).ir_version == 9


def test_an_opset_that_an_older_runtime_lacks_fails(project: Project):
    project.manifest(NET.format(opset=20, deploy=">=1.16", precisions=["fp32"]))
    project.run("-k", "structure")
    assert (
        "onnxruntime >=1.16: 1.16 does not load the file: opset 20 of ai.onnx, and it has 19. "
        "Export at a lower opset"
    ) in project.reason("net::dynamo-op20-fp32::test_structure")


def test_a_given_file_is_left_as_it_is(project: Project):
    text = "net (float[batch,8] x) => (float[batch,8] y) { y = Relu(x) }"
    net = onnx.parser.parse_model(f'<ir_version: 11, opset_import: ["" : 24]> {text}')
    onnx.save(net, project.path / "net.onnx")
    project.manifest(
        """
        [models.net]
        factory = "torch.nn:ReLU"
        onnx = "net.onnx"
        dims = { batch = [2, 3] }
        inputs.x.shape = ["batch", 8]
        outputs.y.shape = ["batch", 8]
        deploy.onnxruntime = ">=1.17"
        """
    )
    before = (project.path / "net.onnx").read_bytes()
    project.run("-k", "structure")
    assert (
        "1.17 does not load the file: IR version 11, and it reads 9 and older; opset 24 of "
        "ai.onnx, and it has 20."
    ) in project.reason("net::file-fp32::test_structure")
    assert (project.path / "net.onnx").read_bytes() == before
