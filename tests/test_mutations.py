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
    options = ["--nbval", "-q", "-p", "no:cacheprovider", "--rootdir", str(copy), "-c", str(copy / "pyproject.toml")]
    result = run_python("-m", "pytest", *options, path, cwd=copy, PYTHONPATH=str(copy))
    assert result.returncode in (0, 1), result.stdout[-2000:]
    return result.returncode == 1


def replace(copy, module, old, new):
    path = copy / "vae_lib" / module
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_an_untouched_copy_passes(copy):
    assert not notebook_fails(copy, "04_latent_manifold.ipynb")


def test_a_sign_in_the_kl(copy):
    replace(copy, "losses.py", "tf.square(z_sigma) - 1.0 - z_log_var", "tf.square(z_sigma) - 1.0 + z_log_var")
    assert notebook_fails(copy, "02_building_a_vae.ipynb")


def test_a_line_of_the_manifold(copy):
    replace(copy, "latent.py", "np.meshgrid(values, values[::-1])", "np.meshgrid(values, values)")
    assert notebook_fails(copy, "04_latent_manifold.ipynb")


@pytest.mark.parametrize("checksum", ["as it was", "made to fit"])
def test_a_number_in_a_weight_file(copy, checksum):
    run = copy / "pickles" / "mnist_2"
    with h5py.File(run / "model.weights.h5", "r+") as file:
        arrays = []
        file.visititems(lambda name, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
        last = next(item for item in arrays if item.shape == (16,))  # the bias of the pixels of a patch
        last[0] = last[0] + 3.0
    if checksum == "made to fit":
        config = json.loads((run / "config.json").read_text())
        config["weights_sha256"] = hashlib.sha256((run / "model.weights.h5").read_bytes()).hexdigest()
        (run / "config.json").write_text(json.dumps(config))
    assert notebook_fails(copy, "04_latent_manifold.ipynb")
