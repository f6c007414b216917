"""What each release of ONNX Runtime loads, found out by asking it."""
