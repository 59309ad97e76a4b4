"""A training that is watched: its controls, what it shows, and that nothing of it stays behind."""

import dataclasses
import io
import threading
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from tests.conftest import random_images
from vae_lib import VAE, evaluate_elbo, live, manifold, svg, train, watch
from vae_lib.config import TrainingConfig
from vae_lib.data.loading import as_image_data
from vae_lib.errors import UserError
from vae_lib.latent import axis_values
from vae_lib.session import Session


def small(**settings):
    return VAE(image_shape=(8, 8, 1), num_filters=4, hidden_units=16, **settings)


def session(**settings):
    frames = []
    data = as_image_data(random_images(230, 8), (8, 8, 1))
    made = Session(small(latent_dim=2), data, TrainingConfig(batch_size=10, **settings), frames.append)
    return made, frames


def weights(model):
    return [w.numpy() for w in model.weights]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_pauses_single_steps_and_slow_motion_change_nothing(monkeypatch):
    monkeypatch.setattr("vae_lib.session.SLOW_SECONDS", 0.0)
    straight, _ = session()
    straight.play(epochs=2)
    assert straight.wait(60)
    halting, _ = session()
    halting.play(steps=3)
    assert halting.wait(60)
    assert (halting.step, halting.images) == (3, 30)
    halting.slow = True
    halting.play(epochs=1)
    assert halting.wait(60)
    halting.slow = False
    halting.play(epochs=1)
    assert halting.wait(60)
    assert halting.step == straight.step == 46
    assert same(weights(halting.model), weights(straight.model))


def test_it_starts_again_from_the_same_seed():
    made, _ = session()
    first = weights(made.model)
    made.play(epochs=2)
    made.wait()
    after = weights(made.model)
    made.change(batch_size=23)
    made.restart()
    assert same(weights(made.model), first)
    made.play(epochs=1)
    made.wait()
    assert made.step == 10
    made.change(batch_size=10)
    made.restart()
    made.play(epochs=2)
    made.wait()
    assert same(weights(made.model), after)


def test_the_controls_act():
    made, frames = session(beta=0.0)
    made.play(epochs=2)
    made.wait()
    free = frames[-1].kl
    made.beta = 500.0
    made.play(epochs=6)
    made.wait()
    assert frames[-1].kl < 0.5 * free
    before = weights(made.model)
    made.learning_rate = 1e-12
    made.change(importance_samples=5, batch_size=20)
    made.play(steps=1)
    made.wait()
    assert max(np.abs(a - b).max() for a, b in zip(before, weights(made.model), strict=True)) < 1e-6
    assert made.config.importance_samples == 5
    assert made.images == frames[-1].images == 8 * 230 + 20
    for name, value in (("beta", -1.0), ("learning_rate", 0.0)):
        with pytest.raises(UserError, match=name):
            setattr(made, name, value)


def test_frames_hold_the_model_in_half_precision():
    made, frames = session()
    made.play(epochs=1)
    made.wait()
    assert [frame.step for frame in frames] == sorted({frame.step for frame in frames})
    assert frames[-1].step == 23
    assert all(array.dtype == np.float16 for array in frames[-1].weights)
    for half, whole in zip(frames[-1].weights, weights(made.model), strict=True):
        np.testing.assert_allclose(half, whole, rtol=1e-3, atol=1e-6)
    assert frames[-1].nll > 0


def test_a_loss_that_is_no_number_ends_it_with_a_sentence():
    made, _ = session(learning_rate=1e6)
    made.play(epochs=50)
    made.wait()
    assert "the learning rate is too high" in made.message
    made.restart()
    assert not made.message
    made.learning_rate = 0.001
    made.play(epochs=1)
    made.wait()
    assert not made.message


def test_the_model_is_then_an_ordinary_one():
    made, _ = session()
    made.play(epochs=1)
    made.wait()
    assert (made.model.epochs_trained, made.model.steps_trained) == (1, 23)
    made.play(steps=2)
    made.wait()
    assert made.model.epochs_trained == 2
    assert len(train(made.model, made.data.train_images, epochs=1)) == 1


@pytest.fixture(scope="module")
def watched():
    data = as_image_data(random_images(300, 8), (8, 8, 1))
    data = data._replace(test_images=random_images(40, 8), test_labels=np.arange(40) % 4, label_names=tuple("abcd"))
    return data


def test_watch_shows_the_model_as_it_learns(watched):
    vae = small(latent_dim=2)
    first = manifold(vae, axis_values(live.TILES))
    shown = watch(vae, watched, epochs=2)
    assert shown.wait(60)
    assert shown.session.images == 600
    assert shown.points[-1].images == 600
    measured = evaluate_elbo(vae, watched.test_images)
    assert shown.points[-1].nll + shown.points[-1].kl == pytest.approx(-measured["elbo"], abs=0.05)
    logs = [point for point in shown.points if np.isfinite(point.log_px)]
    assert logs
    assert all(-point.log_px < point.nll + point.kl + 0.5 for point in logs)
    now = shown.plane.picture
    shown.time.value = 0
    assert shown.plane.picture != now

    then = np.asarray(Image.open(io.BytesIO(shown.plane.picture)))
    np.testing.assert_allclose(then, first[..., 0], atol=2)
    old = shown.decoded.value
    shown.point[0].value = 1.5
    assert shown.decoded.value != old
    shown.time.value = shown.time.max
    assert shown.plane.picture == now
    shown.close()


def test_a_watched_training_goes_on_while_the_reader_looks_back(watched):
    shown = watch(small(latent_dim=2), watched, epochs=1)
    shown.wait(60)
    shown.time.value = 0
    back = shown.plane.picture
    shown.one_epoch.click()
    assert shown.wait(60)
    assert shown.session.images == 600
    assert shown.plane.picture == back
    assert shown.time.max > 0
    shown.close()


def test_the_buttons(watched):
    shown = watch(small(latent_dim=3), watched, play=False)
    assert shown.session.step == 0
    shown.one_step.click()
    assert shown.wait(60)
    assert shown.session.step == 1
    shown.play.click()
    assert shown.play.description == "Pause"
    shown.play.click()
    assert shown.play.description == "Play"  # at once
    assert shown.wait(60)
    shown.play.click()
    shown.play.click()
    shown.play.click()  # before it has come to rest
    assert shown.session.playing
    assert shown.play.description == "Pause"
    shown.play.click()
    step = shown.session.step
    shown.one_step.click()
    assert shown.wait(60)
    assert shown.session.step > step
    shown.beta.value, shown.learning_rate.value = 10.0, 0.01
    assert (shown.session.beta, shown.session.learning_rate) == (10.0, 0.01)
    shown.samples.value = 5
    assert shown.beta.disabled
    shown.batch_size.value = 25
    assert (shown.session.config.batch_size, shown.session.config.importance_samples) == (25, 5)
    shown.again.click()
    assert shown.session.step == 0
    assert len(shown.frames) == len(shown.points) == 1
    shown.close()


def test_no_thread_stays_behind(watched):
    before = threading.active_count()
    shown = watch(small(latent_dim=2), watched, epochs=100_000)
    assert threading.active_count() > before
    shown.close()
    assert threading.active_count() == before
    shown = watch(small(latent_dim=2), watched, epochs=100_000)
    for _ in range(live.MOST_ALIVE):
        watch(small(latent_dim=2), watched, play=False)
    assert not shown.session.playing
    assert threading.active_count() == before


def test_it_pauses_when_nobody_looks_and_goes_on_when_somebody_does(watched, monkeypatch):
    monkeypatch.setattr(live, "MISSED_SECONDS", 0.2)
    shown = watch(small(latent_dim=2), watched, epochs=100_000, play=False)
    shown._pulse.value = 1  # what the browser does every second
    shown.play.click()
    assert shown.wait(60)
    assert "nobody" in shown.speed.value
    monkeypatch.setattr(live, "MISSED_SECONDS", 600.0)  # nobody is missed again while this looks on
    step = shown.session.step
    shown._pulse.value = 2
    until = time.monotonic() + 30
    while shown.session.step == step and time.monotonic() < until:
        time.sleep(0.01)
    shown.play.click()
    assert shown.session.step > step
    assert shown.wait(60)
    shown._pulse.value = 3
    assert not shown.session.playing
    shown.close()


def test_frames_and_points_are_thinned_but_first_and_last_stay(watched, monkeypatch):
    monkeypatch.setattr(live, "MOST_FRAMES", 6)
    monkeypatch.setattr(live, "MOST_POINTS", 8)
    shown = watch(small(latent_dim=2), watched, play=False)
    for _ in range(25):
        shown.one_step.click()
        assert shown.wait(60)
    assert len(shown.frames) <= 7
    assert (shown.frames[0].step, shown.frames[-1].step) == (0, 25)
    gaps = np.diff([frame.step for frame in shown.frames])
    assert len(gaps) >= 3
    assert gaps[:-1].min() >= 4
    assert len(shown.points) <= 8
    assert shown.strip(3).shape[2] == 1
    shown.close()


def test_the_moment_that_the_reader_looks_at_stays(watched, monkeypatch):
    monkeypatch.setattr(live, "MOST_FRAMES", 6)
    shown = watch(small(latent_dim=2), watched, play=False)
    for _ in range(5):
        shown.one_step.click()
        assert shown.wait(60)
    shown.time.value = 3
    then = shown.moment.value
    assert then.startswith("then: 3 steps")
    picture = shown.plane.picture
    for _ in range(20):
        shown.one_step.click()
        assert shown.wait(60)
    assert (shown.moment.value, shown.plane.picture) == (then, picture)
    assert shown.frames[shown.time.value].step == 3
    shown.again.click()
    assert shown.moment.value.startswith("now: 0 steps")
    assert len(shown.points) == 1
    assert shown.plane.picture != picture
    shown.close()
    shown.play.click()
    assert not shown.session.playing


def test_sliders_hold_what_was_asked_for(watched):
    shown = watch(small(latent_dim=2), watched, play=False, beta=0.0, learning_rate=1.0)
    assert (shown.session.beta, shown.learning_rate.value) == (0.0, 1.0)
    shown.beta.value = 2.0
    shown.beta.value = 10**shown.beta.min
    assert shown.session.beta == 0.0
    shown.close()


def test_without_a_browser_the_cell_ends_with_a_strip_of_frames(watched):
    class Handle:
        def update(self, bundle, raw):
            self.bundle = bundle

    shown = watch(small(latent_dim=2), watched, play=False)
    shown._handle = Handle()
    shown.one_epoch.click()
    assert shown.wait(60)
    assert "application/vnd.jupyter.widget-view+json" in shown._handle.bundle
    assert "data:image/png" in shown._handle.bundle["text/html"]
    assert "300 images" in shown._handle.bundle["text/html"]
    shown.close()


def test_a_learning_rate_that_is_too_high_is_said_and_can_be_taken_back(watched):
    shown = watch(small(latent_dim=2), watched, learning_rate=1e6)
    assert shown.wait(60)
    assert "the learning rate is too high" in shown.message.value
    assert shown.play.description == "Play"
    assert shown.learning_rate.value == pytest.approx(1e6)
    shown.play.click()  # it ends in the same way
    assert shown.wait(60)
    assert "the learning rate is too high" in shown.message.value
    shown.learning_rate.value = 0.001
    shown.again.click()
    shown.one_epoch.click()
    assert shown.wait(60)
    assert not shown.message.value
    assert np.isfinite(shown.points[-1].nll)
    shown.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_viewer_that_fails_ends_the_training_and_does_not_hang_it():
    made, _ = session()
    made.on_frame = lambda frame: 1 / 0
    made.play(epochs=100_000)
    assert made.wait(60)


@pytest.mark.parametrize("settings", [{"likelihood": "gaussian", "latent_dim": 1}, {"latent_dim": 4}])
def test_other_models_can_be_watched(settings, watched):
    shown = watch(small(**settings), watched.train_images, epochs=1)
    assert shown.wait(60)
    assert not shown.session.message
    assert np.isnan(shown.points[-1].log_px)
    shown.close()


def test_watch_says_what_it_cannot_use(watched):
    with pytest.raises(UserError, match="watch takes no such setting"):
        watch(small(latent_dim=2), watched, learning_rat=1)
    with pytest.raises(UserError, match="watch takes no schedule"):
        watch(small(latent_dim=2), watched, schedule="cosine")
    with pytest.raises(UserError, match="learning_rate"):
        watch(small(latent_dim=2), watched, learning_rate=0.0)
    with pytest.raises(UserError):
        watch("vae", watched)
    with pytest.raises(UserError):
        watch(small(latent_dim=2), "data")


# ---- The drawings ------------------------------------------------------------------------------------------


def parts(drawing, name):
    return ET.fromstring(drawing).findall(f".//{{http://www.w3.org/2000/svg}}{name}")


def test_codes_lie_where_they_are():
    z_mean = np.array([[0.0, 0.0], [1.75, -1.75]])
    drawing = svg.codes(z_mean, np.zeros([2, 2]), np.array([0, 1]), ["<a>", "b"], side=70)
    ellipses = [tuple(float(e.get(k)) for k in ("cx", "cy", "rx", "ry")) for e in parts(drawing, "ellipse")]
    assert ellipses == [(35.0, 35.0, 10.0, 10.0), (52.5, 52.5, 10.0, 10.0)]
    assert [text.text for text in parts(drawing, "text")] == ["<a>", "b"]


def test_curves_are_stacked_and_have_gaps():
    drawing = svg.curves(
        [0, 1, 2],
        {"nll": [np.nan, 6.0, 5.0], "KL": [np.nan, 2.0, 1.0]},
        {"bound": [9.0, np.nan, 7.0]},
        width=400,
        height=200,
    )
    low, high = ([tuple(map(float, p.split(","))) for p in e.get("points").split()] for e in parts(drawing, "polygon"))
    assert low[0] == high[3]  # the KL stands on the nll
    assert len(low) == len(high) == 4
    assert len(parts(drawing, "polyline")[0].get("points").split()) == 2
    assert {"nll 5.0", "KL 1.0", "bound 7.0"} <= {text.text for text in parts(drawing, "text")}
    assert parts(svg.curves([], {"nll": []}, {}, width=400, height=200), "text")


def test_a_set_weight_of_the_kl_takes_the_place_of_the_schedule():
    made, _ = session()
    trainer = made._trainer
    assert float(trainer.beta(np.int32(0))) == 1.0
    trainer.beta_set.assign(3.0)
    assert float(trainer.beta(np.int32(0))) == 3.0
    assert dataclasses.asdict(made.config)["schedule"] == "constant"
    assert isinstance(made.model, VAE)
