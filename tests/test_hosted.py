"""The notebooks as a host runs them: alone in an empty folder, where their first cell installs the package.

``make large`` runs all of them, and ``make torture`` one.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from tests.conftest import ROOT
from tools.hosted import TAG, address, badges, hosted, install_cell

NOTEBOOKS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/*.ipynb"))
FEW = ("notebooks/05_latent_sliders.ipynb",)  # which loads trained models
SECONDS = 900


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_the_first_cell_and_the_badges_have_the_projects_address(path):
    book = nbformat.read(ROOT / path, as_version=4)
    assert book.cells[1].source == install_cell(address())
    assert TAG in book.cells[1].metadata["tags"]
    assert badges(address(), path) in book.cells[0].source
    assert nbformat.writes(hosted(nbformat.read(ROOT / path, as_version=4), address(), path)) == nbformat.writes(book)


def test_a_fork_changes_one_line():
    book = nbformat.read(ROOT / NOTEBOOKS[0], as_version=4)
    changed = nbformat.writes(hosted(book, "https://github.com/someone/else", NOTEBOOKS[0]))
    assert address() not in changed
    assert changed.count("someone/else") == 3


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    """A Python that has TensorFlow and Jupyter, as a host has them, but not this package; and the package's wheel."""
    place = tmp_path_factory.mktemp("host")
    copy = place / "source"  # setuptools leaves files where it builds
    ignore = shutil.ignore_patterns(".git", ".venv*", "build", "*.egg-info", "__pycache__", "demo*", "[0-9]*_*_[0-9]")
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "train_VAE.py"):
        shutil.copy(ROOT / name, copy / name)
    for name in ("vae_lib", "pickles"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "--wheel-dir", place, copy], check=True)
    (wheel,) = place.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    (packages,) = (place / "venv" / "lib").glob("*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        ours = entry.name.startswith(("vae_lib", "__editable__"))
        if not ours and not os.path.lexists(packages / entry.name):
            (packages / entry.name).symlink_to(entry)
    return place / "venv" / "bin" / "python", wheel


def run_hosted(host, path, folder):
    python, wheel = host
    book = nbformat.read(ROOT / path, as_version=4)
    wanted = f'"vae-lib @ git+{address()}"'
    assert wanted in book.cells[1].source
    book.cells[1].source = book.cells[1].source.replace(wanted, f'"{wheel}"')
    nbformat.write(book, folder / "notebook.ipynb")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VAE_LIB_HOME", "TFDS_DATA_DIR")}
    environment |= {
        "HOME": str(folder),
        "VAE_LIB_CACHE": str(folder / "cache"),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }
    options = ["--nbval-lax", f"--nbval-cell-timeout={SECONDS}", "-q", "-x", "--rootdir", folder]
    settings = {"cwd": folder, "env": environment, "capture_output": True, "text": True, "check": False}
    ran = subprocess.run([python, "-m", "pytest", *options, "notebook.ipynb"], timeout=SECONDS, **settings)
    assert ran.returncode == 0, ran.stdout[-3000:]
    where = subprocess.run([python, "-c", "import vae_lib; print(vae_lib.__file__)"], **settings)
    assert "site-packages" in where.stdout


@pytest.mark.torture
@pytest.mark.parametrize("path", FEW)
def test_a_notebook_installs_the_package_and_runs_alone(host, path, tmp_path):
    run_hosted(host, path, tmp_path)


@pytest.mark.large
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path not in FEW])
def test_the_other_notebooks_do_too(host, path, tmp_path):
    run_hosted(host, path, tmp_path)
