"""The built site in a browser: silent, complete, readable on a phone, and clean for people who do not see it.

``make site`` builds it; without it these tests are skipped, or fail where ``BROWSER_REQUIRED`` is set.
"""

import functools
import http.server
import os
import threading

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.conftest import ROOT

pytestmark = pytest.mark.browser
SITE = ROOT / "build" / "site"
ALONE = ROOT / "build" / "site-source" / "pages"  # pages that are complete in themselves, and tested themselves
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if not {"_static", "slides"} & set(path.parts) and not (ALONE / path.relative_to(SITE)).is_file()
)
DECKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
FIRST_SECONDS = 2.0


@pytest.fixture(scope="module")
def address():
    if not (SITE / "index.html").is_file():
        (pytest.fail if os.environ.get("BROWSER_REQUIRED") else pytest.skip)("no site is built: make site")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def opened(browser, address, name, viewport=DESKTOP, **options):
    """A page, and what it said and asked of others."""
    page = browser.new_page(viewport=viewport, **options)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.on(
        "response",
        lambda response: said.append(f"{response.status} {response.url}") if response.status >= 400 else None,
    )
    page.goto(f"{address}/{name}")
    page.wait_for_load_state("networkidle")
    asked = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    return page, said, asked


def test_there_are_pages(address):
    assert len(PAGES) >= 30


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_silent_complete_and_clean(browser, address, name):
    page, said, asked = opened(browser, address, name)
    try:
        assert (said, asked) == ([], [])
        # What a notebook shows from a page that is tested by itself is left out.
        result = Axe().run(page, context={"exclude": [["iframe"]]})
        assert result.response["violations"] == [], result.generate_report()
    finally:
        page.close()


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("notebooks/") or name == "index.html"])
def test_a_page_can_be_read_on_a_phone(browser, address, name, screenshots):
    page, said, _ = opened(browser, address, name, PHONE, color_scheme="dark")
    try:
        page.screenshot(path=screenshots / f"site_{name.replace('/', '_')}.png")
        assert said == []
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    finally:
        page.close()


@pytest.mark.parametrize("name", ["index.html", "notebooks/06_how_good_is_it.html"])
def test_the_first_content_comes_soon(browser, address, name):
    page, *_ = opened(browser, address, name)
    script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    assert page.evaluate(script) < 1000 * FIRST_SECONDS
    page.close()


def test_formulas_are_rendered_and_solutions_are_folded(browser, address):
    page, *_ = opened(browser, address, "notebooks/02_building_a_vae.html")
    page.wait_for_selector("mjx-container")
    assert page.locator("mjx-container").count() > 10
    assert page.locator("mjx-merror").count() == 0
    hidden = page.locator("details:not([open]) div.highlight")
    assert hidden.count() >= 4
    assert not hidden.first.is_visible()
    page.close()


def test_the_search_finds_a_term_without_a_server(browser, address):
    page, said, asked = opened(browser, address, "search.html?q=importance")
    page.wait_for_selector("#search-results li")
    found = page.locator("#search-results li a").all_inner_texts()
    assert any("How good is it" in text for text in found)
    assert (said, asked) == ([], [])
    page.close()


def test_the_pages_without_a_kernel_are_shown_where_a_notebook_speaks_of_them(browser, address):
    page, *_ = opened(browser, address, "notebooks/00_quickstart.html")
    frame = page.frame_locator("iframe").first
    page.locator("iframe").first.scroll_into_view_if_needed()
    frame.locator("canvas").first.wait_for(timeout=20_000)
    assert page.locator("iframe").first.get_attribute("title")
    page.close()


@pytest.mark.parametrize("deck", DECKS)
def test_slides_fit_on_their_pages(browser, address, deck, screenshots):
    page, said, asked = opened(browser, address, f"slides/{deck}.html")
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    assert page.evaluate("Reveal.getTotalSlides()") >= 4
    script = """() => Reveal.getSlides().map(slide => {
        const place = Reveal.getIndices(slide); Reveal.slide(place.h, place.v);
        return [slide.innerText.slice(0, 40), slide.scrollHeight, slide.scrollWidth]; })"""
    config = page.evaluate("Reveal.getConfig()")
    found = page.evaluate(script)
    assert [slide for slide in found if slide[1] > config["height"] or slide[2] > config["width"]] == []
    assert page.locator("mjx-merror").count() == 0
    assert page.evaluate("[...document.images].every(image => image.alt && image.complete && image.naturalWidth)")
    assert (said, [url for url in asked if not url.startswith(address)]) == ([], [])
    page.evaluate("Reveal.slide(0, 0)")
    for _ in range(page.evaluate("Reveal.getTotalSlides()") - 1):  # one key leads through all
        page.keyboard.press("ArrowRight")
    assert page.evaluate("Reveal.isLastSlide()")
    page.evaluate("Reveal.slide(2)")
    page.screenshot(path=screenshots / f"slides_{deck}.png")
    page.close()
