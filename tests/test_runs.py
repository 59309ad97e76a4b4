"""Run folders: what they hold, that they are complete or absent, and that they come back equal."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, run_python, small
from tools.halve import halved
from vae_lib.backend import keras
from vae_lib.config import RunConfig
from vae_lib.errors import Fault, UserError
from vae_lib.model import VAE, Encodings
from vae_lib.runs.folders import locked
from vae_lib.runs.places import list_runs
from vae_lib.runs.store import load_run, save_run, start_run, write_config

TINY = RunConfig.from_flat(2, num_filters=4, hidden_units=16)


def test_a_run_comes_back_equal_in_a_fresh_process(small_run, sample):
    assert {p.name for p in small_run.iterdir()} == {
        "config.json", "model.weights.h5", "history.csv", "metrics.json", "encodings.npz",
    }  # fmt: skip
    script = (
        "import sys, numpy as np; from vae_lib import load_run, load_data;"
        "r = load_run(sys.argv[1]); x = load_data('mnist', source='sample').test_images[:100];"
        "print(repr(r.metrics['test']['elbo']), repr(-r.history[-1]['test_elbo']),"
        "repr(float(r.model.elbo_arrays(x, seed=20).elbo.astype(np.float64).mean())))"
    )
    result = run_python("-c", script, str(small_run))
    assert result.returncode == 0, result.stderr
    recorded, history, recomputed = map(float, result.stdout.split())
    assert recorded == -history
    assert recomputed == pytest.approx(recorded, abs=1e-3)
    encodings = load_run(small_run).encodings
    codes = load_run(small_run).model.encode_arrays(small(sample).test_images)
    np.testing.assert_allclose(encodings.z_mean, codes.z_mean, atol=5e-3)  # half precision
    np.testing.assert_array_equal(encodings.labels, small(sample).test_labels)


def test_an_existing_run_is_not_overwritten_without_being_told(tmp_path):
    first, second = VAE.from_model_config(TINY.model), VAE(2, num_filters=4, hidden_units=16, seed=1)
    save_run(tmp_path / "run", first, metrics={"n": 1})
    with pytest.raises(UserError, match="overwrite"):
        save_run(tmp_path / "run", second)
    assert load_run(tmp_path / "run").metrics == {"n": 1}
    save_run(tmp_path / "run", second, metrics={"n": 2}, overwrite=True)
    assert load_run(tmp_path / "run").metrics == {"n": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_save_that_fails_leaves_the_old_run_and_nothing_else(tmp_path):
    save_run(tmp_path / "run", VAE.from_model_config(TINY.model), metrics={"n": 1})
    with pytest.raises(TypeError):
        save_run(tmp_path / "run", VAE.from_model_config(TINY.model), metrics={"n": object()}, overwrite=True)
    assert load_run(tmp_path / "run").metrics == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_default_names_carry_time_data_and_dimensions_and_never_collide(tmp_path, monkeypatch):
    monkeypatch.setattr("vae_lib.runs.places.project_dir", lambda name: tmp_path)
    names = {start_run(TINY).name for _ in range(3)}
    assert len(names) == 3
    assert all("_mnist_2" in name for name in names)


def test_finished_runs_are_listed_and_unfinished_ones_are_refused(tmp_path):
    save_run(tmp_path / "b", VAE.from_model_config(TINY.model))
    partial = start_run(TINY, tmp_path / "a")
    assert list_runs(tmp_path) == ["b"]
    with pytest.raises(UserError, match="not finished"):
        load_run(partial)


def test_weights_in_half_precision_take_half_the_room_and_load_as_single(tmp_path, sample):
    run = load_run(save_run(tmp_path / "run", VAE(2, num_filters=8), small(sample, 20, 10)))
    weights, file = run.model.get_weights(), run.path / "model.weights.h5"
    size = file.stat().st_size
    content = halved(file)
    file.write_bytes(content)
    write_config(run.path, run.config, hashlib.sha256(content).hexdigest())
    again = load_run(run.path).model
    assert file.stat().st_size < 0.6 * size
    for loaded, before in zip(again.weights, weights, strict=True):
        assert loaded.dtype == "float32"
        assert np.array_equal(loaded.numpy(), before.astype(np.float16).astype(np.float32))


def test_damage_is_recognised(tmp_path):
    path = save_run(
        tmp_path / "run",
        VAE.from_model_config(TINY.model),
        encodings=Encodings(*np.zeros([2, 2, 2], np.float32), np.zeros(2, int)),
    )
    weights = path / "model.weights.h5"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_run(path)
    record = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        load_run(path)


def test_an_unknown_run_names_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setattr("vae_lib.runs.places.project_dir", lambda name: tmp_path)
    save_run(tmp_path / "mnist_2", VAE.from_model_config(TINY.model))
    with pytest.raises(UserError, match="did you mean 'mnist_2'"):
        load_run("mnits_2")


def test_a_neighbour_called_old_is_left_alone(tmp_path):
    thesis = tmp_path / "vae.old" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    for _ in range(2):
        save_run(tmp_path / "vae", VAE.from_model_config(TINY.model), overwrite=True)
    assert thesis.read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["vae", "vae.old"]


def test_only_a_run_is_ever_replaced(tmp_path):
    photo = tmp_path / "photos" / "holiday.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"sea")
    with pytest.raises(UserError, match="is not a run"):
        save_run(photo.parent, VAE.from_model_config(TINY.model), overwrite=True)
    run = save_run(tmp_path / "run", VAE.from_model_config(TINY.model))
    (run / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes.txt, which is no part of a run"):
        save_run(run, VAE.from_model_config(TINY.model), overwrite=True)
    (tmp_path / "later.partial").mkdir()
    (tmp_path / "later.partial" / "draft").write_text("mine")
    with pytest.raises(UserError, match="is not a run"):
        save_run(tmp_path / "later", VAE.from_model_config(TINY.model), overwrite=True)
    assert photo.read_bytes() == b"sea"
    assert (run / "notes.txt").read_text() == "mine"
    assert (tmp_path / "later.partial" / "draft").read_text() == "mine"


def test_a_rename_that_fails_gives_the_old_run_back(tmp_path, monkeypatch):
    save_run(tmp_path / "run", VAE.from_model_config(TINY.model), metrics={"n": 1})
    real = Path.rename

    def rename(self, target):
        if self.name.endswith(".partial"):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(Fault, match="No space left"):
        save_run(tmp_path / "run", VAE.from_model_config(TINY.model), metrics={"n": 2}, overwrite=True)
    assert load_run(tmp_path / "run").metrics == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_an_unfinished_run_belongs_to_the_process_that_writes_it(tmp_path):
    partial = start_run(TINY, tmp_path / "run")
    script = (
        "import sys; from pathlib import Path; from vae_lib.runs.folders import locked\n"
        "with locked(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(partial)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b"locked\n"
    with pytest.raises(UserError, match="written by another process"):
        start_run(TINY, tmp_path / "run", overwrite=True)
    with pytest.raises(UserError, match="written by another process"), locked(partial):
        raise AssertionError("two processes hold one run")
    other.kill()
    other.communicate()
    assert start_run(TINY, tmp_path / "run", overwrite=True) == partial


def test_loading_a_run_traces_no_graph(small_run, monkeypatch):
    calls = []
    real = VAE.encode
    monkeypatch.setattr(VAE, "encode", lambda self, x: calls.append("encode") or real(self, x))
    run = load_run(small_run)
    assert calls == []
    run.model.encode_arrays(np.zeros([3, 28, 28, 1], np.uint8))
    assert calls == ["encode"]


def test_an_empty_shelf_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("VAE_LIB_HOME", str(tmp_path))
    with pytest.raises(UserError, match="train one, or set VAE_LIB_HOME"):
        load_run("mnist_2")
    save_run(tmp_path / "pickles" / "mine", VAE.from_model_config(TINY.model))
    assert list_runs() == ["mine"]
    assert load_run("mine").config.model == TINY.model


def test_a_model_is_saved_with_its_data_under_a_name(tmp_path, monkeypatch, sample):
    monkeypatch.setenv("VAE_LIB_HOME", str(tmp_path))
    vae, data = VAE.from_model_config(TINY.model), small(sample, 60, 20)
    vae.compile("adam")
    vae.fit(data.train_images, epochs=1, verbose=0)  # what the optimizer keeps is no part of a run
    save_run("mine", vae, data)
    run = load_run("mine")
    assert repr(run) == "Run('mine': mnist, 2 latent dimensions)"
    assert run.path == tmp_path / "pickles" / "mine"
    assert run.config.data.found == "sample"
    assert run.metrics["test"]["images"] == len(run.encodings.labels) == 20
    for a, b in zip(vae.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_with_own_networks_is_refused(tmp_path):
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(784), keras.layers.Reshape((28, 28, 1))])
    with pytest.raises(UserError, match=r"model.save\("):
        save_run(tmp_path / "run", VAE(2, decoder=decoder, num_filters=2, hidden_units=4))
    assert list(tmp_path.iterdir()) == []


def test_a_lack_of_memory_is_not_taken_for_a_damaged_file(small_run, monkeypatch):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(VAE, "load_weights", full)
    with pytest.raises(MemoryError):
        load_run(small_run)
