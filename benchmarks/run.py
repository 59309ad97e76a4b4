"""Measure everything in RESULTS.md: ``make bench``; takes about twenty minutes on two cores.

``python -m benchmarks.run SECTION ...`` measures some of it again: about, default, textbook, to_target, quality, small.

Contenders live in processes of their own and train in turn, round after round, so that a change of the machine's speed
meets all of them; what is reported are medians over the rounds and the smallest and largest value.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contender import BATCH, HALF, OURS, PEERS

HERE = Path(__file__).parent
ROUNDS, SECONDS = 7, 1.0  # rounds, and about how long a contender trains in each
# TensorFlow's own choice of threads and of memory.
DEFAULTS = {"TF_NUM_INTRAOP_THREADS": "0", "TF_NUM_INTEROP_THREADS": "0", "TF_CPU_ALLOCATOR_USE_BFC": "0"}
TARGET = 156.7  # nats: what the tutorial's recipe reaches in its eleventh epoch


class Process:
    """A running contender."""

    def __init__(self, name: str, architecture: str) -> None:
        environment = OURS[name][1] if name in OURS else DEFAULTS
        self.name, self.began = name, time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contender", name, architecture],
            cwd=HERE.parent, env=os.environ | environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def train(self, steps: int) -> dict:
        print(steps, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed; run: python -m benchmarks.contender {self.name!r} default")
        return json.loads(line)


def throughput(architecture: str, names: list[str]) -> dict[str, dict]:
    """Images per second of each contender, interleaved; also the time to its first step and its peak memory."""
    results, processes = {}, {}
    for name in names:
        processes[name] = Process(name, architecture)
        processes[name].train(1)
        results[name] = {"first_step": time.perf_counter() - processes[name].began, "rates": []}
    for name in names:
        processes[name].train(20)
        pace = processes[name].train(20)["seconds"] / 20
        results[name]["steps"] = min(1000, max(20, int(SECONDS / pace)))
    for _ in range(ROUNDS):
        for name in names:
            answer = processes[name].train(results[name]["steps"])
            results[name]["rates"].append(results[name]["steps"] * BATCH / answer["seconds"])
            results[name] |= {key: answer[key] for key in ("peak_mb", "parameters", "loss")}
    for process in processes.values():
        process.process.stdin.close()
        process.process.wait()
    return results


def table(results: dict[str, dict]) -> list[str]:
    """The contenders of each precision, fastest first, beside the fastest that this project has in it."""
    lines = []
    for title, chosen in (("float32", set(results) - HALF), ("bfloat16, losses in float32", set(results) & HALF)):
        if not chosen - {"filters 128"}:
            continue
        ours = max(chosen & set(OURS), key=lambda name: statistics.median(results[name]["rates"]))
        lines += ["", f"### {title}", "", *_rows({n: r for n, r in results.items() if n in chosen}, ours)]
    return lines[1:]


def _rows(results: dict[str, dict], ours: str) -> list[str]:
    lines = [f"| contender | images/s, median | min to max | {ours} here is | to first step | peak memory |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, r in sorted(results.items(), key=lambda item: -statistics.median(item[1]["rates"])):
        label = f"**this project, {name}**" if name in OURS else name
        larger = r["parameters"] > results[ours]["parameters"]  # the peers do not count theirs
        if larger:
            label += f", {r['parameters']:,} weights"
        pairs = [a / b for a, b in zip(results[ours]["rates"], r["rates"], strict=True)]
        ratio = "" if name == ours or larger else f"{statistics.median(pairs):.2f} x as fast"
        rates = f"{statistics.median(r['rates']):,.0f} | {min(r['rates']):,.0f} to {max(r['rates']):,.0f}"
        lines.append(f"| {label} | {rates} | {ratio} | {r['first_step']:.1f} s | {r['peak_mb']:,.0f} MB |")
    return lines


def matrix_rate() -> float:
    """The machine's float32 matrix products in GFLOP/s: the best of 20 of 2048 x 2048, TensorFlow's threads."""
    code = """
import time
from vae_lib.backend import tf
a = tf.random.stateless_normal([2048, 2048], [0, 0])
product = tf.function(tf.linalg.matmul)
product(a, a).numpy()
best = 9e9
for _ in range(20):
    began = time.perf_counter()
    product(a, a).numpy()
    best = min(best, time.perf_counter() - began)
print(2 * 2048**3 / best / 1e9)
"""
    return float(python("-c", code, **DEFAULTS))


def python(*arguments: str, **env: str) -> str:
    """What a fresh Python process prints."""
    command = [sys.executable, *arguments]
    result = subprocess.run(command, cwd=HERE.parent, env=os.environ | env, text=True, capture_output=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    return result.stdout


def flops_per_image(filters: int) -> float:
    """Floating-point operations of the default networks, forward and backward (three times forward)."""
    hidden, flat = 256, 49 * filters
    convolutions = 49 * (16 * filters + 9 * filters * 2 * filters + 2 * filters * filters)  # encoder
    convolutions += 49 * (9 * filters * 2 * filters + 9 * 2 * filters * 16)  # decoder
    dense = flat * hidden + hidden * 4 + 2 * hidden + hidden * hidden + hidden * flat
    return 3 * 2 * (convolutions + dense)


def time_to_target() -> dict[str, tuple[float, int, float]]:
    """(training seconds, steps, -ELBO reached) of this project's defaults and of the recipe; see `to_target`."""
    found = {}
    for name, kind, threads in (("this project's defaults", "ours", {}), ("the tutorial's recipe", "recipe", DEFAULTS)):
        output = python("-m", "benchmarks.to_target", kind, str(TARGET), **threads)
        seconds, steps, reached = map(float, output.split())
        found[name] = (seconds, int(steps), reached)
    return found


def quality() -> dict[str, list[float]]:
    """The test -ELBO that this project's defaults reach in each precision, from three seeds."""
    code = """
import sys
from vae_lib import VAE, load_data, train
from vae_lib.evaluation import evaluate_elbo
data = load_data("mnist")
vae = VAE(2, precision=sys.argv[1], seed=int(sys.argv[2]))
train(vae, data.train_images)
print(-evaluate_elbo(vae, data.test_images)["elbo"])
"""
    return {p: [float(python("-c", code, p, str(seed))) for seed in range(3)] for p in ("float32", "bfloat16")}


def small_times() -> dict[str, float]:
    """Seconds of what a user waits for, each in a fresh process."""
    load = "import time; b = time.perf_counter(); from vae_lib import load_data; load_data('mnist').train_images[0];"
    load += "print(time.perf_counter() - b)"
    draw = """
import time, sys
from vae_lib import VAE, manifold
side = int(sys.argv[1])
vae = VAE(2, image_shape=(side, side, 1))
began = time.perf_counter()
manifold(vae)
print(time.perf_counter() - began)
"""
    with tempfile.TemporaryDirectory() as cache:
        cold = statistics.median(float(python("-c", load, VAE_LIB_CACHE=f"{cache}/{i}")) for i in range(3))
        float(python("-c", load, VAE_LIB_CACHE=cache))
        warm = statistics.median(float(python("-c", load, VAE_LIB_CACHE=cache)) for _ in range(3))
    times = {"full MNIST, decoded for the first time": cold, "full MNIST, from the cache": warm}
    for size in (28, 64):
        seconds = statistics.median(float(python("-c", draw, str(size))) for _ in range(3))
        times[f"1,600 tiles of {size} x {size}, graph tracing included"] = seconds
    return times


def machine() -> str:
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {platform.system()}"


SECTIONS: dict[str, Callable[[], Any]] = {
    "about": lambda: about(),
    "default": lambda: throughput("default", [*OURS, *PEERS]),
    "textbook": lambda: throughput("textbook", ["graph", "--precision bfloat16", "graph, oneDNN in bfloat16", *PEERS]),
    "to_target": lambda: time_to_target(),
    "quality": lambda: quality(),
    "small": lambda: small_times(),
}


def about() -> dict[str, Any]:
    """When, where and with what."""
    packages = ("tensorflow", "keras", "numpy", "torch", "jax", "flax", "optax")
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    return {
        "date": str(datetime.date.today()),
        "machine": machine(),
        "matrix_gflops": matrix_rate(),
        "versions": f"Python {platform.python_version()}, {versions}",
    }


def main() -> None:
    """Measure the sections that are named, by default all, and write the page from all that was ever measured."""
    path = HERE / "results.json"
    raw = json.loads(path.read_text())
    for name in sys.argv[1:] or SECTIONS:
        raw[name] = SECTIONS[name]()
        path.write_text(json.dumps(raw, indent=1) + "\n")
    (HERE / "RESULTS.md").write_text(page(raw))
    print(page(raw))


def page(raw: dict[str, Any]) -> str:
    """RESULTS.md from what was measured."""
    default, textbook, facts = raw["default"], raw["textbook"], raw["about"]
    ours, recipe = raw["to_target"].values()
    peers_memory = statistics.median(default[name]["peak_mb"] for name in PEERS)
    lines = [
        "# Results",
        "",
        "Written by `make bench`; do not edit. Training speed on full MNIST, thresholded, 2-D, "
        f"batch {BATCH}; medians of {ROUNDS} interleaved rounds.",
        "",
        f"- date: {facts['date']}",
        f"- machine: {facts['machine']}; float32 matrix products of 2048 x 2048 at "
        f"{facts['matrix_gflops']:.0f} GFLOP/s",
        f"- versions: {facts['versions']}",
        "",
        "Each network is the same in every row, but where a row says otherwise. The compiled forms of PyTorch run one "
        "after another and share a cache of compiled code on the disk, so that the later ones take their first step "
        "sooner.",
        "",
        f"## This project's architecture ({default['graph']['parameters']:,} weights)",
        "",
        *table(default),
        "",
        f"## The textbook's architecture ({textbook['graph']['parameters']:,} weights)",
        "",
        "Two strided convolutions of 32 and 64 filters, and three transposed ones, as in the TensorFlow CVAE tutorial.",
        "",
        *table(textbook),
        "",
        "## Share of the machine's matrix-product rate",
        "",
        "| network, batch 50 | GFLOP an image | GFLOP/s | share |",
        "| --- | --- | --- | --- |",
        *share_rows(default, facts["matrix_gflops"]),
        "",
        f"## Time to a test -ELBO of {TARGET} nats",
        "",
        "| recipe | training seconds | steps | -ELBO |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {s:.1f} | {n:,} | {e:.1f} |" for name, (s, n, e) in raw["to_target"].items()),
        "",
        f"The recipe takes {recipe[0] / ours[0]:.1f} times as long. Tracing and evaluation are not counted.",
        "",
        "## Quality in each precision",
        "",
        "Test -ELBO in nats after this project's default training of five epochs, from three seeds.",
        "",
        "| precision | -ELBO | mean |",
        "| --- | --- | --- |",
        *(
            f"| {p} | {', '.join(f'{n:.2f}' for n in found)} | {np.mean(found):.2f} |"
            for p, found in raw["quality"].items()
        ),
        "",
        "## What a user waits for",
        "",
        "| what | seconds |",
        "| --- | --- |",
        *(f"| {name} | {seconds:.2f} |" for name, seconds in raw["small"].items()),
        "",
        f"Peak memory in graph mode is {default['graph']['peak_mb'] / peers_memory:.2f} times the peers' median.",
        "",
    ]
    return "\n".join(lines)


def share_rows(default: dict[str, dict], rate: float) -> list[str]:
    rows = []
    for name, filters in (("graph", 32), ("filters 128", 128)):
        flops = flops_per_image(filters) * float(np.median(default[name]["rates"])) / 1e9
        per_image = flops_per_image(filters) / 1e9
        rows.append(f"| {filters} filters | {per_image:.3f} | {flops:.0f} | {flops / rate:.0%} |")
    return rows


if __name__ == "__main__":
    main()
