"""How alive the lab and ``watch`` are: ``python -m benchmarks.alive``, for an idle machine; writes ALIVE.md.

Needs a Chromium, as `make test-browser` does.
"""

from __future__ import annotations

import datetime
import json
import statistics
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.run import machine
from tests.browser.conftest import ARGUMENTS, chromium_path
from vae_lib import VAE, load_data, train, watch

HERE = Path(__file__).parent
LAB = (HERE.parent / "docs" / "lab.html").as_uri()
SECONDS = 60
ROUNDS = 3
INTRO = (
    "In the lab a small network, with far fewer weights than the default one, trains in a browser's tab while\n"
    "each frame is drawn; `watch` trains the default network in a notebook and shows it meanwhile. So the first\n"
    "table's images per second cannot be compared with those of RESULTS.md."
)
FRAMES = """(seconds) => new Promise((done) => {
  const gaps = [];
  let last = performance.now();
  const end = last + 1000 * seconds;
  const turn = (now) => {
    gaps.push(now - last);
    last = now;
    if (now < end) requestAnimationFrame(turn); else done(gaps);
  };
  requestAnimationFrame(turn);
})"""


def first_tiles(page: Page) -> float:
    """Seconds from opening the lab to its first picture of the plane."""
    began = time.perf_counter()
    page.goto(LAB)
    while not page.evaluate("lab.state() != null && document.getElementById('plane').width > 300"):
        page.wait_for_timeout(10)
    return time.perf_counter() - began


def lab() -> dict[str, float]:
    """The lab at its defaults: 28 x 28, 128 hidden units, batches of 50."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        opened = []
        for _ in range(ROUNDS):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            opened.append(first_tiles(page))
            page.close()
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        first_tiles(page)
        page.click("#play")
        gaps = page.evaluate(FRAMES, SECONDS)
        page.click("#play")
        page.wait_for_timeout(500)
        state = page.evaluate("lab.state()")
        browser.close()
    return {
        "seconds to the first tiles": statistics.median(opened),
        "images a second": state["images"] / SECONDS,
        "longest frame, ms": max(gaps[5:]),
        "frames over 50 ms": sum(gap > 50 for gap in gaps[5:]),
        "frames": len(gaps),
        f"held-out -ELBO after {SECONDS} s": -state["elbo"],
    }


def watched() -> dict[str, float]:
    """`watch` on the sample against `train`, images a second in turns, and how often it draws."""
    data, rates, shares = load_data("mnist", source="sample"), [], []
    for _ in range(ROUNDS):
        vae = VAE(latent_dim=2)
        train(vae, data.train_images, epochs=1)  # traces, and warms up
        began = time.perf_counter()
        train(vae, data.train_images, epochs=8)
        alone = 8 * len(data.train_images) / (time.perf_counter() - began)
        live = watch(VAE(latent_dim=2), data, epochs=1)
        live.wait()
        points, seen, began = len(live.points), live.session.images, time.perf_counter()
        live.session.play(epochs=8)
        live.wait()
        seconds = time.perf_counter() - began
        shares.append((live.session.images - seen) / seconds / alone)
        rates.append((len(live.points) - points) / seconds)
        live.close()
    return {"share of train's speed": statistics.median(shares), "pictures a second": statistics.median(rates)}


def page(found: dict[str, Any]) -> str:
    """ALIVE.md from what was measured."""
    lines = [
        "# How smoothly the lab and `watch` run",
        "",
        "Written by `python -m benchmarks.alive`; do not edit.",
        "",
        INTRO,
    ]
    lines += ["", f"- date: {found['date']}", f"- machine: {found['machine']}"]
    for name, numbers in found["measured"].items():
        lines += ["", f"## {name[:1].upper()}{name[1:]}", "", "| measure | value |", "| --- | --- |"]
        lines += [f"| {what} | {value:,.{0 if float(value).is_integer() else 2}f} |" for what, value in numbers.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    measured = {"the lab, in Chromium": lab(), "watch, on the sample": watched()}
    found = {"date": str(datetime.date.today()), "machine": machine(), "measured": measured}
    (HERE / "alive.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "ALIVE.md").write_text(page(found))
    print(page(found))


if __name__ == "__main__":
    main()
