"""How the cost of training grows: ``python -m benchmarks.cost``; writes COST.md, cost.json and docs/scale.md.

Every point is a process of its own that trains for a few seconds. Takes about six minutes on two cores.
"""

from __future__ import annotations

import datetime
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.run import machine

HERE = Path(__file__).parent
SECONDS = 3.0  # of training at a point, after the first steps
STANDARD: dict[str, Any] = {"images": 10_000, "im_dim": 28, "num_filters": 32, "latent_dim": 2, "batch_size": 50}
CURVES: dict[str, tuple[int, ...]] = {
    "images": (1_000, 10_000, 100_000, 1_000_000),
    "im_dim": (16, 28, 64, 128, 256),
    "num_filters": (8, 32, 128),
    "latent_dim": (2, 16, 128),
    "batch_size": (10, 50, 200, 1_000),
}
TITLES = {
    "images": "images, streamed from disk",
    "im_dim": "side in pixels",
    "num_filters": "filters",
    "latent_dim": "latent dimensions",
    "batch_size": "batch",
}
NETWORKS = (1e9, 1e10, 1e11)  # bits a second between two workers
LATENCY = 50e-6  # seconds that a message takes within a data centre, assumed
SETS, WORKERS = (60_000, 1_000_000, 10_000_000), (1, 2, 10, 100, 1_000)


def measure(settings: dict[str, Any]) -> None:
    """In a process of its own: train, and print images per second, peak memory, weights and checkpoint bytes."""
    from vae_lib.config import TrainingConfig
    from vae_lib.model import VAE
    from vae_lib.trainer import Trainer

    side, count = settings["im_dim"], settings["images"]
    streamed = settings.get("streamed", False)
    config = TrainingConfig(batch_size=settings["batch_size"], epochs=10)
    with tempfile.TemporaryDirectory() as folder:
        if streamed:
            images = np.lib.format.open_memmap(Path(folder, "set.npy"), "w+", np.uint8, (count, side, side, 1))
            for i in range(0, count, 10_000):
                images[i : i + 10_000] = np.random.default_rng(i).integers(0, 256, images[i : i + 10_000].shape)
            images = np.load(Path(folder, "set.npy"), mmap_mode="r")
        else:
            images = np.random.default_rng(0).integers(0, 256, (count, side, side, 1), np.uint8)
        vae = VAE(settings["latent_dim"], image_shape=(side, side, 1), num_filters=settings["num_filters"])
        trainer = Trainer(vae, images, config, stream_above=0 if streamed else None)
        began = steps = 0.0
        for epoch in range(config.epochs):
            for losses, _ in trainer.epoch_losses(epoch, np.empty([0, 2], np.float32)):
                done = epoch * trainer.steps_per_epoch + len(losses)
                if not began and done > 10:
                    began, steps = time.perf_counter(), done
                if began and time.perf_counter() - began > SECONDS:
                    break
            else:
                continue
            break
        rate = (done - steps) * config.batch_size / (time.perf_counter() - began)
    weights = sum(int(np.prod(v.shape)) for v in vae.trainable_variables)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"rate": rate, "peak_bytes": peak, "weights": weights}))


def point(**changes: Any) -> dict[str, Any]:
    """`measure` in a new process."""
    settings = STANDARD | changes
    if "images" not in changes:
        settings["images"] = max(1_000, 20 * settings["batch_size"])
    command = [sys.executable, "-m", "benchmarks.cost", json.dumps(settings)]
    found = subprocess.run(command, cwd=HERE.parent, check=True, text=True, capture_output=True)
    return json.loads(found.stdout.splitlines()[-1])


def workers(count: int) -> float:
    """Seconds a step of 50 images, shared by processes on this machine that have one core each."""
    ports = []
    for _ in range(count):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train_VAE.py", "-l", "2", "--source", "sample", "--epochs", "4"]
        command += ["--out", f"{folder}/run"] + (["--strategy", "multi-worker"] if count > 1 else [])
        processes = [
            subprocess.Popen(
                command,
                cwd=HERE.parent,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ
                | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})},
                preexec_fn=lambda i=i: os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[i]}),
            )
            for i in range(count)
        ]
        if any([process.wait() for process in processes]):
            raise SystemExit("a worker failed")
        record = json.loads(Path(folder, "run", "metrics.json").read_text())
    return record["made_by"]["training_seconds"] / (4 * 80)


def all_reduce(weights: int, count: int, bits: float) -> float:
    """Seconds in which a ring of workers adds their gradients: 2 (W - 1) messages of a share each."""
    return 2 * (count - 1) * (4 * weights / count * 8 / bits + LATENCY)


def scale_page(found: dict[str, Any]) -> str:
    """docs/scale.md: what the measured numbers say about larger sets and more workers."""
    standard = found["standard"]
    rate, weights = standard["rate"], standard["weights"]
    step = 50 / rate
    lines = [
        "# To ten million images and a thousand workers",
        "",
        "Computed by `python -m benchmarks.cost` from what it measured ([COST.md](../benchmarks/COST.md)) on "
        f"{found['machine']}, on {found['date']}; nothing on this page was run at these sizes. The network is the "
        f"default one: {weights:,} weights, {rate:,.0f} images/s on one such machine with random images, so "
        f"that a step of 50 images takes {1000 * step:.1f} ms. [RESULTS.md](../benchmarks/RESULTS.md) has the speed on "
        "digits, of another day, so that the two are not to be compared.",
        "",
        "## Seconds for an epoch",
        "",
        "Each worker takes 50 images a step and then shares its gradients with the others in a ring, 4 bytes a weight, "
        f"over 10 Gbit/s and {1e6 * LATENCY:.0f} microseconds a message. `--batch-size` is that of all workers "
        "together, here 50 times their number: so large a batch makes few steps in an epoch, and wants another "
        "learning rate and more epochs.",
        "",
        "| images | " + " | ".join(f"{w:,} worker{'s' * (w > 1)}" for w in WORKERS) + " |",
        "| --- |" + " --- |" * len(WORKERS),
    ]
    for images in SETS:
        times = [images / (50 * w) * (step + (all_reduce(weights, w, 1e10) if w > 1 else 0)) for w in WORKERS]
        lines.append(f"| {images:,} | " + " | ".join(f"{t:,.1f}" for t in times) + " |")
    lines += ["", "## When the network is the limit", "", "| network | sharing: 2 workers | 100 | 1,000 | of a step |",
              "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for bits in NETWORKS:
        times = [all_reduce(weights, w, bits) for w in (2, 100, 1000)]
        share = times[1] / (times[1] + step)
        cells = " | ".join(f"{1000 * t:,.1f} ms" for t in times)
        lines.append(f"| {bits / 1e9:g} Gbit/s | {cells} | {share:.0%} of it with 100 workers |")
    bytes_a_step = 8 * weights * 99 / 100
    largest = 2**31 - 1
    lines += [
        "",
        f"With many workers each one sends and receives some {bytes_a_step / 1e6:.1f} MB a step. A larger batch for "
        "each worker, k times as large, shares its gradients k times less often, at the price of fewer steps.",
        "",
        "## What else grows",
        "",
        f"- A checkpoint holds the weights and Adam's two moments: {12 * weights / 1e6:.1f} MB, written by the first "
        "worker only. To it come the losses of the epoch under way, 8 bytes a step, and with `--patience` the best "
        "weights.",
        "- Every worker draws the order of the whole epoch, so that all agree without a message: 16 bytes an image, "
        f"{16 * SETS[-1] / 1e6:,.0f} MB for {SETS[-1]:,}.",
        "- Images are read from a memory-mapped file that every worker must see: its own copy, or a shared disk.",
        "",
        "## Where this design stops",
        "",
        f"- Numbers of images are 32 bits wide: {largest:,} at most.",
        "- One worker that is lost stops all; they go on from the last checkpoint. With a thousand of them that "
        "happens often, and a design that goes on with those that are left would be needed.",
        "- Every step waits for the slowest worker.",
        "- All weights must fit into one worker's memory: only the data are divided.",
        "",
    ]
    return "\n".join(lines)


def cost_page(found: dict[str, Any]) -> str:
    same = [found["curves"][name][str(STANDARD[name])]["rate"] for name in CURVES if name != "images"]
    same += [row["rate"] for row in found["curves"]["images"].values()]
    lines = [
        "# How cost grows",
        "",
        "Written by `python -m benchmarks.cost`; do not edit. One setting changes at a time, the others are "
        f"{STANDARD['im_dim']} x {STANDARD['im_dim']} pixels, {STANDARD['num_filters']} filters, "
        f"{STANDARD['latent_dim']} latent dimensions, batch {STANDARD['batch_size']}; random images.",
        "",
        f"Each row is one process that trains for {SECONDS:.0f} seconds. The setting that the tables have in "
        f"common, streamed or not, came out between {min(same):,.0f} and {max(same):,.0f} images/s, so that smaller "
        "differences mean nothing.",
        "",
        f"- date: {found['date']}",
        f"- machine: {found['machine']}",
    ]
    for name, curve in found["curves"].items():
        lines += ["", f"## {TITLES[name].capitalize()}", ""]
        lines += [f"| {TITLES[name]} | images/s | seconds for 60,000 | peak memory | weights |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for value, row in curve.items():
            lines.append(
                f"| {int(value):,} | {row['rate']:,.0f} | {60_000 / row['rate']:,.1f} | "
                f"{row['peak_bytes'] / 1e6:,.0f} MB | {row['weights']:,} |"
            )
    one, two = found["workers"]["1"], found["workers"]["2"]
    lines += [
        "", "## Workers", "",
        "A step of 50 images, in one process on one core, and shared by two processes on a core each, which talk over "
        "the loopback device; tracing the graphs and writing checkpoints are counted.",
        "",
        "| workers | milliseconds a step |", "| --- | --- |",
        f"| 1 | {1000 * one:.1f} |", f"| 2 | {1000 * two:.1f} |", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) > 1:
        measure(json.loads(sys.argv[1]))
        return
    curves = {
        name: {str(v): point(**{name: v}, **({"streamed": True} if name == "images" else {})) for v in values}
        for name, values in CURVES.items()
    }
    rates = [
        row["rate"] for name in ("num_filters", "batch_size") for v, row in curves[name].items() if v in ("32", "50")
    ]
    standard = curves["batch_size"]["50"] | {"rate": statistics.mean(rates)}
    found = {
        "date": str(datetime.date.today()),
        "machine": machine(),
        "curves": curves,
        "standard": standard,
        "workers": {str(count): workers(count) for count in (1, 2)},
    }
    (HERE / "cost.json").write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "COST.md").write_text(cost_page(found))
    (HERE.parent / "docs" / "scale.md").write_text(scale_page(found))
    print(cost_page(found))


if __name__ == "__main__":
    main()
