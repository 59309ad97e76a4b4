"""What a run needs is estimated from its config, and what cannot fit is refused before anything is done."""

import numpy as np
import pytest

from vae_lib.config import RunConfig
from vae_lib.data import sources
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


def test_images_that_cannot_fit_are_refused_before_they_are_decoded():
    many = np.broadcast_to(np.zeros([1, 28, 28, 1], np.uint8), [10**9, 28, 28, 1])
    with pytest.raises(UserError, match="lower the image size"):
        sources.resize_all(many, 1024)


def test_memory_is_unlimited_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.delattr("os.sysconf")
    monkeypatch.setattr(sources, "CGROUP_LIMITS", ("/nowhere",))
    assert sources.memory() == float("inf")


def test_a_batch_takes_its_memory_however_few_images_there_are():
    """A small set is filled up to one batch, so the batch is what counts."""
    config = RunConfig.from_flat(2, batch_size=1_000_000)
    assert limits.training_bytes(config, 4_000) > 100e9
    assert limits.training_bytes(RunConfig.from_flat(2, batch_size=50), 4_000) < 1e9
