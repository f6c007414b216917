"""A record that was merged from parts is released as one of a single run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gated import Gated

from pytest_onnxcheck.api.merge import merge
from pytest_onnxcheck.errors import MergeError
from pytest_onnxcheck.release import bundle


def test_a_merged_record_is_released_and_one_of_a_part_is_not(gated: Gated, tmp_path: Path):
    parts = []
    for number, model in enumerate(("net", "free"), 1):
        record = json.loads(gated.path.read_text())
        record["checks"] = [entry for entry in record["checks"] if entry["model"] == model]
        record["shard"] = {"index": number, "count": 2}
        parts.append(tmp_path / f"part{number}.json")
        parts[-1].write_text(json.dumps(record))
    manifest = gated.root / "models.toml"
    made = merge(parts, tmp_path / "merged", expect=manifest)
    whole = bundle(gated.path, manifest, tmp_path / "one", "net", allow_dirty=True)
    joined = bundle(made.files[0], manifest, tmp_path / "other", "net", allow_dirty=True)
    assert joined.files == whole.files
    assert joined.metadata.sha256 == whole.metadata.sha256
    with pytest.raises(MergeError, match="shard 2/2 is missing"):
        merge(parts[:1], tmp_path / "again")
