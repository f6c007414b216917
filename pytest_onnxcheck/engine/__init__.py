"""Everything that touches torch, onnx and onnxruntime; they are imported inside functions."""
