"""What a run needs is estimated from its config, and what cannot fit is refused before anything is done."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from vae_lib import memory
from vae_lib.backend import CORES
from vae_lib.config import ModelConfig, RunConfig
from vae_lib.errors import UserError
from vae_lib.model import VAE
from vae_lib.runs import limits


@pytest.mark.parametrize(
    "settings",
    [(2, {}), (7, {"im_dim": 64, "num_filters": 8, "hidden_units": 20}), (3, {"im_dim": 33, "num_filters": 4}),
     (1, {"im_dim": 8, "num_filters": 3, "hidden_units": 5}), (4, {"im_dim": 100, "num_filters": 2, "channels": 3})],
    ids=lambda settings: str(settings[1].get("im_dim", 28)),
)  # fmt: skip
def test_weights_are_counted_as_they_are(settings):
    config = RunConfig.from_flat(settings[0], **settings[1])
    model = VAE.from_model_config(config.model)
    assert limits.parameters(config.model) == model.encoder.count_params() + model.decoder.count_params()


def test_time_grows_with_the_work():
    hours = limits.training_hours(RunConfig.from_flat(2), 60_000)
    assert limits.training_hours(RunConfig.from_flat(2, epochs=50), 60_000) == pytest.approx(10 * hours)
    assert limits.training_hours(RunConfig.from_flat(2, num_filters=64), 60_000) > 2 * hours
    assert 0.001 < hours < 0.1  # five epochs of MNIST take a minute or so


def test_the_rate_is_that_of_the_benchmark():
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    measured = 60_000 / statistics.median(results["default"]["graph"]["rates"]) / 3600  # on two cores
    estimated = limits.training_hours(RunConfig.from_flat(2, epochs=1), 60_000) * CORES / 2
    assert estimated == pytest.approx(measured, rel=0.1)


def test_what_cannot_fit_is_refused_and_what_takes_long_is_said(monkeypatch, capsys):
    config = RunConfig.from_flat(2, num_filters=256, im_dim=256)
    limits.check(RunConfig.from_flat(2, num_filters=256, im_dim=256, epochs=0), 100)
    assert capsys.readouterr().err == ""
    limits.check(config, 100_000)
    assert "hours on these processors" in capsys.readouterr().err
    monkeypatch.setattr(limits, "memory", lambda: 1e9)
    with pytest.raises(UserError, match="and the machine has 1 GB: lower the image size"):
        limits.check(config, 100_000)


def test_a_folder_for_temporary_files_is_needed(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(UserError, match="TMPDIR"):
        limits.check(RunConfig.from_flat(2), 10)


def test_memory_is_unlimited_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.delattr("os.sysconf")
    monkeypatch.setattr(memory, "CGROUPS", Path("/nowhere"))
    assert memory.memory() == float("inf")


@pytest.mark.parametrize(
    ("own", "file"),
    [
        ("0::/some/group\n", "some/memory.max"),
        ("9:cpu:/\n4:memory,hugetlb:/some/group\n0::/\n", "memory/some/group/memory.limit_in_bytes"),
        ("", "memory.max"),
    ],
)
def test_the_memory_of_a_container_counts(tmp_path, monkeypatch, own, file):
    """In both versions of control groups, and where a group around the process's own is limited."""
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "own")
    limit = tmp_path / file
    limit.parent.mkdir(parents=True, exist_ok=True)
    limit.write_text("1000000\n")
    assert memory.memory() == 1e6
    limit.write_text("max\n")
    assert memory.memory() > 1e6


def test_a_limit_on_a_process_counts():
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (2**40 if hard == resource.RLIM_INFINITY else hard, hard))
    before = memory.memory()
    resource.setrlimit(resource.RLIMIT_DATA, (int(before) - 1, hard))
    try:
        assert memory.memory() == before - 1
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def test_a_batch_takes_its_memory_however_few_images_there_are():
    """A small set is filled up to one batch, so the batch is what counts."""
    config = RunConfig.from_flat(2, batch_size=1_000_000)
    assert limits.training_bytes(config, 4_000) > 100e9
    assert limits.training_bytes(RunConfig.from_flat(2, batch_size=50), 4_000) < 1e9


def work_by_hand(settings):
    """Multiplications of encoder and decoder for one image or code, counted from the layers that Keras has."""
    model = VAE.from_model_config(RunConfig.from_flat(2, **settings).model)
    counts = []
    for network in (model.encoder, model.decoder):
        products = 0
        for layer in network.layers:
            if layer.weights:
                times = int(np.prod(layer.output.shape[1:-1])) if len(layer.output.shape) == 4 else 1
                products += int(np.prod(layer.kernel.shape)) * times
        counts.append(products)
    return counts


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        ({}, 50),
        ({"im_dim": 64, "encoder_layers": 3, "channels": 3, "batch_size": 20}, 20),
        ({"importance_samples": 7, "batch_size": 10}, 70),
        ({"objective": "marginal", "grid_side": 30, "batch_size": 100}, 900),
        ({"likelihood": "discretized_logistic", "binarize": "none"}, 50),
    ],
)
def test_the_time_is_that_of_the_multiplications(settings, codes):
    config = RunConfig.from_flat(2, epochs=3, **settings)
    network = {name: value for name, value in settings.items() if name in ("im_dim", "encoder_layers", "channels")}
    encoder, decoder = work_by_hand(network | {k: v for k, v in settings.items() if k in ("likelihood", "binarize")})
    batch = config.training.batch_size
    steps = 3 * 1000 / batch
    expected = 3 * (batch * encoder + codes * decoder) * steps / (limits.PRODUCTS_PER_CORE * CORES) / 3600
    assert limits.decoded_codes(config) == codes
    assert limits.training_hours(config, 1000) == pytest.approx(expected)


def test_the_memory_grows_with_what_is_decoded_and_kept():
    few, many = (limits.training_bytes(RunConfig.from_flat(2, importance_samples=k), 1000) for k in (1, 11))
    outputs = sum(outputs * times for _, outputs, times in limits.decoder_layers(ModelConfig(2)))
    assert many - few == pytest.approx(3 * 4 * 10 * 50 * outputs)
    small, large = (
        limits.training_bytes(RunConfig.from_flat(2, objective="marginal", grid_side=n, batch_size=100), 1000)
        for n in (10, 20)
    )
    assert large - small == pytest.approx(3 * 4 * 300 * (outputs + 100))
    assert limits.training_bytes(RunConfig.from_flat(2), 2000) - few == pytest.approx(1000 * 784)
