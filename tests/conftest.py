"""Shared fixtures: small data, a briefly trained run, and a world without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vae_lib.config import RunConfig
from vae_lib.data import sources
from vae_lib.data.loading import ImageData, load_data

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Each test session decodes into its own cache, never into the user's."""
    monkeypatch.setenv("VAE_LIB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Nothing prepared, nothing cached, no host that answers."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.setenv("VAE_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "HOSTS", dict.fromkeys(sources.HOSTS, "http://127.0.0.1:9/"))
    return tmp_path


@pytest.fixture(scope="session")
def sample() -> ImageData:
    return load_data("mnist", source="sample")


def small(data: ImageData, train: int = 400, test: int = 100) -> ImageData:
    return data._replace(
        train_images=data.train_images[:train],
        train_labels=data.train_labels[:train],
        test_images=data.test_images[:test],
        test_labels=data.test_labels[:test],
    )


def make_small_run(folder: Path) -> Path:
    """A run trained for two short epochs."""
    from vae_lib.runs.lifecycle import train_run

    config = RunConfig.from_flat(latent_dim=2, epochs=2, num_filters=8, hidden_units=32)
    return train_run(config, small(load_data("mnist", source="sample")), folder)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    """Tests read this run, none changes it."""
    return make_small_run(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="session")
def full_data() -> Path:
    """The folder of prepared TFDS data sets; without one the test is skipped."""
    folder, _ = sources.tfds_dir()
    if not all(sources.prepared_folder(name, folder) for name in sources.TFDS_BUILDERS):
        pytest.skip("the full data sets are not prepared: set TFDS_DATA_DIR")
    return folder


def run_python(*args: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python process in ``cwd`` that finds the package; its output as text."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | env
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def random_images(n: int, im_dim: int = 28, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, im_dim, im_dim, channels), dtype=np.uint8)


def exit_status(door, arguments: list[str]) -> int:
    """What a command line ends with, whether its parser or the command itself stopped it."""
    try:
        return door(arguments)
    except SystemExit as stop:
        return stop.code
