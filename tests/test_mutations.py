"""A mistake in the code, or in a shipped weight, makes a notebook fail: what its cells print is really compared."""

import hashlib
import json
import subprocess

import h5py
import pytest

from tests.conftest import ROOT, run_python

pytestmark = pytest.mark.torture


@pytest.fixture
def copy(tmp_path):
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, files.split("\0")):
        if not name.endswith((".gif", "requirements.txt")) and (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def notebook_fails(copy, name):
    path = str(copy / "notebooks" / name)
    options = ["--nbval", "-x", "-q", "-p", "no:cacheprovider", "--rootdir", str(copy)]
    settings = str(copy / "pyproject.toml")
    result = run_python("-m", "pytest", *options, "-c", settings, path, cwd=copy, PYTHONPATH=str(copy))
    assert result.returncode in (0, 1), result.stdout[-2000:]
    return result.returncode == 1


def replace(copy, module, old, new):
    path = copy / "vae_lib" / module
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


MANIFOLD, BUILDING, SLIDERS = "04_latent_manifold.ipynb", "02_building_a_vae.ipynb", "05_latent_sliders.ipynb"
BOUNDS, PACKED = "06_how_good_is_it.ipynb", "09_without_an_encoder.ipynb"
MUTANTS = {  # what is changed, from what, to what, and the notebook that must notice
    "a sign in the KL": (
        "losses.py",
        "tf.square(z_sigma) - 1.0 - z_log_var",
        "tf.square(z_sigma) - 1.0 + z_log_var",
        BUILDING,
    ),
    "rows of the grid upside down": (
        "latent.py",
        "np.meshgrid(values, values[::-1])",
        "np.meshgrid(values, values)",
        MANIFOLD,
    ),
    "equal steps for quantiles": (
        "latent.py",
        "return np.array([NormalDist().inv_cdf(p) for p in shares])",
        "return np.linspace(NormalDist().inv_cdf(low), NormalDist().inv_cdf(high), n)",
        MANIFOLD,
    ),
    "a spiral that jumps": (
        "latent.py",
        "row, column = row + step[0], column + step[1]",
        "row, column = row + step[0], (column + step[1]) % (n - 1)",
        MANIFOLD,
    ),
    "a plane of raw components": (
        "latent.py",
        "axes = directions[:2] * (singular[:2, None] / np.sqrt(len(z_mean) - 1))",
        "axes = directions[:2]",
        MANIFOLD,
    ),
    "tiles by columns": (
        "figures.py",
        "return grid.transpose(0, 2, 1, 3, 4)",
        "return grid.transpose(1, 2, 0, 3, 4)",
        MANIFOLD,
    ),
    "KL without the means": (
        "evaluation.py",
        "return 0.5 * (np.square(z_mean) + np.exp(z_log_var) - 1.0 - z_log_var)",
        "return 0.5 * (np.exp(z_log_var) - 1.0 - z_log_var)",
        SLIDERS,
    ),
    "an explorer that forgets its code": (
        "sliders.py",
        "self._z = np.array(code, np.float32)",
        "self._z = np.zeros(len(code), np.float32)",
        SLIDERS,
    ),
    "an integral without its cells": (
        "marginal.py",
        "return Exact(total - _base(model, flat),",
        "return Exact(total + 0.5 - _base(model, flat),",
        BOUNDS,
    ),
}


def test_an_untouched_copy_passes(copy):
    assert not notebook_fails(copy, MANIFOLD)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_in_the_code(copy, mutant):
    module, old, new, notebook = MUTANTS[mutant]
    replace(copy, module, old, new)
    assert notebook_fails(copy, notebook)


@pytest.mark.parametrize(
    ("run", "checksum", "notebook"),
    [
        ("mnist_2", "as it was", MANIFOLD),
        ("mnist_2", "made to fit", MANIFOLD),
        pytest.param("mnist_2_exact", "made to fit", PACKED, marks=pytest.mark.large),
    ],
)
def test_a_number_in_a_weight_file(copy, run, checksum, notebook):
    run = copy / "pickles" / run
    with h5py.File(run / "model.weights.h5", "r+") as file:
        arrays = []
        file.visititems(lambda name, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
        last = next(item for item in arrays if item.shape == (16,))  # the bias of the pixels of a patch
        last[0] = last[0] + 3.0
    if checksum == "made to fit":
        config = json.loads((run / "config.json").read_text())
        config["weights_sha256"] = hashlib.sha256((run / "model.weights.h5").read_bytes()).hexdigest()
        (run / "config.json").write_text(json.dumps(config))
    assert notebook_fails(copy, notebook)
