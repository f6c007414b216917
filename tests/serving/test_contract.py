"""The API does what its description says: schemathesis asks the running server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import threading
from pathlib import Path

import httpx
from serving.starting import ended, started

#: `--phases` has four: examples, coverage, fuzzing, and sequences of requests
SECONDS = 150
LEAST = 1000


#: what a file has to be like cannot be said in a schema
CONFIG = """
[[operations]]
include-path = "/models/{name}/checkpoints"
checks.positive_data_acceptance.enabled = false
"""


def test_no_answer_is_undocumented_and_none_is_a_500(manifest: Path, tmp_path: Path):
    schemathesis = shutil.which("st", path=sysconfig.get_path("scripts"))
    assert schemathesis is not None
    with started(manifest, "--uploads", "--upload-limit", "1MB") as (url, _):
        with httpx.Client(base_url=url, timeout=60) as client:
            jobs = [
                client.post(f"/api/models/mlp/{what}", json={"precisions": ["fp32"]}).json()["id"]
                for what in ("export-onnx", "validate")
            ]
            assert [ended(client, job)["state"] for job in jobs] == ["done", "done"]
        (tmp_path / "schemathesis.toml").write_text(CONFIG)
        over = threading.Event()
        cancelling = threading.Thread(target=_cancel_all, args=(url, over))
        cancelling.start()
        try:
            run = subprocess.run(
                [
                    *(schemathesis, "run", f"{url}/api/openapi.json", "--no-color"),
                    *("--continue-on-failure", "--seed", "1", "--max-time", str(SECONDS)),
                    *("--request-timeout", "60"),
                    # DELETE cancels a job: what it did can be looked at as before
                    *("--exclude-checks", "use_after_free"),
                ],
                cwd=tmp_path,
                env={
                    **os.environ,
                    "SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("hooks.py")),
                    "ONNXCHECK_JOBS": " ".join(jobs),
                },
                capture_output=True,
                text=True,
            )
        finally:
            over.set()
            cancelling.join()
    print(run.stdout[run.stdout.rfind("= SUMMARY") :])
    assert run.returncode == 0, run.stdout + run.stderr
    cases = re.search(r"(\d+) generated", run.stdout)
    assert cases is not None
    assert int(cases[1]) >= LEAST


def _cancel_all(url: str, over: threading.Event) -> None:
    """Cancels what waits, so that the queue does not fill up."""
    with httpx.Client(base_url=url, timeout=60) as client:
        while not over.wait(0.1):
            for job in client.get("/api/jobs").json()["jobs"]:
                if job["ended"] is None:
                    client.delete(f"/api/jobs/{job['id']}")
