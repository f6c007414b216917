"""What was downloaded runs where there is nothing but onnxruntime and numpy."""

from __future__ import annotations

import pytest
from gated import Gated, gate
from services import clean

from pytest_onnxcheck.release import fetch, publish


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Gated:
    return gate(tmp_path_factory.mktemp("gated"))


@pytest.mark.parametrize("batch", [1, 5])
def test_a_downloaded_bundle_runs_by_its_own_metadata(batch, gated, clean_python, tmp_path):
    import numpy as np
    import torch

    uri = publish(gated.release().folder, tmp_path / "published").uri
    said = clean.run(clean_python, fetch(uri, tmp_path / "downloaded").folder, batch=batch)
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    net.load_state_dict(torch.load(gated.root / "net.pt"))
    with torch.no_grad():
        expected = net(torch.tensor(said["inputs"]["x"])).numpy()
    np.testing.assert_allclose(np.array(said["outputs"]["y"]), expected, atol=0.05)
    print(f"\n{uri}: downloaded, and run at batch {batch} with onnxruntime and numpy alone")
