"""The config: defaults, checks, and an exact round trip."""

import json

import numpy as np
import pytest

from vae_lib.config import LIKELIHOODS, SINCE, DataConfig, ModelConfig, RunConfig, TrainingConfig
from vae_lib.errors import UserError


def test_defaults_follow_the_data():
    def model(**settings):
        return RunConfig.from_flat(2, **settings).model

    assert (model().likelihood, model().binarize) == ("bernoulli", "threshold")
    assert model(data="fashion_mnist").likelihood == "discretized_logistic"
    assert model(data="fashion_mnist").binarize == "none"
    assert model(data="faces").likelihood == "discretized_logistic"
    assert model(data="fashion_mnist", likelihood="bernoulli").binarize == "threshold"


@pytest.mark.parametrize(
    "config",
    [RunConfig.from_flat(2), RunConfig.from_flat(7, data="faces", beta=0.1, learning_rate=1 / 3, channels=3)],
)
def test_the_json_round_trip_is_exact(config):
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "change",
    [{"latent_dim": 0}, {"latent_dim": "2"}, {"latent_dim": True}, {"latent_dim": 2.0}, {"im_dim": 7},
     {"channels": 0}, {"num_filters": -1}, {"epochs": -1}, {"batch_size": 0}, {"learning_rate": 0.0},
     {"learning_rate": float("nan")}, {"learning_rate": float("inf")}, {"beta": -1.0}, {"beta": float("nan")},
     {"seed": -1}, {"mode": "fast"}, {"schedule": "linear"}, {"likelihood": "poisson"}, {"binarize": "static"},
     {"likelihood": "gaussian", "binarize": "threshold"}, {"binarize": "none"}, {"data": 3}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_sentence(change):
    with pytest.raises(UserError) as caught:
        RunConfig.from_flat(**({"latent_dim": 2} | change))
    assert "\n" not in str(caught.value)


def test_the_nearest_name_is_suggested():
    with pytest.raises(UserError, match="did you mean 'gaussian'"):
        ModelConfig(2, likelihood="gausian")


@pytest.mark.parametrize(
    ("values", "reason"),
    [([], "not a JSON object"), ({"model": {}}, "lacks the keys: data, training"), ({"secret": 1}, "unknown keys"),
     (RunConfig.from_flat(2).to_dict() | {"model": 3}, "'model' is not a JSON object"),
     (RunConfig.from_flat(2).to_dict() | {"gamma": 1}, "unknown keys: gamma")],
)  # fmt: skip
def test_foreign_values_are_refused(values, reason):
    with pytest.raises(UserError, match=reason):
        RunConfig.from_dict(values)


def test_a_run_of_the_first_format_is_read():
    """It held one flat list, in which everything was resolved."""
    values = {
        "latent_dim": 6, "data": "faces", "im_dim": 64, "channels": 1, "num_filters": 32, "hidden_units": 256,
        "likelihood": "gaussian", "binarize": "none", "beta": 1.0, "beta_start": 20.0, "epochs": 18, "batch_size": 20,
        "learning_rate": 0.001, "schedule": "cosine", "seed": 3, "mode": "graph", "precision": "float32",
        "checkpoint_every": 0, "patience": 0, "source": "auto", "data_source": "tfds", "hold_out_sample": True,
        "augment_encoder": True,
    }  # fmt: skip
    config = RunConfig.from_first_format(values)
    assert config.model == ModelConfig(6, (64, 64, 1), "gaussian", "none", seed=3)
    assert config.training == TrainingConfig(
        epochs=18, batch_size=20, beta_start=20.0, seed=3, augment_encoder=True
    )  # fmt: skip
    assert config.data == DataConfig("faces", "auto", "tfds", True)
    for change in ({"gamma": 1}, {"latent_dim": "6"}):
        with pytest.raises(UserError):
            RunConfig.from_first_format(values | change)
    with pytest.raises(UserError, match="lacks the keys: beta"):
        RunConfig.from_first_format({name: value for name, value in values.items() if name != "beta"})


def test_the_first_weight_of_the_kl_follows_beta_and_the_likelihood():
    assert TrainingConfig().first_beta("bernoulli") == 1.0
    assert TrainingConfig(beta=0.5).first_beta("gaussian") == 10.0
    assert TrainingConfig(beta=4.0, beta_start=3.0).first_beta("gaussian") == 3.0


def test_numbers_of_numpy_are_numbers():
    config = TrainingConfig(epochs=np.int64(3), learning_rate=np.float32(0.5))
    assert (type(config.epochs), type(config.learning_rate)) == (int, float)
    assert ModelConfig(np.int32(2), (np.int64(28), 28, 1)) == ModelConfig(2)


@pytest.mark.parametrize("shape", [(28, 28), (28, 32, 1), (7, 7, 1), (28, 28, 2), "28", (28.0, 28.0, 1), 28])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises(UserError, match=r"image_shape must be \(side, side, channels\)"):
        ModelConfig(2, shape)


def test_the_range_of_a_refused_number_is_said():
    with pytest.raises(UserError, match="learning_rate must be above 0 and at most 1,000,000, not 1000000000"):
        TrainingConfig(learning_rate=1e9)
    with pytest.raises(UserError, match="beta must be from 0 to 1,000,000, not -1"):
        TrainingConfig(beta=-1.0)


RANGES = [
    (ModelConfig, "latent_dim", 1, 4096),
    (ModelConfig, "num_filters", 1, 4096),
    (ModelConfig, "hidden_units", 1, 65536),
    (ModelConfig, "encoder_layers", 1, 8),
    (ModelConfig, "seed", 0, 2**31 - 1),
    (TrainingConfig, "epochs", 0, 1_000_000),
    (TrainingConfig, "batch_size", 1, 1_000_000),
    (TrainingConfig, "seed", 0, 2**31 - 1),
    (TrainingConfig, "checkpoint_every", 0, 2**31 - 1),
    (TrainingConfig, "patience", 0, 1_000_000),
    (TrainingConfig, "importance_samples", 1, 1000),
    (TrainingConfig, "grid_side", 2, 512),
    (TrainingConfig, "learning_rate", 1e-12, 1e6),
    (TrainingConfig, "weight_decay", 0.0, 1e6),
    (TrainingConfig, "beta", 0.0, 1e6),
    (TrainingConfig, "beta_start", 0.0, 1e6),
]


@pytest.mark.parametrize(("part", "name", "low", "high"), RANGES)
def test_numbers_have_a_range_and_both_ends_belong_to_it(part, name, low, high):
    needed = {"latent_dim": 2} if part is ModelConfig else {"objective": "marginal"} if name == "grid_side" else {}
    for value in (low, high):
        assert getattr(part(**needed | {name: value}), name) == value
    below, above = (low - 1, high + 1) if isinstance(low, int) else (low / 2 if low else -1e-9, high * 1.01)
    for value in (below, above):
        with pytest.raises(UserError, match=name):
            part(**needed | {name: value})


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (1024, 3), (8, 3)])
def test_the_ends_of_the_image_sizes_are_allowed(side, channels):
    config = RunConfig.from_flat(2, im_dim=side, channels=channels)
    assert config.model.image_shape == (side, side, channels)
    assert (config.model.im_dim, config.model.channels) == (side, channels)
    for wrong in ({"im_dim": 7}, {"im_dim": 1025}, {"channels": 0}, {"channels": 4}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            RunConfig.from_flat(2, **wrong)
    for shape in ((7, 7, 1), (1025, 1025, 1), (8, 8, 2), (8, 9, 1), (8, 8)):
        with pytest.raises(UserError, match="image_shape"):
            ModelConfig(2, image_shape=shape)


def test_the_defaults_are_the_documented_ones():
    assert RunConfig.from_flat(3).to_dict() == {
        "model": {
            "latent_dim": 3, "image_shape": [28, 28, 1], "likelihood": "bernoulli", "binarize": "threshold",
            "num_filters": 32, "hidden_units": 256, "precision": "float32", "seed": 0, "encoder_layers": 1,
            "inference": "encoder",
        },
        "training": {
            "epochs": 5, "batch_size": 50, "learning_rate": 0.001, "schedule": "cosine", "weight_decay": 0.0,
            "beta": 1.0, "beta_start": None, "mode": "graph", "seed": 0, "checkpoint_every": 0, "patience": 0,
            "mirror": False, "augment_encoder": False,
            "objective": "elbo", "importance_samples": 1, "grid_side": 56, "match_prior": False,
        },
        "data": {
            "name": "mnist", "source": "auto", "found": "", "hold_out_sample": False, "skip_broken": False,
            "fingerprint": "",
        },
    }  # fmt: skip


def test_what_a_likelihood_asks_of_pixels_and_of_the_decoder():
    shapes = {kind: ModelConfig(2, (8, 8, 3), kind).logits_shape for kind in LIKELIHOODS}
    assert shapes.pop("discretized_logistic") == (8, 8, 6)
    assert set(shapes.values()) == {(8, 8, 3)}
    noisy = {kind: ModelConfig(2, likelihood=kind).needs_pixel_noise for kind in LIKELIHOODS}
    assert noisy == {
        "bernoulli": False, "discretized_logistic": False, "continuous_bernoulli": True, "gaussian": True,
    }  # fmt: skip
    assert ModelConfig(2, binarize="dynamic").needs_pixel_noise


@pytest.mark.parametrize("run_format", [2, 3, 4, 5])
def test_settings_that_came_after_a_format_have_their_defaults(run_format):
    values = RunConfig.from_flat(2, seed=3).to_dict()
    later = {name for name, since in SINCE.items() if since > run_format}
    for part in values.values():
        for name in later & set(part):
            del part[name]
    assert RunConfig.from_dict(values, run_format=run_format) == RunConfig.from_flat(2, seed=3)
    with pytest.raises(UserError, match=r"lacks the keys: (encoder_layers, inference|mirror|weight_decay|skip_broken)"):
        RunConfig.from_dict(values)
    values["data"]["skip_broken"] = True
    with pytest.raises(UserError, match="unknown keys: skip_broken"):
        RunConfig.from_dict(values, run_format=run_format)
