"""The config: defaults, checks, and an exact round trip."""

import json

import pytest

from vae_lib.config import VAEConfig
from vae_lib.errors import UserError


def test_defaults_follow_the_data():
    assert (VAEConfig(2).likelihood, VAEConfig(2).binarize) == ("bernoulli", "threshold")
    assert VAEConfig(2, data="fashion_mnist").binarize == "none"
    assert VAEConfig(2, data="faces").likelihood == "gaussian"
    assert VAEConfig(2, data="fashion_mnist", likelihood="bernoulli").binarize == "threshold"


@pytest.mark.parametrize("config", [VAEConfig(2), VAEConfig(7, data="faces", beta=0.1, learning_rate=1 / 3)])
def test_the_json_round_trip_is_exact(config):
    assert VAEConfig.from_json(config.to_json()) == config


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
        VAEConfig(**({"latent_dim": 2} | change))
    assert "\n" not in str(caught.value)


def test_the_nearest_name_is_suggested():
    with pytest.raises(UserError, match="did you mean 'gaussian'"):
        VAEConfig(2, likelihood="gausian")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "valid JSON"), ("[]", "not a JSON object"), ('{"latent_dim": 2, "latent_dim": 3}', "twice"),
     ('{"latent_dim": 2}', "lacks"), ('{"secret": 1}', "unknown keys: secret")],
)  # fmt: skip
def test_foreign_json_is_refused(text, reason):
    with pytest.raises(UserError, match=reason):
        VAEConfig.from_json(text)


def test_an_unknown_key_is_refused_beside_all_known_ones():
    values = json.loads(VAEConfig(2).to_json()) | {"gamma": 1}
    with pytest.raises(UserError, match="gamma"):
        VAEConfig.from_json(json.dumps(values))


def test_what_follows_from_a_setting_follows_a_new_one_too():
    config = VAEConfig(2)
    assert config.replace(beta=4.0) == VAEConfig(2, beta=4.0)
    assert config.replace(data="faces") == VAEConfig(2, data="faces")
    assert config.replace(likelihood="gaussian") == VAEConfig(2, likelihood="gaussian")
    assert config.replace(seed=1).replace(data="faces") == VAEConfig(2, data="faces", seed=1)
    assert VAEConfig(2, beta_start=3.0).replace(beta=4.0).beta_start == 3.0


def test_the_range_of_a_refused_number_is_said():
    with pytest.raises(UserError, match="learning_rate must be above 0 and at most 1,000,000, not 1000000000"):
        VAEConfig(2, learning_rate=1e9)
    with pytest.raises(UserError, match="beta must be from 0 to 1,000,000, not -1"):
        VAEConfig(2, beta=-1.0)
