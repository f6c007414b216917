"""Holds the table of ONNX Runtime's releases against real ones, on the artefacts of the zoo.

    python -m conformance.compat [--manifest models.toml] [--releases 1.17 1.32]

Each artefact is looked up in the table and run in each release; so is a copy in the oldest IR
version that its contents allow, which old releases do not refuse at once. Exits with 1 where the
two disagree.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pytest_onnxcheck.api.compat import compat
from pytest_onnxcheck.engine.artefacts.artefact import artefact_files
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.convert.ir_version import needed_ir_version
from pytest_onnxcheck.errors import StageError
from pytest_onnxcheck.manifest import load_manifest

#: the oldest that installs, and others on the way to the newest
RELEASES = ("1.15", "1.17", "1.20", "1.24", "1.32")


def main() -> int:
    """Prints counts, and every disagreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, default=Path("models.toml"))
    parser.add_argument("--releases", nargs="+", default=RELEASES)
    parser.add_argument("--work", type=Path, default=Path(".onnxcheck"))
    chosen = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    files = wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, path in _files(chosen.manifest, chosen.work, Path(folder)):
            files += 1
            found = compat(path, run=True, releases=chosen.releases, folder=chosen.work)
            for release in found.releases:
                if release.tried is None:
                    counts[release.version, "not run"] += 1
                    print(f"{name} in {release.version}: not run: {release.not_run}")
                    wrong += 1
                    continue
                said = "does not load" if release.obstacles else "loads"
                counts[release.version, said if found.ran else f"{said} (loaded alone)"] += 1
                if not release.agrees:
                    wrong += 1
                    print(f"DISAGREES {name} in {release.tried}: the table says it {said}")
                    print(f"  table: {'; '.join(release.obstacles) or 'loads'}")
                    print(f"  run: {release.problem or 'loads and runs'}", flush=True)
    for (version, said), count in sorted(counts.items()):
        print(f"{version}: {count} {said}")
    print(f"{files} files, {sum(counts.values())} verdicts, {wrong} disagreements")
    return 1 if wrong or not files else 0


def _files(manifest: Path, work: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Every artefact of the manifest, and a copy in its oldest IR version."""
    import onnx

    builds = Builds(work)
    for model in load_manifest(manifest).models.values():
        for variant in model.variants:
            name = f"{model.name}/{variant.name}"
            try:
                artefact = builds.artefact(builds.reference(model), variant)
            except StageError as error:
                print(f"{name}: not built: {error}")
                continue
            yield name, artefact.path
            loaded = onnx.load(artefact.path, load_external_data=False)
            needed = needed_ir_version(loaded)
            if needed < loaded.ir_version:
                place = folder / name
                place.mkdir(parents=True)
                for file in artefact_files(artefact.path):
                    shutil.copyfile(file, place / file.relative_to(artefact.path.parent))
                loaded.ir_version = needed
                copy = place / artefact.path.name
                copy.write_bytes(loaded.SerializeToString())
                yield f"{name} (IR version {needed})", copy
                shutil.rmtree(place)


if __name__ == "__main__":
    sys.exit(main())
