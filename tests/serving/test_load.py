"""Status requests, 200 at once, while jobs run: how long they take, and whether any job is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from serving.starting import ended, started

CONNECTIONS, SECONDS = 200, 15
#: what the exports differ in
OPSETS = (17, 18, 19, 20)


def test_status_is_told_while_models_are_exported(manifest: Path):
    with started(manifest) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        path = "/api/models/mlp/export-onnx"
        jobs = [client.post(path, json={"opset": opset}).json()["id"] for opset in OPSETS]
        asked = subprocess.run(
            [
                *(sys.executable, str(Path(__file__).with_name("client.py"))),
                *(str(urlsplit(url).port), str(SECONDS), str(CONNECTIONS)),
                *(f"/api/jobs/{job}" for job in jobs),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(asked.stdout)
        states = [ended(client, job)["state"] for job in jobs]
        listed = [job["id"] for job in client.get("/api/jobs").json()["jobs"]]
    took = found["ms"]
    quantiles = {share: took[int(len(took) * share)] for share in (0.5, 0.95, 0.99)}
    told = ", ".join(
        f"p{share:.0%} {ms:.0f} ms".replace("%", "") for share, ms in quantiles.items()
    )
    print(
        f"\n{len(took)} status requests, {CONNECTIONS} at once, while models were exported: {told}"
    )
    assert found["statuses"] == {"200": len(took)}
    assert states == ["done"] * len(jobs)
    assert set(jobs) <= set(listed)
