"""Five folds by a pattern: one that fails does not stop the others."""

from pathlib import Path

from pytest_onnxcheck.api.export import export_each, matching

failed = 0
for outcome in export_each(matching("folds/*.pt"), output=Path("release")):
    failed += not outcome.ok
    print(outcome.checkpoint, "exported" if outcome.ok else f"failed: {outcome.error}")
raise SystemExit(failed > 0)
