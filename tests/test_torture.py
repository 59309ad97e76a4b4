"""Trainings killed at random moments, and several workers on one machine; ``make torture`` runs these."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import ROOT, run_python
from vae_lib.runs.store import load_run

pytestmark = pytest.mark.torture
TRAIN = [sys.executable, str(ROOT / "train_VAE.py")]
SMALL = ["-l", "2", "--source", "sample", "--num-filters", "8", "--hidden-units", "32"]


def bits(folder):
    run = load_run(folder)
    return [w.tobytes() for w in run.model.get_weights()], run.history


@pytest.mark.parametrize(
    ("planned", "mode", "epochs"),
    [
        (4, "graph", 4),
        (4, "eager", 2),
        pytest.param(10, "graph", 8, marks=pytest.mark.large),
        pytest.param(10, "eager", 3, marks=pytest.mark.large),
    ],
)
def test_kills_at_random_moments_end_in_the_same_bits(tmp_path, planned, mode, epochs):
    """SIGKILL, checkpoint writing included: a checkpoint of 11 MB follows every fifth step."""
    settings = ["-l", "2", "--source", "sample", "--mode", mode, "--epochs", str(epochs), "--checkpoint-every", "5"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    partial = tmp_path / "part.partial"
    began = time.monotonic()
    subprocess.run([*TRAIN, *settings, "--out", str(whole)], check=True, stdout=subprocess.DEVNULL)
    print(f"\n{mode}: uninterrupted in {time.monotonic() - began:.1f} s")
    chance = random.Random(7)
    command, kills, while_writing, last = [*TRAIN, *settings, "--out", str(part)], 0, 0, -1.0
    for _ in range(planned):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and _newest(partial) <= last:  # until it got further than the last one
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1.0))
        process.kill()
        if process.wait() != -9:
            break
        kills += 1
        while_writing += bool(list((partial / "checkpoints").glob(".*")))
        last = _newest(partial)
        command = [*TRAIN, "--resume", str(part)]
    print(f"{mode}: {kills} kills, {while_writing} of them while a checkpoint was being written")
    assert kills == planned
    subprocess.run([*TRAIN, "--resume", str(part)], check=True, stdout=subprocess.DEVNULL)
    assert bits(part) == bits(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part", "whole"]


def _newest(partial):
    """The time of the newest checkpoint, -1 without any; one that is being dropped counts as none."""
    times = [-1.0]
    for path in (partial / "checkpoints").glob("[0-9]*.npz"):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def start_workers(n, *arguments):
    ports = []
    for _ in range(n):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return [
        subprocess.Popen(
            [*TRAIN, *arguments, "--strategy", "multi-worker"],
            env=os.environ | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(n)
    ]


def test_two_workers_train_to_the_weights_of_one(tmp_path):
    settings = [*SMALL, "--epochs", "2"]
    workers = start_workers(2, *settings, "--out", str(tmp_path / "two"))
    outputs = [worker.communicate(timeout=240) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert outputs[0][0].splitlines()[:2] == outputs[1][0].splitlines()[:2]
    subprocess.run([*TRAIN, *settings, "--out", str(tmp_path / "one")], check=True, stdout=subprocess.DEVNULL)
    two, one = load_run(tmp_path / "two"), load_run(tmp_path / "one")
    for a, b in zip(two.model.get_weights(), one.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    for key in one.history[-1]:
        assert two.history[-1][key] == pytest.approx(one.history[-1][key], rel=1e-4)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_that_dies_stops_the_other_and_the_run_resumes(tmp_path, victim):
    out = tmp_path / "run"
    workers = start_workers(2, *SMALL, "--epochs", "40", "--out", str(out))
    assert "epoch 1/40" in workers[0].stdout.readline()
    assert "epoch 1/40" in workers[1].stdout.readline()
    workers[victim].kill()
    began = time.monotonic()
    survivor = workers[1 - victim]
    _, errors = survivor.communicate(timeout=60)
    print(f"\nthe other worker ended after {time.monotonic() - began:.1f} s")
    workers[victim].communicate()
    assert survivor.returncode == 1
    message = errors.strip().splitlines()[-1]
    assert message.startswith("train_VAE.py: error: another worker is gone")
    assert "Traceback" not in errors
    resumed = run_python(*TRAIN[1:], "--resume", str(out))  # with one worker instead of two
    assert resumed.returncode == 0, resumed.stderr
    assert [row["epoch"] for row in load_run(out).history] == [float(i) for i in range(1, 41)]


def test_two_devices_of_one_machine_share_the_work(tmp_path):
    """The mirrored strategy, on a processor split into two logical devices."""
    script = """
import sys, numpy as np
from vae_lib.backend import tf
parts = [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
from vae_lib import RunConfig, load_data, train_run
from vae_lib.runs.distribution import make_strategy
strategy = make_strategy("mirrored")
assert strategy.num_replicas_in_sync == 2
data = load_data("mnist", source="sample")
config = RunConfig.from_flat(latent_dim=2, num_filters=4, hidden_units=16, epochs=2)
train_run(config, data, sys.argv[1] + "/two", strategy=strategy)
train_run(config, data, sys.argv[1] + "/one")
"""
    result = run_python("-c", script, str(tmp_path))
    assert result.returncode == 0, result.stderr
    two, one = load_run(tmp_path / "two"), load_run(tmp_path / "one")
    assert two.history[-1]["train_elbo"] == pytest.approx(one.history[-1]["train_elbo"], rel=1e-4)
    for a, b in zip(two.model.get_weights(), one.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
