"""conformance/families.toml is wide and not tuned; reading it needs no library of models."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pytest_onnxcheck.manifest import load_manifest

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "conformance" / "families.toml"


def test_it_is_valid_and_wide():
    manifest = load_manifest(MANIFEST)
    manifest.check()
    assert len(manifest.models) >= 30
    for model in manifest.models.values():
        exporters = {variant.exporter for variant in model.variants}
        assert exporters == {"dynamo", "torchscript"}, model.name


def test_no_tolerance_is_tuned_by_hand():
    written = tomllib.loads(MANIFEST.read_text())
    for table in (written["defaults"], *written["models"].values()):
        assert not {"tolerance", "probe_seconds", "skip", "draws"} & table.keys()
