"""Spoilt checkpoints: state_dicts, safetensors, archives, folders of shards."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from random import Random

import torch
from mutate import odd, spoil_bytes, spoil_document
from safetensors.torch import save

from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.manifest.load import parse_manifest

_MANIFEST = """
schema = 1
[models.net]
factory = "nets.py:net"
checkpoint = "{name}"
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
"""

_NETS = """
from torch import nn


def net():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
"""


class Subject:
    """Checkpoints of a small network."""

    def __init__(self, name: str, work: Path) -> None:
        torch.set_num_threads(1)
        self.work = work
        (work / "nets.py").write_text(_NETS)
        net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
        self.state = net.state_dict()
        torch.save(self.state, work / "net.pt")
        torch.save(self.state, work / "old.pt", _use_new_zipfile_serialization=False)
        torch.save({"model": self.state, "epoch": 3}, work / "nested.pt")
        torch.jit.script(net).save(str(work / "script.pt"))
        (work / "net.safetensors").write_bytes(save(self.state))
        self.kinds = ("net.pt", "old.pt", "nested.pt", "script.pt", "net.safetensors")

    def warm(self) -> None:
        for name in ("net.pt", "net.safetensors"):
            self._load(self.work / name)

    def make(self, rng: Random, folder: Path) -> Path:
        name = rng.choice((*self.kinds, "shards", "pickle"))
        if name == "shards":
            return self._shards(rng, folder)
        path = folder / name
        if name == "pickle":
            path.write_bytes(spoil_bytes(rng, pickle.dumps(spoil_document(rng, {"a": [1, "x"]}))))
            return path
        whole = (self.work / name).read_bytes()
        if name == "net.safetensors" and rng.random() < 0.5:
            path.write_bytes(_header(rng, whole))
        elif name.endswith(".pt") and name != "old.pt" and rng.random() < 0.6:
            _members(rng, self.work / name, path)
        else:
            path.write_bytes(spoil_bytes(rng, whole))
        return path

    def attempt(self, made: Path) -> None:
        self._load(made)

    def _shards(self, rng: Random, folder: Path) -> Path:
        weights = folder / "shards"
        weights.mkdir()
        (weights / "one.safetensors").write_bytes(save(self.state))
        (weights / "config.json").write_text("{}")
        index = {"metadata": {}, "weight_map": dict.fromkeys(self.state, "one.safetensors")}
        outside = ("../../../outside/secret.bin", str(self.work.parent / "outside/secret.bin"))
        spoilt = spoil_document(rng, index)
        if rng.random() < 0.3:
            spoilt = {"weight_map": {**dict.fromkeys(self.state, rng.choice(outside))}}
        (weights / "model.safetensors.index.json").write_text(json.dumps(spoilt))
        return weights

    def _load(self, path: Path) -> None:
        text = _MANIFEST.format(name=path.relative_to(self.work))
        manifest = parse_manifest(text, self.work / "models.toml")
        manifest.check()
        load_reference(manifest.models["net"])


def _header(rng: Random, whole: bytes) -> bytes:
    """Safetensors whose table is spoilt and fits its length."""
    length = int.from_bytes(whole[:8], "little")
    table = spoil_document(rng, json.loads(whole[8 : 8 + length]))
    if rng.random() < 0.3 and isinstance(table, dict) and table:
        table[rng.choice(list(table))] = odd(rng)
    written = json.dumps(table).encode()
    return len(written).to_bytes(8, "little") + written + whole[8 + length :]


def _members(rng: Random, source: Path, target: Path) -> None:
    """An archive one of whose members is spoilt, packed, doubled, or a bomb."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as written:
        names = archive.namelist()
        chosen, how = rng.choice(names), rng.randrange(5)
        for name in names:
            data = archive.read(name)
            if name == chosen and how in (0, 1):
                data = spoil_bytes(rng, data)
            if name == chosen and how == 2:
                continue
            if name == chosen and how == 3:
                data = bytes(1 << 29)
            packed = zipfile.ZIP_DEFLATED if how >= 3 else zipfile.ZIP_STORED
            written.writestr(name, data, compress_type=packed, compresslevel=1)
