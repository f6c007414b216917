"""Reference models, data and training scripts that pytest-onnxcheck is checked against."""
