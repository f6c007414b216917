"""What the tests of the manifest share: the smallest inputs and outputs, and how one is loaded."""

from pytest_onnxcheck.manifest import load_manifest

IO = """
[models.net.inputs.x]
shape = [1, 4]

[models.net.outputs.y]
shape = [1, 2]
"""


def load(folder, text):
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    manifest = load_manifest(path)
    manifest.check()
    return manifest
