"""From PyTorch to ONNX, and to a precision."""
