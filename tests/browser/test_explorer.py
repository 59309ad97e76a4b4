"""The exported pages, opened from disk in a browser without a network, as a visitor uses them."""

import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.conftest import ROOT
from vae_lib import VAE, explorer_page, latent
from vae_lib.page.export import write_page
from vae_lib.runs.store import load_run

pytestmark = pytest.mark.browser

RUNS = ("mnist_2", "fashion_mnist_2", "faces_2", "faces_6", "faces_10")
DESKTOP = {"viewport": {"width": 1200, "height": 900}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True, "is_mobile": True}
MAP, IMAGE = "#map", "#image"
FIRST = "#sliders input"


@pytest.fixture
def visit(browser):
    """Opens a page of ``docs/`` offline; every request and every complaint of the page is kept."""
    contexts, asked, complaints = [], [], []

    def open_page(name, address="", **options):
        context = browser.new_context(**(options or DESKTOP), offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((ROOT / "docs" / f"{name}.html").as_uri() + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def settle(page):
    """Wait until what was asked for is drawn: two frames later."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def code(page):
    settle(page)
    return page.evaluate("explorer.code()")


def picture(page):
    settle(page)
    return page.evaluate("document.getElementById('image').toDataURL()")


@pytest.mark.parametrize("name", RUNS)
def test_the_page_decodes_as_tensorflow_does(visit, name):
    run = load_run(ROOT / "pickles" / name)
    z = np.random.default_rng(0).standard_normal([200, run.config.model.latent_dim]).astype(np.float32)
    decode = "codes => codes.map(z => Array.from(explorer.decoder.decode(z)))"
    shown = np.array(visit(name).evaluate(decode, z.tolist()))
    expected = run.model.decode_arrays(z).reshape(200, -1)
    difference = np.abs(shown - expected).max()
    print(f"\n{name}: largest difference of a pixel {255 * difference:.3f} / 255")
    assert difference < 1 / 255


@pytest.mark.parametrize("shape", [(28, 28, 1), (16, 16, 3)])
def test_the_page_knows_the_mean_of_a_discretized_logistic(visit, tmp_path, shape):
    vae = VAE(2, image_shape=shape, likelihood="discretized_logistic", num_filters=4, hidden_units=16)
    for weight in vae.decoder.weights:
        weight.assign(2.0 * weight)  # middles beyond black and white, too
    write_page(tmp_path / "logistic.html", explorer_page(vae, map_side=112))
    page = visit(tmp_path / "logistic")
    codes = 2 * np.random.default_rng(0).standard_normal([50, 2])
    decoded = page.evaluate("codes => codes.map(z => Array.from(explorer.decoder.decode(z)))", codes.tolist())
    np.testing.assert_allclose(decoded, vae.decode_arrays(codes).reshape(50, -1), atol=0.5 / 255)


@pytest.mark.parametrize("name", RUNS)
def test_it_is_fast_and_small(visit, name):
    page = visit(name)
    settle(page)
    first = page.evaluate("explorer.firstPicture")
    for _ in range(60):
        page.click("#random")
        settle(page)
    median = np.median(page.evaluate("explorer.milliseconds")[10:])
    size = (ROOT / "docs" / f"{name}.html").stat().st_size / 1e6
    print(f"\n{name}: {median:.1f} ms to decode and draw, first picture after {first:.0f} ms, {size:.2f} MB")
    assert median < (33 if "faces" in name else 16)
    assert first < 1000
    assert size < (8 if "faces" in name else 3)


@pytest.mark.parametrize("kind", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", [*RUNS, "index"])
def test_it_is_accessible_and_fits(visit, screenshots, name, kind):
    page = visit(name, **kind)
    if name != "index":
        page.locator("#examples button").nth(3).click()
        page.locator("summary").click()
        settle(page)
    width = kind["viewport"]["width"]
    page.screenshot(path=screenshots / f"{name}_{width}.png", full_page=True)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["mnist_2", "faces_10"])
def test_sliders_by_keyboard_and_mouse(visit, name):
    page = visit(name)
    order = page.evaluate("run.order")
    for row, dimension in enumerate(order):
        slider = page.locator(FIRST).nth(row)
        before, start = picture(page), code(page)
        slider.focus()
        for _ in range(60):
            slider.press("ArrowRight")
        assert code(page)[dimension] == pytest.approx(start[dimension] + 0.6, abs=1e-6)
        assert picture(page) != before
        assert page.locator("#sliders output").nth(row).inner_text() == f"{start[dimension] + 0.6:.2f}"
        box = slider.bounding_box()
        page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
        assert code(page)[dimension] == pytest.approx(-1.29, abs=0.15)
    page.click("#reset")
    assert code(page) == [0] * len(order)


def test_the_map_by_mouse_touch_and_keyboard(visit):
    page = visit("mnist_2")
    box = page.locator(MAP).bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"], steps=5)
    page.mouse.up()
    # Three quarters of the way between the quantiles 0.025 and 0.975 is the quantile 0.7375.
    assert code(page) == pytest.approx([0.6356, 0.6356], abs=0.02)
    page.locator(MAP).focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    assert code(page) == pytest.approx([0.5856, 0.5856], abs=0.02)
    phone = visit("mnist_2", **PHONE)
    box = phone.locator(MAP).bounding_box()
    phone.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    assert code(phone) == pytest.approx([-0.6356, 0.0], abs=0.03)


def test_the_map_of_a_larger_space_moves_in_its_plane(visit):
    page = visit("faces_10")
    page.click("#random")
    start = np.array(code(page))
    page.locator(MAP).focus()
    page.keyboard.press("ArrowRight")
    plane = page.evaluate("plane")
    moved = np.array(code(page)) - start
    np.testing.assert_allclose(moved, 0.05 * np.array(plane["x"]), atol=1e-6)


def test_the_encoded_test_images_lie_where_they_are_encoded(visit):
    page = visit("mnist_2")
    stored = page.evaluate("Array.from(unpack(points.codes, Int16Array), v => v * points.step)")
    codes = load_run(ROOT / "pickles" / "mnist_2").encodings
    np.testing.assert_allclose(np.reshape(stored, (-1, 2)), codes.z_mean[:3000], atol=2e-4)
    labels = page.evaluate("Array.from(unpack(points.labels, Uint8Array))")
    assert labels == codes.labels[:3000].tolist()
    assert page.locator("#legend li").all_inner_texts() == [str(digit) for digit in range(10)]
    points = "document.getElementById('points').toDataURL()"
    drawn = page.evaluate(points)
    page.uncheck("#show-points")
    assert len(page.evaluate(points)) < len(drawn) / 10


def test_buttons_walk_and_link(visit):
    page = visit("mnist_2")
    before = picture(page)
    page.click("#random")
    assert picture(page) != before
    page.click("#play")
    page.wait_for_timeout(500)
    first = code(page)
    page.wait_for_timeout(300)
    assert code(page) != first
    assert page.get_attribute("#play", "aria-pressed") == "true"
    page.click("#play")
    stopped = code(page)
    page.wait_for_timeout(200)
    assert code(page) == stopped
    page.click("#link")
    assert re.search(r"#z=[-0-9.,]+$", page.url)
    again = visit("mnist_2", "#" + page.url.split("#")[1])
    assert code(again) == pytest.approx(stopped, abs=6e-4)
    assert picture(visit("mnist_2", "#z=nonsense,1")) == before


def test_a_link_to_a_far_point_comes_back_as_it_is(visit):
    far = code(visit("faces_2", "#z=1.500,-8.602"))
    assert far == [1.5, -8.602]
    assert code(visit("faces_2", "#z=1e300,0")) == [1e4, 0]


def test_far_codes_are_on_the_page_as_they_are(visit):
    stored = visit("faces_2").evaluate("Array.from(unpack(points.codes, Int16Array), v => v * points.step)")
    codes = load_run(ROOT / "pickles" / "faces_2").encodings.z_mean
    np.testing.assert_allclose(np.reshape(stored, codes.shape), codes, atol=5e-4)


def test_the_page_says_how_many_codes_its_map_shows(visit):
    codes = load_run(ROOT / "pickles" / "mnist_2").encodings.z_mean[:3000].astype(np.float64)
    inside = (np.abs(codes) < latent.axis_values(40)[-1]).all(axis=1).sum()
    text = visit("mnist_2").locator("#shown").inner_text()
    found = int(re.match(r"\(([\d,]+) of 3,000; ", text).group(1).replace(",", ""))
    assert found == pytest.approx(inside, abs=3)  # some lie on the very edge


@pytest.mark.parametrize("name", ["mnist_2", "index"])
def test_the_policy_of_a_page_forbids_requests(browser, name):
    """Nothing that a script in the page asks for leaves it."""
    page = browser.new_page()
    page.goto((ROOT / "docs" / f"{name}.html").as_uri())
    failures = []
    page.on("requestfailed", lambda request: failures.append(request.failure))
    page.on("requestfinished", lambda request: failures.append("none"))
    refused = page.evaluate(
        """async () => {
          const seen = new Set();
          document.addEventListener("securitypolicyviolation", (event) => seen.add(event.effectiveDirective));
          new Image().src = "https://example.org/a.png";
          navigator.sendBeacon("https://example.org/b", "x");
          await fetch("https://example.org/c").catch(() => {});
          const script = document.createElement("script");
          script.src = "https://example.org/d.js";
          document.head.append(script);
          await new Promise((resolve) => setTimeout(resolve, 200));
          return [...seen].sort();
        }"""
    )
    page.close()
    assert refused == ["connect-src", "img-src", "script-src-elem"]
    assert set(failures) == {"csp"}


def test_the_walk_goes_through_the_manifold(visit):
    corners = visit("mnist_2").evaluate("[tileCode(0), tileCode(39), tileCode(1600)]")
    values = latent.axis_values(40)
    np.testing.assert_allclose(corners[0], [values[0], values[-1]], atol=1e-3)
    row, column = latent.spiral(40)[39]
    np.testing.assert_allclose(corners[1], latent.grid(values)[row, column], atol=1e-3)
    assert corners[2] == corners[0]


def test_starting_from_a_test_image(visit):
    page = visit("fashion_mnist_2")
    assert page.locator("#original").is_hidden()
    page.get_by_role("button", name="held-out image 2: Trouser").click()
    assert page.locator("#original").is_visible()
    assert code(page) == page.evaluate("examples.codes[1]")
    page.click("#reset")
    assert page.locator("#original").is_hidden()
    faces = visit("faces_6")
    faces.get_by_role("button", name="held-out image 5", exact=True).click()
    codes = load_run(ROOT / "pickles" / "faces_6").encodings.z_mean
    assert code(faces) == pytest.approx(codes[4].tolist(), abs=1e-3)


def test_the_card_tells_the_numbers_of_the_run(visit):
    page = visit("mnist_2")
    page.locator("summary").click()
    text = page.locator("#card").inner_text()
    test = load_run(ROOT / "pickles" / "mnist_2").metrics["test"]
    assert f"{test['elbo']:.2f}" in text
    assert "10,000 test images" in text


def test_the_index_links_every_page(visit):
    page = visit("index")
    assert page.locator("#cards a").evaluate_all("links => links.map(l => l.getAttribute('href'))") == [
        f"{name}.html" for name in RUNS
    ]
    page.locator("#cards a").first.click()
    expect(page.locator("h1")).to_have_text("mnist_2")


@pytest.mark.parametrize("name", ["mnist_2", "faces_2"])
def test_the_canvas_shows_what_was_decoded(visit, name):
    """Each byte is the nearest one to the decoded grey, as in the package's pictures."""
    for z in ([0.0, 0.0], [0.7, -1.2]):
        page = visit(name, f"#z={z[0]},{z[1]}")
        assert code(page) == z
        pixels = page.evaluate(
            "() => { const c = document.getElementById('image');"
            " return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data) }"
        )
        decoded = np.array(page.evaluate("z => Array.from(explorer.decoder.decode(z))", z))
        np.testing.assert_array_equal(np.array(pixels).reshape(-1, 4)[:, 0], np.round(decoded * 255))
