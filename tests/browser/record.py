"""Record ``img/lab.gif`` and ``img/explorer.gif`` from the real pages: ``python -m tests.browser.record [NAME]``."""

import io
import math
import sys
from collections.abc import Callable, Iterator

import imageio.v3 as iio
import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import ARGUMENTS, chromium_path
from tests.conftest import ROOT

SIZE = {"width": 1200, "height": 720}
WIDTH = 800  # of an animation
COLOURS = 128
THREE = [(0.25, 0.2), (0.5, 0.12), (0.72, 0.28), (0.45, 0.48), (0.75, 0.68), (0.5, 0.9), (0.22, 0.78)]


def drag(page: Page, target: str, path: list[tuple[float, float]]) -> Iterator[None]:
    """Move the pressed pointer along points in shares of an element's box; yields after each."""
    box = page.locator(target).bounding_box()
    for i, (x, y) in enumerate(path):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if i == 0:
            page.mouse.down()
        yield
    page.mouse.up()


def lab(page: Page) -> Iterator[int]:
    """The plane forms, a drawing finds its place, the model collapses and recovers; yields milliseconds of frames."""
    page.click("#play")
    page.evaluate("at('run').scrollIntoView()")
    for _ in range(26):
        page.wait_for_timeout(450)
        yield 120
    for _ in drag(page, "#pad", THREE):
        yield 150
    page.wait_for_timeout(900)
    for _ in range(4):
        page.wait_for_timeout(300)
        yield 200
    for beta, frames in (("60", 10), ("1", 16)):
        steps = page.evaluate("beta => SETTINGS.beta.values.indexOf(Number(beta))", beta)
        page.evaluate(
            "i => { at('beta').value = i; at('beta').dispatchEvent(new Event('input', {bubbles: true})) }",
            steps,
        )
        for _ in range(frames):
            page.wait_for_timeout(450)
            yield 120
    yield 1500


def explorer(page: Page) -> Iterator[int]:
    """Sliders, the map, a drawing; yields each frame's milliseconds."""
    page.locator("#sliders input").first.focus()
    for _ in range(10):
        for _ in range(12):
            page.keyboard.press("ArrowRight")
        yield 90
    circle = [(0.5 + 0.33 * math.cos(a), 0.5 - 0.33 * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 24)]
    for _ in drag(page, "#map", circle):
        yield 90
    page.locator("#pad").scroll_into_view_if_needed()
    for _ in drag(page, "#pad", THREE):
        yield 150
    yield 1500


SCENES: dict[str, tuple[str, Callable[[Page], Iterator[int]]]] = {
    "lab": ("lab.html", lab),
    "explorer": ("mnist_2.html", explorer),
}


def main() -> None:
    for name in sys.argv[1:] or SCENES:
        address, scene = SCENES[name]
        frames, durations = [], []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
            page = browser.new_page(viewport=SIZE, color_scheme="light")
            page.goto((ROOT / "docs" / address).as_uri())
            page.wait_for_timeout(500)
            for milliseconds in scene(page):
                shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
                small = shot.resize((WIDTH, WIDTH * SIZE["height"] // SIZE["width"]), Image.Resampling.LANCZOS)
                frames.append(np.asarray(small.quantize(COLOURS).convert("RGB")))
                durations.append(milliseconds)
            browser.close()
        target = ROOT / "img" / f"{name}.gif"
        iio.imwrite(target, np.stack(frames), duration=durations, loop=0, plugin="pillow")
        print(f"{target.name}: {len(frames)} frames, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
