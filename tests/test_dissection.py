"""The posterior of one image, and a Gaussian laid over it: the two ways to divide the -ELBO agree."""

import itertools

import numpy as np
import pytest

from vae_lib import VAE, dissect, load_run
from vae_lib.dissection import bars
from vae_lib.errors import UserError
from vae_lib.marginal import importance_weighted_bound, log_joint


@pytest.fixture(scope="module")
def seven(sample):
    """A test image that the encoder misses by more than a nat."""
    made = dissect(load_run("mnist_2").model, sample.test_images[777])
    yield made
    made.close()


def kl_to_the_posterior(made):
    """KL(q || p(z | x)) by a sum over a fine grid around q, from the definition."""
    mean, log_var = made.gaussian
    width = np.exp(0.5 * log_var)
    steps = np.linspace(-6, 6, 121)
    noise = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    log_q = -0.5 * np.square(noise).sum(axis=1) - np.log(2 * np.pi) - log_var.sum() / 2
    log_posterior = log_joint(made.model, made.x, (mean + width * noise).astype(np.float32))[0] + made.log_px_loss
    return np.sum(np.exp(log_q) * (log_q - log_posterior)) * 0.1**2 * width.prod()


def test_both_divisions_add_up_and_the_gap_is_the_divergence(seven):
    seven.gaussian = seven.encoders
    terms = seven.terms
    assert terms.gap > 1.0
    assert terms.nll + terms.kl == pytest.approx(terms.log_px_loss + terms.gap)
    assert terms.gap == pytest.approx(kl_to_the_posterior(seven), abs=0.02)
    draws = importance_weighted_bound(seven.model, np.repeat(seven.x, 1000, axis=0), 1)
    assert terms.elbo == pytest.approx(draws.mean(), abs=5 * draws.std() / 1000**0.5)


def test_the_window_holds_the_posterior(seven):
    area = (seven.window.side / len(seven.window.density)) ** 2
    assert seven.window.density.sum() * area == pytest.approx(1.0, abs=0.01)


def test_the_window_holds_a_posterior_far_out(sample):
    made = dissect(load_run("mnist_2").model, np.zeros_like(sample.test_images[0]))
    area = (made.window.side / len(made.window.density)) ** 2
    assert made.window.density.sum() * area == pytest.approx(1.0, abs=0.01)
    made.close()


def test_buttons_lead_up(seven):
    encoders, best, step = seven.buttons
    best.click()
    least = seven.terms.gap
    assert -0.02 < least < 0.3
    encoders.click()
    gaps = [seven.terms.gap]
    for _ in range(12):
        step.click()
        gaps.append(seven.terms.gap)
    assert all(after <= before + 1e-3 for before, after in itertools.pairwise(gaps))
    assert gaps[-1] == pytest.approx(least, abs=0.1)
    np.testing.assert_allclose(seven.gaussian[0], seven.best()[0], atol=0.05)


def test_sliders_and_gaussian_say_the_same(seven):
    seven.gaussian = seven.encoders
    before = seven.picture.value, seven.bars.value
    seven.means[0].value += 0.05
    seven.widths[1].value *= 2
    mean, log_var = seven.gaussian
    np.testing.assert_allclose(mean[0], seven.means[0].value)
    np.testing.assert_allclose(np.exp(0.5 * log_var[1]), seven.widths[1].value)
    assert (seven.picture.value, seven.bars.value) != before
    seven.gaussian = (mean + 0.01, log_var)
    np.testing.assert_allclose([slider.value for slider in seven.means], mean + 0.01, atol=1e-6)
    for wrong in ((np.zeros(3), log_var), 3, ("a", "b"), (np.zeros(2), np.full(2, 1e3)), (np.full(2, np.nan), log_var)):
        with pytest.raises(UserError, match="two arrays of shape"):
            seven.gaussian = wrong


def test_the_bars_say_their_numbers(seven):
    drawn = bars(seven.terms)
    for number in (seven.terms.nll, seven.terms.kl, seven.terms.log_px_loss):
        assert f"{number:.2f}" in drawn


def test_it_says_what_it_cannot_take(sample):
    with pytest.raises(UserError, match="this model has 3"):
        dissect(VAE(latent_dim=3, num_filters=4), sample.test_images[0])
    vae = VAE(latent_dim=2, num_filters=4)
    with pytest.raises(UserError, match="one image, not 5"):
        dissect(vae, sample.test_images[:5])
    with pytest.raises(UserError):
        dissect(vae, "a picture")
    vae.set_weights([weight * np.nan for weight in vae.get_weights()])
    with pytest.raises(UserError, match="not finite"):
        dissect(vae, sample.test_images[0])
    with pytest.raises(UserError):
        dissect(None, sample.test_images[0])


def test_without_a_kernel_there_is_a_picture(seven):
    said = seven._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in said
    assert said["text/html"].count("<svg") == 2
    assert f"{seven.terms.kl:.2f}" in said["text/html"]
