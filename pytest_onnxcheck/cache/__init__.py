"""Files that were built once, kept under a key and checked whenever they are used again.

It knows nothing of ONNX: an entry is a few files and what their builder noted.
"""
