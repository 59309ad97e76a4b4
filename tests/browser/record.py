"""Record ``img/explorer.gif`` from the real page: ``python -m tests.browser.record``."""

import io
import math

import imageio.v3 as iio
import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS, chromium_path
from tests.conftest import ROOT

SIZE = {"width": 960, "height": 700}
WIDTH = 480  # of the animation
FRAME_MS = 90


def main() -> None:
    frames = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto((ROOT / "docs" / "mnist_2.html").as_uri())

        def keep() -> None:
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            small = shot.resize((WIDTH, WIDTH * SIZE["height"] // SIZE["width"]))
            frames.append(np.asarray(small.quantize(64).convert("RGB")))

        page.locator("#sliders input").first.focus()
        for _ in range(12):
            for _ in range(12):
                page.keyboard.press("ArrowRight")
            keep()
        box = page.locator("#map").bounding_box()
        for i in range(30):
            angle, radius = 2 * math.pi * i / 29, 0.33
            x = box["x"] + box["width"] * (0.5 + radius * math.cos(angle))
            y = box["y"] + box["height"] * (0.5 - radius * math.sin(angle))
            page.mouse.move(x, y)
            if i == 0:
                page.mouse.down()
            keep()
        page.mouse.up()
        for _ in range(6):
            page.click("#random")
            for _ in range(3):
                keep()
        browser.close()
    target = ROOT / "img" / "explorer.gif"
    iio.imwrite(target, np.stack(frames), duration=FRAME_MS, loop=0, plugin="pillow")
    print(f"{target.name}: {len(frames)} frames, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
