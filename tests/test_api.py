"""The public API as a user meets it: from a checkout, in a notebook, and from an installed wheel."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
import yaml

from tests.conftest import ROOT, run_python
from tests.test_shipped import SHIPPED

BLOCK = ROOT / "tests" / "api_block.py"
SAYS = "Run('mine': mnist, 2 latent dimensions) Explorer(2 latent dimensions)"


@pytest.mark.slow
def test_from_a_checkout(tmp_path):
    result = run_python(str(BLOCK), cwd=tmp_path, VAE_LIB_HOME=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == SAYS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.csv", "mine.keras", "pickles"]


@pytest.mark.torture
def test_in_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_LIB_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = [nbformat.v4.new_code_cell(part) for part in BLOCK.read_text().split("\n\n")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    # pyzmq may miss that a reply has come, and then looks again when the time is up.
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    assert notebook.cells[-1].outputs[-1].text.strip() == SAYS


# ---- Real installations, in an environment of their own: make torture ----------------------------------------


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """The folder of an empty environment into which the pins are installed as conda does it.

    conda writes the pip section of environment.yml to a file beside it and gives that to one call of pip.
    """
    folder = tmp_path_factory.mktemp("environment")
    for name in ("environment.yml", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    section = yaml.safe_load((folder / "environment.yml").read_text())["dependencies"][-1]["pip"]
    (folder / "section.txt").write_text("\n".join(section) + "\n")
    subprocess.run([sys.executable, "-m", "venv", "empty"], cwd=folder, check=True)
    pip(folder, "install", "--no-compile", "-r", "section.txt")
    return folder


def pip(environment: Path, *arguments: str, cwd: Path | None = None) -> None:
    command = [str(environment / "empty" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run([*command, *arguments], cwd=cwd or environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def copy_of_the_source(folder: Path) -> Path:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "vae_lib", folder / "vae_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for run in SHIPPED:
        shutil.copytree(ROOT / "pickles" / run, folder / "pickles" / run)
    return folder


@pytest.mark.torture
@pytest.mark.xdist_group("installations")  # which share an environment
def test_an_editable_install_beside_the_pins(environment, tmp_path):
    source = copy_of_the_source(tmp_path)
    pip(environment, "install", "--no-deps", "--no-build-isolation", "-e", ".", cwd=source)
    pip(environment, "check")
    pip(environment, "uninstall", "-y", "vae-lib")


@pytest.fixture(scope="module")
def wheel(environment, tmp_path_factory) -> Path:
    source = copy_of_the_source(tmp_path_factory.mktemp("source"))
    pip(environment, "wheel", "--no-deps", "--no-build-isolation", "-w", str(environment), ".", cwd=source)
    shutil.rmtree(source)
    return next(environment.glob("*.whl"))


def runner(environment: Path, here: Path):
    """A function that runs a program of an environment in the folder ``here`` and returns what it prints."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VAE_LIB_HOME")}

    def run(program: str, *arguments: str) -> str:
        command = [str(environment / "empty" / "bin" / program), *arguments]
        result = subprocess.run(command, cwd=here, env=clean, capture_output=True, text=True, check=False, timeout=300)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.mark.torture
@pytest.mark.xdist_group("installations")  # which share an environment
def test_the_oldest_tensorflow_and_tensorboard(wheel, tmp_path):
    """The lower bounds of TensorFlow and Keras; everything else as in the pins."""
    project, pins = ((ROOT / name).read_text() for name in ("pyproject.toml", "requirements.txt"))
    oldest = {name: version for name, version in re.findall(r'"(tensorflow|keras)>=([\d.]+)', project)}
    others = re.findall(r"^(?!tensorflow=|keras=)[\w.-]+==[^\\\n]+", pins, re.MULTILINE)
    constraints = [f"{name}=={version}" for name, version in oldest.items()] + others
    (tmp_path / "constraints.txt").write_text("\n".join(constraints) + "\n")
    subprocess.run([sys.executable, "-m", "venv", "empty"], cwd=tmp_path, check=True)
    pip(tmp_path, "install", "--no-compile", "-c", "constraints.txt", f"vae-lib[tensorboard] @ {wheel.as_uri()}")
    run = runner(tmp_path, tmp_path)
    versions = run("python", "-c", "import tensorflow, keras; print(tensorflow.__version__, keras.__version__)").split()
    assert all(found.startswith(wanted) for found, wanted in zip(versions, oldest.values(), strict=True))
    shutil.copy(BLOCK, tmp_path)
    assert run("python", "api_block.py").splitlines()[-1] == SAYS
    (tmp_path / "watched.py").write_text(
        "import keras\n"
        "from vae_lib import VAE, load_data, train\n"
        "digits = load_data('mnist', source='sample').train_images\n"
        "train(VAE(2, num_filters=4), digits, epochs=1, callbacks=[keras.callbacks.TensorBoard('logs')])\n"
    )
    run("python", "watched.py")
    assert list(tmp_path.glob("logs/train/events.*"))


@pytest.mark.torture
@pytest.mark.xdist_group("installations")  # which share an environment
def test_from_an_installed_wheel(environment, wheel, tmp_path):
    """Outside of the checkout, in an empty folder: the block, and every command."""
    here, run = tmp_path, runner(environment, tmp_path)
    pip(environment, "install", "--no-deps", str(wheel))
    shutil.copy(BLOCK, here)
    assert run("python", "api_block.py").splitlines()[-1] == SAYS
    run(
        "vae", "train", "-l", "2", "--source", "sample", "--epochs", "1", "--num-filters", "4", "--out", "pickles/small"
    )
    runs = sorted([*SHIPPED, "mine", "small"])  # the package brings the shipped ones along
    assert run("vae", "list").split() == runs
    assert run("python", "-m", "vae_lib", "list").split() == runs
    run("vae", "manifold", "mnist_2", "--tiles", "4")
    for command in (["manifold", "--tiles", "4"], ["animate", "--tiles", "4"], ["samples"]):
        run("vae", command[0], "small", *command[1:])
    for command in (["evaluate", "--images", "20", "--no-exact"], ["reconstruct"], ["export"]):
        run("vae", command[0], "small", "--source", "sample", *command[1:])
    made = sorted(str(path.relative_to(here)) for path in here.glob("img/*"))
    assert made == [
        "img/mnist_2.png",
        "img/reconstructions_small.png",
        "img/samples_small.png",
        "img/small.gif",
        "img/small.png",
    ]
    assert (here / "small.html").stat().st_size > 100_000
