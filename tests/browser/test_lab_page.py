"""The lab: a VAE that trains in the page, its controls, what it shows, and that nothing leaves it."""

import re
import time

import keras
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from vae_lib import load_data
from vae_lib.backend import tf
from vae_lib.losses import bernoulli_nll, gaussian_kl
from vae_lib.page.export import write_page
from vae_lib.page.lab import lab_page

pytestmark = pytest.mark.browser

DESKTOP, PHONE = {"width": 1280, "height": 1000}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("lab") / "lab.html", lab_page()).as_uri()


@pytest.fixture
def visit(browser, address):
    """Opens the page offline; every request and every complaint of it is kept."""
    contexts, asked, complaints = [], [], []

    def open_page(fragment="", before="", **options):
        context = browser.new_context(**({"viewport": DESKTOP} | options), offline=True)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(before)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address + fragment)
        wait(page, lambda state: state is not None)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked), asked
    assert complaints == []


def state(page):
    return page.evaluate("lab.state()")


def wait(page, condition, seconds=90):
    """The state, as soon as a condition on it holds."""
    until = time.monotonic() + seconds
    while not condition(found := state(page)):
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def choose(page, control, value):
    """Move a slider to one of its values, by the keyboard."""
    values = page.evaluate(f"SETTINGS[{control!r}].values")
    page.locator(f"#{control}").focus()
    page.keyboard.press("Home")
    for _ in range(values.index(value)):
        page.keyboard.press("ArrowRight")


def learn(page, images, seconds=90):
    """Play until so many more images were seen, and pause."""
    enough = state(page)["images"] + images
    page.locator("#play").click()
    wait(page, lambda found: found["images"] >= enough, seconds)
    page.locator("#play").click()
    return wait(page, lambda found: not found["playing"])


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_all(visit, size, scheme, screenshots):
    page = visit(viewport=size, color_scheme=scheme)
    learn(page, 2000)
    page.screenshot(path=screenshots / f"lab_{size['width']}_{scheme}.png", full_page=True)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_it_learns_and_the_elbo_stays_below_log_px(visit, screenshots):
    page = visit()
    before = state(page)
    assert (before["step"], before["images"]) == (0, 0)
    found = learn(page, 60_000)
    page.screenshot(path=screenshots / "lab_learned.png")
    assert found["elbo"] > before["elbo"] + 300
    assert found["elbo"] == pytest.approx(-(found["nll"] + found["kl"]))
    assert 0 < found["log_px"] - found["elbo_at_log_px"] < 20
    assert found["verdict"] == "Nothing is off."
    assert len(set(page.evaluate("Array.from(latest.plane).slice(0, 784)"))) > 50  # a picture, not one grey


def test_a_collapse_is_made_seen_and_undone(visit):
    page = visit()
    learn(page, 15_000)
    assert state(page)["kl"] > 3
    choose(page, "beta", 60)
    collapsed = learn(page, 30_000)
    assert collapsed["beta"] == 60
    assert collapsed["kl"] < 0.2
    assert "collapse" in collapsed["verdict"]
    assert page.locator("#verdict").inner_text() == collapsed["verdict"]
    choose(page, "beta", 1)
    assert learn(page, 60_000)["kl"] > 3


def test_steps_follow_from_the_seed(visit):
    ends = []
    for fragment in ("#seed=3", "#seed=3", "#seed=4"):
        page = visit(fragment)
        for i in range(3):
            page.locator("#step").click()
            wait(page, lambda found, i=i: found["step"] == i + 1)
        ends.append([state(page)[name] for name in ("nll", "kl")])
    assert ends[0] == ends[1] != ends[2]


def test_an_epoch_a_new_start_and_earlier_frames(visit):
    page = visit()
    page.locator("#epoch").click()
    assert wait(page, lambda found: found["images"] == 4000)["step"] == 80
    frames = page.locator("#frame")
    assert int(frames.get_attribute("max")) >= 1
    frames.focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(200)
    assert page.locator("#frame-name").inner_text() == "the plane after 0 images; all else is now"
    page.locator("#restart").click()
    wait(page, lambda found: found["step"] == 0)


def test_the_address_prepares_an_experiment(visit):
    page = visit(
        "#data=garments&likelihood=gaussian&latent=3&hidden=32&beta=4&bug=no-gradient&hide=seed+experiment-block&nonsense=1"
    )
    settings = state(page)["settings"]
    wanted = {"data": "garments", "likelihood": "gaussian", "latent": 3, "hidden": 32, "beta": 4, "bug": "no-gradient"}
    assert wanted.items() <= settings.items()
    assert len(state(page)["kl_per_dimension"]) == 3
    assert not page.locator("#seed").is_visible()
    assert not page.locator("#experiment").is_visible()
    choose(page, "beta", 2)
    assert "beta=2" in page.evaluate("location.hash")
    assert "hide=seed+experiment-block" in page.evaluate("location.hash")


@pytest.mark.parametrize("number", range(8))
def test_every_prepared_experiment_runs(visit, number):
    page = visit()
    page.locator("#experiment").select_option(str(number))
    assert len(page.locator("#story").inner_text()) > 100
    wait(page, lambda found: found["step"] == 0)
    assert np.isfinite(learn(page, 3000)["elbo"])


def draw(page, strokes):
    box = page.locator("#pad").bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=8)
        page.mouse.up()


def test_a_drawing_is_encoded_found_and_learned(visit):
    """A bar is a one: the code of the drawing lies among the ones."""
    page = visit()
    learn(page, 120_000, seconds=180)
    draw(page, [[(0.5, 0.15), (0.5, 0.85)]])
    found = wait(page, lambda found: found["drawing"] is not None)["drawing"]
    codes = np.array(page.evaluate("Array.from(latest.codes)")).reshape(-1, 4)[:, :2]
    labels = np.array(page.evaluate("content.sets.digits.labels"))
    nearest = np.argsort(np.linalg.norm(codes - found["mean"], axis=1))[:10]
    assert np.sum(labels[nearest] == 1) >= 8
    assert min(found["sigma"]) > 0
    assert state(page)["point"] == pytest.approx(found["mean"])
    page.locator("#learn-it").click()
    page.wait_for_timeout(300)
    assert learn(page, 4000)["images"] > 0
    assert page.evaluate("latest.images") == 4040
    page.locator("#clear").click()
    wait(page, lambda found: found["drawing"] is None)
    draw(page, [[(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9), (0.1, 0.1)]])  # no digit has four corners
    wait(page, lambda found: found["drawing"] is not None)
    page.locator("#learn-it").click()
    learn(page, 100_000, seconds=240)
    page.wait_for_timeout(500)
    before, now = map(
        int, re.search(r"was (\d+) pixels off, and is (\d+) now", page.locator("#status").inner_text()).groups()
    )
    assert now < 0.8 * before


def test_the_point_moves_by_keys_and_is_decoded(visit):
    page = visit()
    learn(page, 10_000)
    page.locator("#map").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    assert state(page)["point"] == pytest.approx([0.2, 0.1])
    page.wait_for_timeout(300)
    assert "0.20, 0.10" in page.locator("#decoded-name").inner_text()


def test_one_dimension_and_many(visit):
    page = visit("#latent=1&hidden=32")
    assert np.isfinite(learn(page, 2000)["elbo"])
    tiles = np.array(page.evaluate("Array.from(latest.plane)")).reshape(14, 14, -1)
    assert np.array_equal(tiles[0], tiles[13])  # the plane has columns only
    page = visit("#latent=5&hidden=32")
    learn(page, 8000)
    assert page.locator("#others input").count() == 3
    before = page.evaluate("Array.from(latest.plane)")
    page.locator("#z5").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    wait(page, lambda found: found["point"][4] == pytest.approx(1.0))
    page.wait_for_timeout(500)
    assert page.evaluate("Array.from(latest.plane)") != before
    assert page.locator("#decoded-name").inner_text().count(",") == 4


def test_without_workers_the_page_itself_learns(visit):
    page = visit(before="delete window.Worker")
    assert page.evaluate("worker === null")
    assert learn(page, 8000)["elbo"] > -230


def test_only_the_encoder_learns(visit):
    page = visit()
    learn(page, 20_000)
    page.locator("#frozen").check()
    first = learn(page, 8000)["log_px"]
    assert learn(page, 20_000)["log_px"] == pytest.approx(first, abs=1e-6)


STEPS, SEEDS = 1200, (0, 1, 2)


def tensorflow_elbo(seed):
    """The same network, Adam, rate, batches and number of steps; other first weights, orders and noise."""
    sample = load_data("mnist", source="sample")
    x, x_test = (np.float32(a.reshape(-1, 784) >= 128) for a in (sample.train_images, sample.test_images[::5]))
    keras.utils.set_random_seed(seed)
    dense, rng = keras.layers.Dense, np.random.default_rng(seed)
    encoder = keras.Sequential([keras.Input((784,)), dense(128, "gelu"), dense(4)])
    decoder = keras.Sequential([keras.Input((2,)), dense(128, "gelu"), dense(784)])
    weights = encoder.trainable_variables + decoder.trainable_variables
    optimizer = keras.optimizers.Adam(2e-3)
    optimizer.build(weights)

    def loss(x, epsilon):
        z_mean, z_log_var = tf.split(encoder(x), 2, axis=1)
        return bernoulli_nll(x, decoder(z_mean + tf.exp(0.5 * z_log_var) * epsilon)) + gaussian_kl(z_mean, z_log_var)

    @tf.function
    def step(x, epsilon):
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(x, epsilon))
        optimizer.apply(tape.gradient(value, weights), weights)

    for i in range(STEPS):
        if i % 80 == 0:
            order = rng.permutation(4000)
        rows = order[i % 80 * 50 :][:50]
        step(tf.constant(x[rows]), tf.constant(rng.standard_normal([50, 2]), tf.float32))
    noise = tf.constant(rng.standard_normal([200, 2]), tf.float32)
    return -float(tf.reduce_mean(loss(tf.constant(x_test), noise)))


def test_trainings_by_tensorflow_end_in_the_same_place(visit):
    """Means over seeds: one training and another lie two nats apart, in TensorFlow as well."""
    ours = []
    for seed in SEEDS:
        page = visit(f"#seed={seed}")
        page.evaluate(f"tell({{ do: 'play', steps: {STEPS} }})")
        ours.append(wait(page, lambda found: found["step"] == STEPS)["elbo"])
        page.close()
    assert np.mean(ours) == pytest.approx(np.mean([tensorflow_elbo(seed) for seed in SEEDS]), abs=3.0)


def test_a_world_of_two_numbers(visit):
    """The two numbers of a dot, its place, can be read off the plane by a linear map."""
    page = visit("#data=dots")
    found = learn(page, 60_000)
    assert found["kl"] < 12
    codes = np.array(page.evaluate("Array.from(latest.codes)")).reshape(-1, 4)[:, :2]
    images = np.array(page.evaluate("Array.from(toys('dots', 200, 2).images)")).reshape(-1, 28, 28)
    rows, columns = np.mgrid[:28, :28]
    places = np.stack([(images * axis).sum(axis=(1, 2)) / images.sum(axis=(1, 2)) for axis in (columns, rows)], axis=-1)
    features = np.column_stack([np.ones(200), codes, codes**2, codes[:, :1] * codes[:, 1:], codes**3])
    left = places - features @ np.linalg.lstsq(features, places, rcond=None)[0]
    assert left.var() < 0.35 * places.var(axis=0).mean()
    bars = np.array(visit("#data=bars").evaluate("Array.from(toys('bars', 50, 1).images)")).reshape(-1, 784)
    assert (bars > 0).sum(axis=1).min() > 15
    assert set(bars.ravel()) == {0, 255}


def test_the_posterior_of_a_drawing(visit):
    """It is where the sum over the plane puts it, and near the encoder's Gaussian for a digit that the model knows."""
    page = visit()
    learn(page, 60_000)
    draw(page, [[(0.5, 0.15), (0.5, 0.85)]])
    found = wait(page, lambda found: (found["drawing"] or {}).get("posterior") is not None)["drawing"]
    cells = np.array(found["posterior"])
    side = round(np.sqrt(len(cells)))
    axis = np.array(page.evaluate(f"wideAxis({side})"))
    assert cells.max() == pytest.approx(1)
    share = cells.reshape(side, side) * np.outer(np.gradient(axis), np.gradient(axis))  # density times width
    share /= share.sum()
    mean = np.array([share.sum(axis=0) @ axis, share.sum(axis=1) @ axis])
    assert np.linalg.norm(mean - found["mean"]) < 1.0
    page.locator("#clear").click()
    assert wait(page, lambda found: found["drawing"] is None)


def test_a_new_start_forgets_what_the_old_model_said_of_a_drawing(visit):
    page = visit()
    learn(page, 5000)
    draw(page, [[(0.5, 0.15), (0.5, 0.85)]])
    before = wait(page, lambda found: (found["drawing"] or {}).get("posterior") is not None)["drawing"]
    page.locator("#restart").click()
    found = wait(page, lambda found: found["images"] == 0 and found["drawing"] is not None)["drawing"]
    assert found["mean"] != before["mean"]
    assert "your drawing" not in page.locator("#status").inner_text() or found["posterior"] != before["posterior"]


def test_slow_motion_begins_and_play_comes_back_from_the_past(visit):
    page = visit()
    page.locator("#slow").click()
    assert wait(page, lambda found: found["images"] >= 100)["playing"]
    page.locator("#slow").click()
    page.locator("#play").click()
    wait(page, lambda found: not found["playing"])
    page.locator("#frame").focus()
    page.keyboard.press("Home")
    assert "all else is now" in page.locator("#frame-name").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#frame-name").inner_text() == "now"
    page.keyboard.press("Home")
    page.locator("#play").click()
    assert page.locator("#frame-name").inner_text() == "now"
