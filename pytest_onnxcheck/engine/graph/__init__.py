"""ONNX in memory: no session is opened here."""
