"""Validation only: an .onnx that somebody else exported, against the weights it came from."""

from pytest_onnxcheck import inspect, validate_onnx

contents = inspect("shipped.onnx").contents
print(f"opset {contents.opsets['ai.onnx']}, ONNX Runtime {contents.oldest_onnxruntime} and later")
checked = validate_onnx("shipped.onnx", "model.pt")
print(checked.grade, f"max difference {checked.closeness.max_abs:.1e}", *checked.failures)
raise SystemExit(checked.grade == "fail")
