"""A set of images that the memory does not hold: ``python -m benchmarks.streaming FOLDER [GB]``.

Trains an epoch on it in memory, and streamed under a limit of half its size, once to the end and once killed on the way
and resumed; writes STREAMING.md and streaming.json: the speeds, and whether all ended in the same bits. The set is
dropped from the system's own cache of files before each. FOLDER is an empty folder with room
for it. `tests/test_large.py` does the same with a smaller set.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.run import machine

SIDE, TEST = 128, 500
SETTINGS: dict[str, Any] = {"num_filters": 2, "hidden_units": 16, "batch_size": 100, "epochs": 1, "patience": 3}
CHECKPOINT = 200  # steps
CGROUPS = Path("/sys/fs/cgroup")


def make_set(folder: Path, gigabytes: float) -> int:
    """Fill the cache's format with blurred noise, unless it is there; the number of images."""
    from vae_lib.data import cache
    from vae_lib.data.sources import Example

    count = int(gigabytes * 1e9 / SIDE**2)
    kept = folder / "set" / "train_images.npy"
    if kept.exists() and np.load(kept, mmap_mode="r").shape[0] != count:
        raise SystemExit(f"{folder} holds a set of another size: give an empty folder.")
    if not kept.exists():
        rng = np.random.default_rng(0)

        def examples() -> Iterator[Example]:
            for i in range(count + TEST):
                coarse = rng.integers(0, 256, [8, 8, 1], np.uint8)
                yield Example(coarse.repeat(SIDE // 8, 0).repeat(SIDE // 8, 1), i % 10, i >= count)

        cache.write(folder / "set", examples(), None)
    return count


def train(folder: Path, out: Path, *, in_memory: bool, resume: bool) -> None:
    """In a process of its own: train, and print what it took."""
    from vae_lib import trainer
    from vae_lib.config import RunConfig
    from vae_lib.data import cache
    from vae_lib.data.loading import ImageData
    from vae_lib.runs.lifecycle import resume_run, train_run
    from vae_lib.runs.store import load_run

    if in_memory:
        trainer.IN_MEMORY = 1e9
    kept = cache.read(folder / "set")
    assert kept is not None
    data = ImageData(*kept, "array")
    seen: list[tuple[float, int]] = []

    def report(epoch: int, done: int, steps: int, loss: float) -> None:
        seen.append((time.monotonic(), done))
        print(f"step {done} of {steps}", flush=True)

    if resume:
        run = resume_run(out, data, report=report)
    else:
        settings = SETTINGS | {"checkpoint_every": CHECKPOINT}
        config = RunConfig.from_flat(2, im_dim=SIDE, likelihood="bernoulli", **settings)
        run = train_run(config, data, out, report=report)
    (begun, first), (ended, last) = seen[1], seen[-1]  # the first chunk traces the graph
    speed = (last - first) * SETTINGS["batch_size"] / (ended - begun)
    digest = hashlib.sha256(b"".join(weight.tobytes() for weight in load_run(run).model.get_weights()))
    digest.update(json.dumps(load_run(run).history).encode())
    print("RESULT", json.dumps({"images_per_second": round(speed), "bits": digest.hexdigest()}), flush=True)


@contextlib.contextmanager
def limited(gigabytes: float | None) -> Iterator[tuple[str, Any]]:
    """What to call a limit on memory, and what puts a new process under it: a control group where one can be made."""
    if gigabytes is None:
        yield "none", None
        return
    limit = int(gigabytes * 1e9)
    v1 = CGROUPS / "memory"
    root, file = (v1, "memory.limit_in_bytes") if v1.is_dir() else (CGROUPS, "memory.max")
    group = root / f"streaming{os.getpid()}"
    try:
        group.mkdir()
        (group / file).write_text(str(limit))
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        import resource

        yield "RLIMIT_DATA", lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        return
    try:
        yield "a Linux cgroup", lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


def run(folder: Path, out: Path, *flags: str, limit: Any = None, kill_after: int = 0) -> dict[str, Any]:
    """Train in a new process, which is killed once it has done so many steps of the epoch; its result."""
    for path in (folder / "set").glob("*_images.npy"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, "-m", "benchmarks.streaming", "--train", str(folder), str(out), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=limit) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("RESULT"):
                found: dict[str, Any] = json.loads(line.removeprefix("RESULT"))
            if kill_after and line.startswith("step") and int(line.split()[1]) > kill_after:
                process.send_signal(signal.SIGKILL)
    if kill_after:
        assert process.returncode == -signal.SIGKILL, process.returncode
        return {}
    assert process.returncode == 0, process.returncode
    return found


def compare(folder: Path, gigabytes: float) -> dict[str, Any]:
    """Train in memory, and under a limit of half of the set with a kill on the way."""
    count = make_set(folder, gigabytes)
    whole = run(folder, folder / "whole", "--in-memory")
    with limited(gigabytes / 2) as (kind, limit):
        streamed = run(folder, folder / "streamed", limit=limit)
        run(folder, folder / "killed", limit=limit, kill_after=2 * CHECKPOINT)
        resumed = run(folder, folder / "killed", "--resume", limit=limit)
    return {
        "machine": machine(),
        "images": count,
        "gigabytes": gigabytes,
        "limit": kind,
        "limit_gigabytes": gigabytes / 2,
        "in_memory": whole["images_per_second"],
        "streamed": streamed["images_per_second"],
        "resumed": resumed["images_per_second"],
        "same_bits": whole["bits"] == streamed["bits"] == resumed["bits"],
    }


def page(found: dict[str, Any]) -> str:
    """STREAMING.md."""
    return (
        "# A set that the memory does not hold\n\n"
        f"{found['images']:,} synthetic images of {SIDE} x {SIDE} grey pixels, {found['gigabytes']:g} GB, one epoch of "
        f"a small network ({SETTINGS['num_filters']} filters, batches of {SETTINGS['batch_size']}), "
        f"on {found['machine']}, "
        "written by `python -m benchmarks.streaming FOLDER`. One run each: a few per cent are noise.\n\n"
        "| training | memory | images/s |\n| --- | --- | --- |\n"
        f"| in memory | no limit | {found['in_memory']:,} |\n"
        f"| streamed | {found['limit_gigabytes']:g} GB ({found['limit']}) | {found['streamed']:,} |\n"
        f"| streamed, killed on the way and resumed | the same | {found['resumed']:,} |\n\n"
        f"The three ended in {'the same' if found['same_bits'] else 'DIFFERENT'} bits.\n"
    )


def main() -> None:
    if sys.argv[1] == "--train":
        flags = sys.argv[4:]
        train(Path(sys.argv[2]), Path(sys.argv[3]), in_memory="--in-memory" in flags, resume="--resume" in flags)
        return
    gigabytes = float(sys.argv[2]) if len(sys.argv) > 2 else 6.0
    found = compare(Path(sys.argv[1]), gigabytes)
    here = Path(__file__).parent
    (here / "streaming.json").write_text(json.dumps(found, indent=1) + "\n")
    (here / "STREAMING.md").write_text(page(found))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
