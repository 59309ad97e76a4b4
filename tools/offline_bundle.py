"""One file for machines without a network: ``python -m tools.offline_bundle FOLDER``, as ``make offline-bundle`` does.

It holds the project as it is in git, the packages of requirements.txt for this system and this Python, and the data
sets that are prepared under ``TFDS_DATA_DIR``. Unpacked, ``make`` finds both by itself.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from vae_lib.data import sources

ROOT = Path(__file__).resolve().parents[1]
NAME = "vae-offline"


def main() -> None:
    out = Path(sys.argv[1]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as place:
        target = bundle(out / f"{NAME}.tar", Path(place))
    print(f"wrote {target} ({target.stat().st_size / 1e9:.1f} GB)")


def bundle(target: Path, place: Path) -> Path:
    """Gather everything in ``place`` and pack it."""
    folder = place / NAME
    folder.mkdir()
    archive = place / "project.tar"
    subprocess.run(["git", "archive", "--output", str(archive), "HEAD"], cwd=ROOT, check=True)
    with tarfile.open(archive) as project:
        project.extractall(folder, filter="data")
    archive.unlink()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    command += ["-r", str(ROOT / "requirements.txt"), "--dest", str(folder / "wheels")]
    subprocess.run(command, check=True)
    data_dir, _ = sources.tfds_dir()
    for name, builder in sources.TFDS_BUILDERS.items():
        prepared = sources.prepared_folder(name, data_dir)
        if prepared is not None:
            shutil.copytree(prepared, folder / "tensorflow_datasets" / builder.replace(":", "/"))
            print(f"with {name} from {prepared}")
    with tarfile.open(target, "w") as packed:
        packed.add(folder, NAME)
    return target


if __name__ == "__main__":
    main()
