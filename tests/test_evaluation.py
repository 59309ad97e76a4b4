"""The numbers of an evaluation against NumPy, and the words that are made of them."""

import json
import math

import numpy as np
import pytest

from tests.conftest import random_images, small
from tools.record import record
from vae_lib import cli, evaluation, losses, report
from vae_lib.backend import tf
from vae_lib.config import ModelConfig, RunConfig
from vae_lib.model import VAE
from vae_lib.runs.store import load_run
from vae_lib.scoreboard import scoreboard


@pytest.fixture(scope="module")
def tiny():
    return VAE(latent_dim=2, image_shape=(8, 8, 1), num_filters=4, hidden_units=16)


def test_the_kl_of_the_dimensions_adds_up(tiny):
    images = random_images(60, 8)
    per_dimension = evaluation.kl_per_dimension(*tiny.encode_arrays(images))
    assert per_dimension.sum() == pytest.approx(evaluation.evaluate_elbo(tiny, images)["kl"], abs=1e-4)


def test_codes_that_fit_the_prior():
    rng = np.random.default_rng(0)
    z_mean = rng.standard_normal([4000, 2]) * 0.8
    report_ = evaluation.describe_codes(z_mean, np.full([4000, 2], math.log(0.36)))
    assert report_["active_units"] == 2
    assert report_["aggregate_variance"] == pytest.approx([1.0, 1.0], abs=0.05)
    assert report_["moment_kl"] < 0.01
    assert abs(report_["marginal_kl"]) < 0.05


def test_codes_that_do_not_fit_the_prior():
    rng = np.random.default_rng(0)
    z_mean = np.stack([3.0 + rng.standard_normal(4000), np.zeros(4000)], axis=1)
    log_var = np.stack([np.full(4000, -20.0), np.zeros(4000)], axis=1)
    report_ = evaluation.describe_codes(z_mean, log_var)
    assert report_["active_units"] == 1
    assert report_["kl_per_dimension"][1] == 0.0
    assert report_["moment_kl"] == pytest.approx(4.5, abs=0.3)  # 3^2 / 2
    mixture = evaluation.describe_codes(z_mean, np.full([4000, 2], -1.0))
    assert mixture["marginal_kl"] > 4.0


def test_the_marginal_kl_is_the_kl_less_the_mutual_information():
    """Two far components: the KL of each is known, and q(z) says which one it was, log 2 nats."""
    z_mean = np.repeat([[5.0, 0.0], [-5.0, 0.0]], 500, axis=0)
    z_log_var = np.full([1000, 2], math.log(0.01))
    found = evaluation.describe_codes(z_mean, z_log_var)
    assert found["marginal_kl"] == pytest.approx(sum(found["kl_per_dimension"]) - math.log(2), abs=0.05)


@pytest.mark.parametrize("logit", [0.0, 0.05, -0.3, 2.0, -9.0, 200.0])
def test_the_variance_of_the_continuous_bernoulli(logit):
    x = (np.arange(200_000) + 0.5) / 200_000
    density = np.exp(logit * x - max(logit, 0.0))
    density /= density.mean()
    mean = (density * x).mean()
    variance = (density * (x - mean) ** 2).mean()
    assert float(losses.continuous_bernoulli_variance(tf.constant(logit))) == pytest.approx(variance, rel=2e-3)


def test_pixels_drawn_from_the_likelihood_are_calibrated(tiny):
    z = np.random.default_rng(0).standard_normal([200, 2]).astype(np.float32)
    chance = tiny.decode(tf.constant(z)).numpy()
    x = (np.random.default_rng(1).random(chance.shape) < chance).astype(np.float32)
    middle = evaluation.pixel_calibration(tiny, x)[1]
    assert middle["share"] == 1.0  # an untrained decoder says one half everywhere
    assert middle["ratio"] == pytest.approx(1.0, abs=0.02)


def numbers(**changes):
    calm = [{"from": 0.0, "to": 0.1, "share": 0.5, "ratio": 1.0}, {"from": 0.1, "to": 0.9, "share": 0.5, "ratio": 1.0}]
    return {"elbo": -100.0, "kl": 8.0, "kl_per_dimension": [4.0, 4.0], "pixel_calibration": calm} | changes


CONFIG = ModelConfig(2)


def test_a_sound_model_gets_no_verdict():
    assert report.verdict(CONFIG, numbers(), {"elbo": -97.0}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kl_per_dimension": [8.0, 0.001]}, "1 of 2 latent dimensions are collapsed (numbers 1)"),
        ({"kl": 0.01}, "posterior collapse"),
        ({"elbo": -103.0}, "overfits"),
        ({"pixel_calibration": [{"from": 0.0, "to": 0.1, "share": 0.5, "ratio": 0.01}]}, "too wide"),
        ({"pixel_calibration": [{"from": 0.0, "to": 0.1, "share": 0.5, "ratio": 19.0}]}, "too narrow"),
    ],
)
def test_what_is_off_is_named(changes, words):
    (sentence,) = report.verdict(CONFIG, numbers(**changes), {"elbo": -97.0})
    assert words in sentence


def test_a_gaussian_for_images_that_are_half_black_is_found_out():
    """Not only the rule but the measurement behind it: black pixels, and noisy ones, under one variance."""
    rng = np.random.default_rng(0)
    images = np.zeros([300, 8, 8, 1], np.uint8)
    images[:, :, 4:] = rng.integers(0, 256, [300, 8, 4, 1])
    model = VAE(latent_dim=2, likelihood="gaussian", image_shape=(8, 8, 1), num_filters=4, hidden_units=16)
    model.raw_log_sigma.assign(math.log(0.2))
    last = model.decoder.layers[-3]  # the convolution that writes the pixels
    bias = np.zeros([4, 4], np.float32)
    model.decoder.layers[-3].bias.assign(bias.ravel())
    assert last.bias.shape == (16,)
    codes = np.full([8, 8, 1], 0.5, np.float32)
    codes[:, :4] = 1 / 512

    def decode_logits(z, training=False):
        logits = np.log(codes / (1 - codes))
        return tf.repeat(tf.constant(logits[None]), tf.shape(z)[0], axis=0)

    model.decode_logits = decode_logits
    found = report.verdict(model.config, evaluation.evaluate(model, images), None)
    assert any("too wide for pixels of 0 to 0.1 (50% of them)" in line for line in found), found


def test_an_evaluation_holds_all_and_can_be_json(small_run, sample):
    model = load_run(small_run).model
    found = evaluation.evaluate(model, small(sample, test=10).test_images, samples=[1, 50], exact=True)
    assert json.loads(json.dumps(found)) == found
    assert found["log_px"] >= found["iwae_50"] >= found["iwae_1"] - 1.0
    split = found["approximation_gap"] + found["amortization_gap"]
    assert split == pytest.approx(found["log_px"] - found["elbo"], abs=1.0)  # one noise sample in the ELBO
    assert found["approximation_gap"] > -found["integration_error"] - 0.05
    assert found["amortization_gap"] >= 0
    text = "\n".join(report.evaluation_lines(model.config, found))
    for words in ("IWAE", "nan"):
        assert words not in text
    for words in ("importance-weighted bound, k = 50", "log p(x), integrated", "amortization gap", "of 2"):
        assert words in text


@pytest.mark.slow
def test_evaluate_prints_and_records(small_run, tmp_path, capsys):
    import shutil

    run = shutil.copytree(small_run, tmp_path / "run")
    assert cli.main(["evaluate", str(run), "--source", "sample", "--images", "15", "--samples", "1"]) == 0
    text = capsys.readouterr().out
    assert "15 test images of mnist, bundled sample, 28 x 28, thresholded at 0.5" in text
    assert "log p(x), integrated" in text
    assert "verdict: " in text
    assert record(str(run), [1, 5], True, 15, "sample") == ("sample_15", run / "metrics.json")
    recorded = json.loads((run / "metrics.json").read_text())["sample_15"]
    assert {"iwae_1", "iwae_5", "log_px", "approximation_gap"} <= set(recorded)
    record(str(run), [7], False, 15, "sample")
    again = json.loads((run / "metrics.json").read_text())["sample_15"]
    assert again["log_px"] == recorded["log_px"]
    assert "iwae_7" in again
    assert load_run(run).config == load_run(small_run).config


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--images", "0"], "--images must be from 1"),
        (["--samples", "0"], "--samples must be from 1"),
        (["--source", "smaple"], "did you mean 'sample'"),
    ],
)
def test_evaluate_refuses_bad_input(arguments, words, small_run, capsys):
    assert cli.main(["evaluate", str(small_run), "--source", "sample", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_the_scoreboard_keeps_the_tasks_apart(small_run):
    run = load_run(small_run)
    grey = RunConfig.from_flat(latent_dim=2, data="faces", im_dim=64)
    grey_numbers = {"test": {"elbo": 10.0, "elbo_error": 1.0, "bits_per_pixel": 7.5, "refined_bits_per_pixel": 7.25}}
    compressed = {"mnist": {"xz": 123.456}, "faces": {"PNG": 4.5}, "fashion_mnist": {"bz2": 3.0}}
    board = scoreboard({"mine": (run.config, run.metrics), "grey": (grey, grey_numbers)}, compressed)
    bits, levels = board.split("\n\n")
    tasks = [line.split(" | ")[0] for line in bits.splitlines()[2:]]
    assert tasks == sorted(tasks, reverse=True)  # all thresholded rows, then all dynamic ones
    rows = [line for line in bits.splitlines() if "thresholded" in line]
    assert "`mine`" in rows[0]
    assert "| 155.9 |" in rows[1]
    assert rows[-1] == "| thresholded at 0.5 | | xz | | | 123.46 | size of the file |"
    assert "| **`grey`** | **-10.0** +- 1.0 | **7.500** | 7.250 |" in levels
    assert "| faces | | PNG | | 4.500 | |" in levels
    assert "bz2" not in board  # no run of that data
    assert "88.9" in bits
    assert "155.9" in scoreboard({"mine": (run.config, run.metrics)})


def test_a_scoreboard_names_the_tightest_estimate(small_run):
    run = load_run(small_run)
    test = {"elbo": -150.0, "elbo_error": 1.0}
    for more, cell in (
        ({}, "| **nan** |  |"),
        ({"iwae_5": -140.0, "iwae_5_error": 1.0, "iwae_50": -130.0}, "| **130.00** | IWAE-50 |"),
        ({"iwae_50": -130.0, "log_px": -125.5}, "| **125.50** | exact |"),
        ({"log_px": -125.5, "refined_elbo": -127.25}, "| 127.25 | **125.50** | exact |"),
    ):
        assert cell in scoreboard({"mine": (run.config, {"test": test | more})})


def test_overfitting_is_judged_in_nats_and_in_bits_and_not_as_a_share():
    def found(config, train, test):
        numbers = {"elbo": test, "elbo_error": 0.1, "kl": 9.0, "kl_per_dimension": [4.0, 5.0], "pixel_calibration": []}
        return [line for line in report.verdict(config, numbers, {"elbo": train, "elbo_error": 0.1})]

    bits, grey = ModelConfig(2), ModelConfig(2, likelihood="discretized_logistic")
    assert found(bits, -100.0, -104.0) == []
    assert "more than 5 nats below" in found(bits, -100.0, -106.0)[0]
    pixel = 784 * math.log(2)  # a bit a pixel
    assert found(grey, 0.0, -0.19 * pixel) == []
    assert "more than 0.2 bits a pixel below" in found(grey, 0.0, -0.21 * pixel)[0]
    numbers = {"elbo": -8.5 * pixel, "elbo_error": 0.1 * pixel, "bits_per_pixel": 8.5, "kl": 9.0}
    numbers |= {"kl_per_dimension": [4.0, 5.0], "pixel_calibration": []}
    assert "8.50 bits per pixel are more than the 8" in report.verdict(grey, numbers)[0]
    assert report.verdict(grey, numbers | {"elbo_error": 0.3 * pixel}) == []


def test_the_misfit_of_the_codes_by_hand():
    """Codes of given means and widths: the KL from the Gaussian with their mean and covariance to N(0, I)."""
    rng = np.random.default_rng(0)
    z_mean = rng.standard_normal([500, 3]) * [0.5, 2.0, 1.0] + [0.3, 0.0, -1.0]
    z_log_var = np.tile(np.log([0.2, 0.1, 3.0]), (500, 1))
    found = evaluation.describe_codes(z_mean.astype(np.float32), z_log_var.astype(np.float32))
    covariance = np.cov(z_mean.T, ddof=0) + np.diag([0.2, 0.1, 3.0])
    centre = z_mean.mean(axis=0)
    expected = 0.5 * (np.trace(covariance) + centre @ centre - 3 - np.log(np.linalg.det(covariance)))
    assert found["moment_kl"] == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(found["aggregate_variance"], np.diag(covariance), rtol=1e-4)
    assert found["active_units"] == 3
    assert "marginal_kl" not in found  # only in a plane
    assert evaluation.describe_codes(z_mean * [1, 1, 0.01], z_log_var)["active_units"] == 2


def test_calibration_goes_by_the_brightness_that_is_predicted(monkeypatch):
    model = VAE(2, image_shape=(8, 8, 1), num_filters=2, hidden_units=4)
    mean = np.full([1, 8, 8, 1], 0.05, np.float32)
    mean[:, :2], mean[:, 2:5] = 0.95, 0.5  # a quarter bright, three eighths in between
    logits = tf.constant(np.log(mean / (1 - mean)))
    monkeypatch.setattr(model, "decode_logits", lambda z, **_: tf.repeat(logits, tf.shape(z)[0], axis=0))
    x = np.zeros([700, 8, 8, 1], np.float32)
    x[:, 2:5] = 1.0
    dark, middle, bright = evaluation.pixel_calibration(model, x)
    assert [(part["from"], part["to"]) for part in (dark, middle, bright)] == [(0.0, 0.1), (0.1, 0.9), (0.9, 1.0)]
    assert [part["share"] for part in (dark, middle, bright)] == pytest.approx([3 / 8, 3 / 8, 2 / 8])
    expected = [0.05**2 / (0.05 * 0.95), 0.5**2 / 0.25, 0.95**2 / (0.95 * 0.05)]
    assert [part["ratio"] for part in (dark, middle, bright)] == pytest.approx(expected, rel=1e-3)


def test_the_numbers_of_a_model_that_has_diverged_warn_of_nothing():
    """Warnings are errors here."""
    assert evaluation.mean_and_error(np.array([1e308, -1e308, 1e308]))[1] == math.inf
    assert math.isnan(evaluation.mean_and_error(np.array([np.inf, -np.inf]))[0])
