"""Every notebook in the real JupyterLab: Run All, and the sliders under keyboard and mouse."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.browser

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IDLE_POLLS = 5  # two seconds each
CELLS_TIMEOUT = 900  # seconds for all the cells of one notebook
WATCH = """
from pathlib import Path
from vae_lib import VAE, load_data, watch

live = watch(VAE(latent_dim=2), load_data("mnist", source="sample"), epochs=1000)
when_it_stops = live.session.on_stop
live.session.on_stop = lambda: (when_it_stops(), Path("stopped.txt").write_text(live.speed.value))
live
"""
EXPLORER = ".jp-OutputArea-output .widget-vbox:has(> .widget-hbox .widget-image)"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a free port with its token, on copies of the notebooks without outputs: (address, folder)."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text())
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell |= {"outputs": [], "execution_count": None}
        (folder / path.name).write_text(json.dumps(notebook))
    cell = {"cell_type": "code", "id": "watch", "metadata": {}, "source": WATCH, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    content = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (folder / "watch.ipynb").write_text(json.dumps(content))
    places = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    env = os.environ | {name: str(home / name.lower()) for name in places}
    root = ["--allow-root"] if os.geteuid() == 0 else []
    config = f"--config={ROOT / 'tools' / 'jupyter_config.py'}"  # as make lab does
    command = [sys.executable, "-m", "jupyterlab", config, "--no-browser", "--ip=127.0.0.1", "--port=0", *root, folder]
    with open(home / "log.txt", "w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        yield *_address(home, process), folder
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def _address(home, process):
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        for record in (home / "jupyter_runtime_dir").glob("jpserver-*.json"):
            server = json.loads(record.read_text())
            return server["url"], server["token"]
        time.sleep(0.2)
    pytest.fail((home / "log.txt").read_text())


def ask(url, token, path, method="GET"):
    request = urllib.request.Request(f"{url}api/{path}", headers={"Authorization": f"token {token}"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def kernel_is_idle(url, token):
    return all(session["kernel"]["execution_state"] == "idle" for session in json.loads(ask(url, token, "sessions")))


def end_kernels(url, token):
    for kernel in json.loads(ask(url, token, "kernels")):
        ask(url, token, f"kernels/{kernel['id']}", "DELETE")


def run_all(browser, lab, name):
    """Open a notebook, run all its cells and wait; the page and the saved notebook."""
    url, token, folder = lab
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    # JupyterLab asks for a kernel, at any moment, where the page is ready before its list of kernels.
    question = page.locator('.jp-Dialog:has-text("Select Kernel")')
    # It asks again after an answer that came too early, so the answer is given until it does not.
    page.add_locator_handler(question, lambda dialog: dialog.locator(".jp-mod-accept").click(), no_wait_after=True)
    page.goto(f"{url}lab/workspaces/{name[:2]}/tree/{name}?token={token}")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=90_000)
    idle_for = IDLE_POLLS  # the first round starts the cells
    until = time.monotonic() + CELLS_TIMEOUT
    while True:
        assert time.monotonic() < until, f"{name} still runs after {CELLS_TIMEOUT} s"
        if idle_for >= IDLE_POLLS:  # not started, or started before the kernel was connected
            idle_for = 0
            page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=90_000)
            page.locator('.lm-MenuBar-itemLabel:text-is("Run")').click()
            page.locator('.lm-Menu-itemLabel:text-is("Run All Cells")').click()
        page.keyboard.press("Control+s")
        time.sleep(2)
        try:
            notebook = json.loads((folder / name).read_text())
        except json.JSONDecodeError:  # it is being saved just now
            continue
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        failed = [o for cell in code for o in cell["outputs"] if o["output_type"] == "error"]
        allowed = sum("raises-exception" in cell["metadata"].get("tags", []) for cell in code)
        assert len(failed) <= allowed, failed[-1]["ename"] + ": " + failed[-1]["evalue"]
        idle_for = idle_for + 1 if kernel_is_idle(url, token) else 0
        if all(cell["execution_count"] for cell in code) and idle_for:
            return page, notebook


def _warned(notebook):
    """What the cells of a notebook wrote to stderr."""
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    return ["".join(o["text"]) for o in outputs if o.get("name") == "stderr"]


FIRST = (
    "00",
    "05",
)  # the sliders and the map under one's hands; nbval executes the rest as well, which make large opens


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=() if p.stem[:2] in FIRST else pytest.mark.large, id=p.stem) for p in NOTEBOOKS],
)
def test_run_all(browser, lab, screenshots, path):
    page, notebook = run_all(browser, lab, path.name)
    wide = page.viewport_size["width"]
    page.set_viewport_size({"width": wide, "height": 4000})
    page.locator(".jp-Notebook .jp-Cell").first.scroll_into_view_if_needed()
    time.sleep(1)
    page.screenshot(path=screenshots / f"{path.stem}.png")
    page.keyboard.press("Control+End")
    for broken in ("Error displaying widget", "Loading widget", "javascript error", "model not found"):
        assert page.get_by_text(broken).count() == 0, broken
    outputs = [o for cell in notebook["cells"] for o in cell.get("outputs", [])]
    assert _warned(notebook) == _warned(json.loads(path.read_text()))  # no line but those that are shown
    assert all(line.startswith("vae_lib: ") for text in _warned(notebook) for line in text.splitlines())
    if path.stem.startswith("05"):
        widgets = sum("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in outputs)
        assert widgets >= 2
        page.set_viewport_size({"width": wide, "height": 1000})
        use_the_sliders(page, screenshots)
    page.close()
    end_kernels(*lab[:2])


def use_the_sliders(page, screenshots):
    explorer = page.locator(EXPLORER).first
    explorer.scroll_into_view_if_needed()
    image = explorer.locator("img").first
    handles, readouts = explorer.locator(".noUi-handle"), explorer.locator(".widget-readout")

    def value(text):
        return float(text.replace("\N{MINUS SIGN}", "-"))

    def source():
        return image.get_attribute("src")

    def changed(before):
        until = time.monotonic() + 5
        while source() == before:
            assert time.monotonic() < until, "the picture does not change"
            time.sleep(0.01)
        return True

    explorer.get_by_role("button", name="Reset").click()
    time.sleep(0.5)
    assert handles.count() == 2
    for i in range(handles.count()):
        before = source()
        handles.nth(i).focus()
        page.keyboard.press("ArrowRight")
        assert changed(before)
        assert value(readouts.nth(i).inner_text()) == pytest.approx(0.01)
        before = source()
        box = handles.nth(i).bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + 60, box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()
        assert changed(before)
        assert value(readouts.nth(i).inner_text()) > 0.3
    page.screenshot(path=screenshots / "05_moved.png")
    for name, wanted in (("Random draw", False), ("Reset", True)):
        before = source()
        explorer.get_by_role("button", name=name).click()
        assert changed(before)
        time.sleep(0.3)
        assert all(value(text) == 0 for text in readouts.all_inner_texts()) == wanted
    time.sleep(1)
    times = key_to_picture(page, image.element_handle(), handles.first)
    median, late = np.quantile(times, [0.5, 0.95])
    print(f"\nkey press to picture: median {median:.0f} ms, 95th percentile {late:.0f} ms of {len(times)} moves")
    assert median < 60
    assert late < 120


def key_to_picture(page, image, handle, moves=100):
    """Milliseconds from each key press to the next picture that has loaded."""
    page.evaluate(
        """image => {
          window.moves = [];
          document.addEventListener("keydown", () => { window.pressed = performance.now(); }, true);
          image.addEventListener("load", () => { window.moves.push(performance.now() - window.pressed); });
        }""",
        image,
    )
    handle.focus()
    for i in range(moves):
        page.keyboard.press("ArrowRight" if i < moves // 2 else "ArrowLeft")
        time.sleep(0.1)  # ten moves a second, as a hand makes them
        page.wait_for_function("count => window.moves.length >= count", arg=i + 1, timeout=5000)
    return page.evaluate("window.moves")


def test_nobody_is_asked_about_news(browser, lab):
    url, token, _ = lab
    page = browser.new_page()
    page.goto(f"{url}lab/workspaces/news?token={token}")
    page.wait_for_selector(".jp-Launcher", timeout=60_000)
    page.wait_for_timeout(3000)
    assert page.get_by_text("Jupyter news").count() == 0
    page.close()


def test_watch(browser, lab, screenshots):
    """Every control of a training that is watched; beta to 60 and back is a collapse and a revival."""
    page, _ = run_all(browser, lab, "watch.ipynb")
    page.set_viewport_size({"width": 1500, "height": 1200})
    curves = page.locator('svg[aria-label^="nats per image"]')
    curves.wait_for()

    def number(name):
        said = curves.get_attribute("aria-label").split(name)[1].split(",")[0]
        return float(said or "nan")  # nothing is said before the first step, which is compiled

    def until(condition, seconds=90):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (
                curves.get_attribute("aria-label"),
                page.locator(".jp-OutputArea-output").inner_text(),
            )
            time.sleep(0.05)

    def button(words):
        return page.get_by_role("button", name=words, exact=True)

    def slider(words):
        return page.locator(f'.widget-slider:has(.widget-label:text-is("{words}"))')

    def enter(words, value):
        readout = slider(words).locator(".widget-readout")
        readout.click()
        page.keyboard.press("Control+a")
        page.keyboard.type(value)
        page.keyboard.press("Enter")

    def moment():
        return page.locator(".widget-html", has_text="steps,").first.inner_text()

    count = """() => new Promise((done) => {
      let n = 0;
      const watcher = new MutationObserver(() => { n += 1; });
      const box = document.querySelector('svg[aria-label^="nats per image"]').parentElement;
      watcher.observe(box, { childList: true });
      setTimeout(() => { watcher.disconnect(); done(n / 5); }, 5000);
    })"""
    until(lambda: number("training KL") > 2.0)
    print(f"updates a second: {page.evaluate(count):.1f}")
    enter("beta", "60")
    until(lambda: number("training KL") < 0.3)
    page.screenshot(path=screenshots / "watch_collapsed.png")
    enter("beta", "1")
    until(lambda: number("training KL") > 2.0)
    until(lambda: number("held-out -log p(x)") < number("held-out -ELBO"))  # it is taken less often
    page.screenshot(path=screenshots / "watch.png")

    began = time.monotonic()
    button("Pause").click()
    button("Play").wait_for()
    print(f"pause acts after {1000 * (time.monotonic() - began):.0f} ms")
    before = moment()
    button("One step").click()
    until(lambda: moment() != before)
    page.get_by_label("batch size").select_option("200")
    page.get_by_label("latent samples").select_option("5")
    button("Slow motion").click()
    button("Play").click()
    before = moment()
    until(lambda: moment() != before)
    button("Pause").click()
    button("Play").wait_for()
    button("Slow motion").click()
    page.get_by_label("latent samples").select_option("1")

    plane = page.locator(".widget-gridbox img").first
    now = plane.get_attribute("src")
    slider("time").locator(".noUi-handle").focus()
    page.keyboard.press("Home")
    until(lambda: plane.get_attribute("src") != now and "then" in moment())
    while "now" not in moment():  # the slider's own End key leads to its beginning
        page.keyboard.press("PageUp")
        time.sleep(0.3)
    decoded = page.locator(".widget-image").nth(1)
    old = decoded.get_attribute("src")
    slider("point, right").locator(".noUi-handle").focus()
    page.keyboard.press("PageUp")
    until(lambda: decoded.get_attribute("src") != old)
    button("Start again").click()
    until(lambda: "0 steps" in moment())
    enter("learning rate", "0.002")
    button("One epoch").click()
    until(lambda: "4,000 images" in moment())
    button("Play").wait_for()
    for broken in ("Error displaying widget", "Loading widget", "Javascript error", "model not found"):
        assert page.get_by_text(broken).count() == 0, broken

    button("Play").click()
    note = lab[2] / "stopped.txt"
    note.unlink()
    page.close()  # the tab is closed while it plays
    end = time.monotonic() + 40
    while not note.exists():
        assert time.monotonic() < end, "it trains on though nobody looks"
        time.sleep(0.5)
    assert "nobody" in note.read_text()
    end_kernels(*lab[:2])
