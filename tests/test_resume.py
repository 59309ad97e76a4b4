"""Interrupted and resumed runs end with the same bits as uninterrupted ones."""

import io
import itertools
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from tests.conftest import ROOT, exit_status, run_python, small
from vae_lib import cli
from vae_lib.config import RunConfig
from vae_lib.errors import UserError
from vae_lib.runs import checkpoints
from vae_lib.runs.lifecycle import Interrupted, resume_run, train_run
from vae_lib.runs.store import load_run

TINY = {"latent_dim": 2, "num_filters": 4, "hidden_units": 16, "epochs": 3, "checkpoint_every": 4}
TRAIN = str(ROOT / "train_VAE.py")


class Stop(Exception):
    """A fault in the middle of training."""


def bits(folder):
    run = load_run(folder)
    return [w.tobytes() for w in run.model.get_weights()], run.history


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("moment", ["step", "epoch"])
def test_a_stopped_run_resumes_to_the_same_bits(sample, tmp_path, mode, moment):
    data, config = small(sample, 430, 50), RunConfig.from_flat(**TINY, mode=mode)
    whole = train_run(config, data, tmp_path / "whole")

    def fault(*arguments):
        if moment == "step" and arguments[:2] == (1, 7):
            raise Stop
        if moment == "epoch" and arguments[0]["epoch"] == 2:
            raise Stop

    hook = {"step": "report", "epoch": "after_epoch"}[moment]
    # Chunks follow the clock, so the fault is placed by making every chunk one step long.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vae_lib.trainer.CHUNK_SECONDS", 0.0)
        with pytest.raises(Stop):
            train_run(config, data, tmp_path / "part", **{hook: fault})
    assert len(list((tmp_path / "part.partial" / "checkpoints").iterdir())) == 2
    assert bits(resume_run(tmp_path / "part.partial", data)) == bits(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part", "whole"]


def test_patience_stops_early_keeps_the_best_and_survives_a_resume(sample, tmp_path):
    options = TINY | {"epochs": 40, "learning_rate": 0.03, "schedule": "constant", "patience": 2}
    data, config = small(sample, 300, 50), RunConfig.from_flat(**options)
    whole = train_run(config, data, tmp_path / "whole")
    history = load_run(whole).history
    scores = [row["validation_elbo"] for row in history]
    assert len(history) < 40
    assert np.argmax(scores) == len(scores) - 3

    def fault(row):
        if row["epoch"] == len(history) - 1:  # after the best epoch
            raise Stop

    with pytest.raises(Stop):
        train_run(config, data, tmp_path / "part", after_epoch=fault)
    resumed = resume_run(tmp_path / "part.partial", data)
    assert bits(resumed) == bits(whole)
    best = history[int(np.argmax(scores))]
    assert load_run(whole).metrics["test"]["elbo"] == pytest.approx(best["test_elbo"], abs=1e-3)


def test_a_checkpoint_comes_back_equal_and_a_damaged_one_is_passed_over(tmp_path):
    rng = np.random.default_rng(0)
    states = []
    for epoch in range(3):
        state = checkpoints.State(
            7, [{"epoch": 1 / 3}] * epoch, rng.random([4, 2], np.float32), [rng.random([3, 2])], [rng.random(5)], 1
        )
        checkpoints.save(tmp_path, state)
        states.append(state)
    paths = sorted((tmp_path / "checkpoints").iterdir())
    assert len(paths) == 2
    back = checkpoints.load(tmp_path)
    assert (back.n_images, back.history, back.best_epoch) == (7, states[2].history, 1)
    np.testing.assert_array_equal(back.losses, states[2].losses)
    np.testing.assert_array_equal(back.variables[0], states[2].variables[0])
    np.testing.assert_array_equal(back.best[0], states[2].best[0])
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    assert checkpoints.load(tmp_path).history == states[1].history
    for damage in (b"", claiming(paths[0], (10**15,))):
        paths[0].write_bytes(damage)
        with pytest.raises(UserError, match="damaged"):
            checkpoints.load(tmp_path)


def claiming(path, shape):
    """A checkpoint in which the header of an array claims a shape that the file does not hold."""
    array, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"shape": shape, "fortran_order": False, "descr": "<f8"})
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, array.getvalue() if entry.filename == "a0000.npy" else old.read(entry))
    return buffer.getvalue()


def test_a_run_resumes_only_on_its_own_images(sample, tmp_path):
    config = RunConfig.from_flat(**TINY)
    with pytest.raises(ZeroDivisionError):
        train_run(config, small(sample, 200, 20), tmp_path / "run", after_epoch=lambda row: 1 / 0)
    with pytest.raises(UserError, match=r"not the images that the run .* began with"):
        resume_run(tmp_path / "run.partial", small(sample, 100, 20))
    turned = small(sample, 200, 20)
    turned = turned._replace(train_images=turned.train_images[:, ::-1])
    with pytest.raises(UserError, match="not the images"):
        resume_run(tmp_path / "run.partial", turned)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(sample, tmp_path, number):
    data, config = small(sample, 430, 50), RunConfig.from_flat(**TINY | {"checkpoint_every": 0})
    before = signal.getsignal(number)
    with pytest.raises(Interrupted):
        train_run(config, data, tmp_path / "run", report=lambda *a: signal.raise_signal(number))
    state = checkpoints.load(tmp_path / "run.partial")
    assert 0 < len(state.losses) < 9
    assert signal.getsignal(number) == before
    whole = train_run(config, data, tmp_path / "whole")
    assert bits(resume_run(tmp_path / "run.partial", data)) == bits(whole)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal(tmp_path):
    out = tmp_path / "my run"
    arguments = ["-l", "2", "--epochs", "200", "--source", "sample", "--num-filters", "4", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, TRAIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "epoch 1/200" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(rf"train_VAE.py: interrupted; saved; go on with: .* --resume '{out}'\n", errors)
    resumed = subprocess.Popen([sys.executable, TRAIN, "--resume", str(out)], stdout=subprocess.PIPE, text=True)
    first = resumed.stdout.readline()
    resumed.send_signal(signal.SIGINT)
    resumed.communicate(timeout=60)
    assert int(re.match(r"epoch (\d+)/200", first)[1]) > 1
    assert (tmp_path / "my run.partial").is_dir()


@pytest.mark.parametrize("arguments", [["--resume", "nowhere"], ["--resume", "x", "--epochs", "3"], ["--resume"]])
def test_what_cannot_be_resumed_is_refused(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status = exit_status(cli.train_main, arguments)
    assert status == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_finished_run_is_not_resumed(small_run, capsys):
    assert cli.train_main(["--resume", str(small_run)]) == 2
    assert "finished" in capsys.readouterr().err


def test_an_older_process_leaves_nothing_behind_when_killed(tmp_path):
    """A process that dies while it writes a checkpoint leaves the older ones readable."""
    script = (
        "import sys, os, numpy as np; from pathlib import Path; from vae_lib.runs import checkpoints as c;"
        "f = Path(sys.argv[1]); c.save(f, c.State(1, [], np.zeros([1, 2], np.float32), [np.zeros(3)]));"
        "os.fsync = lambda fd: os._exit(9);"
        "c.save(f, c.State(1, [{}], np.zeros([1, 2], np.float32), [np.ones(3)]))"
    )
    assert run_python("-c", script, str(tmp_path)).returncode == 9
    began = time.perf_counter()
    np.testing.assert_array_equal(checkpoints.load(tmp_path).variables[0], np.zeros(3))
    assert time.perf_counter() - began < 5


def test_a_clock_that_jumps_changes_nothing(sample, tmp_path, monkeypatch):
    """Durations come from a clock that only goes forwards, and checkpoints are ordered by what they hold."""
    data, config = small(sample, 430, 50), RunConfig.from_flat(**TINY | {"checkpoint_every": 0})
    whole = train_run(config, data, tmp_path / "whole")
    jumps = itertools.cycle([0.0, 4e9, 1e6, 2e9])
    monkeypatch.setattr("time.time", lambda: next(jumps))

    def age(row):  # every file gets a time before that of the one written before it
        for path in (tmp_path / "jumping.partial").rglob("*"):
            os.utime(path, (1e9 - row["epoch"], 1e9 - row["epoch"]))

    jumping = train_run(config, data, tmp_path / "jumping", after_epoch=age)
    assert bits(jumping) == bits(whole)
    assert 0 <= load_run(jumping).metrics["made_by"]["training_seconds"] < 300
