"""Sessions of ONNX Runtime and of what stands for it."""
