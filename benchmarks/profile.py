"""Where a training step's time goes, operation by operation: ``python -m benchmarks.profile`` writes PROFILE.md.

TensorFlow's own profiler times every operation of some steps on every thread; what the operations of a kind take
together is set beside the time that their multiplications alone would take at the machine's rate for large matrix
products, which no library can beat with the same arithmetic.
"""

from __future__ import annotations

import collections
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.contender import BATCH
from benchmarks.peers_tensorflow import make_vae
from benchmarks.run import flops_per_image, machine, matrix_rate
from vae_lib.backend import CORES, tf
from vae_lib.config import TrainingConfig
from vae_lib.data.loading import load_data
from vae_lib.trainer import Trainer, plan_epoch

HERE = Path(__file__).parent
STEPS = 40
KINDS = {
    "convolutions": ("Conv2D",),
    "dense layers": ("MatMul",),
    "Adam": ("ResourceApplyAdam",),
    "elementwise": (
        "Mul", "AddV2", "Erf", "_UnaryOpsComposition", "Exp", "Square", "Neg", "Softplus", "Sigmoid", "Relu",
        "ReluGrad", "BiasAdd", "Sub",
    ),
    "conversions": ("Cast",),
}  # fmt: skip


def measure(textbook: bool, precision: str) -> dict:
    """Milliseconds of a step by the clock, and of thread time by operation."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    images = np.asarray(load_data("mnist").train_images)
    trainer = Trainer(make_vae(textbook, precision=precision), images, TrainingConfig(batch_size=BATCH))
    plan = tuple(map(tf.constant, plan_epoch(len(images), BATCH, 0, 0)))
    trainer.run_steps(plan, 0, 100, 0, None)
    walls = []
    for _ in range(7):
        began = time.perf_counter()
        trainer.run_steps(plan, 0, 100, 0, None)
        walls.append((time.perf_counter() - began) * 10)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        trainer.run_steps(plan, 0, STEPS, 0, None)
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    operations: collections.Counter[str] = collections.Counter()
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name
            if ":_" in name or (":" in name and "/" in name.split(":")[0]):  # place in the graph:operation
                operations[name.split(":")[-1]] += event.duration_ps / 1e9 / STEPS
    return {"wall": statistics.median(walls), "operations": dict(operations.most_common())}


def kind_of(operation: str) -> str:
    """The row of the table that an operation of TensorFlow belongs to."""
    for kind, names in KINDS.items():
        if operation in names or (operation.startswith("_Mkl") and any(name in operation for name in names)):
            return kind
    return "the rest"


def rows(found: dict[str, dict]) -> list[str]:
    """Milliseconds of thread time by kind, a column for each network."""
    sums = {name: collections.Counter() for name in found}
    for name, result in found.items():
        for operation, spent in result["operations"].items():
            sums[name][kind_of(operation)] += spent
    lines = ["| thread time of a step, ms | " + " | ".join(found) + " |", "| --- |" + " --- |" * len(found)]
    for kind in (*KINDS, "the rest"):
        lines.append(f"| {kind} | " + " | ".join(f"{sums[name][kind]:.2f}" for name in found) + " |")
    lines.append("| all | " + " | ".join(f"{sums[name].total():.2f}" for name in found) + " |")
    lines.append("| by the clock | " + " | ".join(f"{result['wall']:.2f}" for result in found.values()) + " |")
    return lines


def main() -> None:
    if len(sys.argv) > 1:  # one network, in a process of its own
        print(json.dumps(measure(sys.argv[1] == "textbook", sys.argv[2])))
        return
    found = {}
    for network, precision in (("default", "float32"), ("default", "bfloat16"), ("textbook", "float32")):
        command = [sys.executable, "-m", "benchmarks.profile", network, precision]
        output = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True).stdout
        found[f"{network}, {precision}"] = json.loads(output.splitlines()[-1])
    raw = {"machine": machine(), "cores": CORES, "matrix_gflops": matrix_rate(), "steps": found}
    (HERE / "profile.json").write_text(json.dumps(raw, indent=1) + "\n")
    (HERE / "PROFILE.md").write_text(page(raw))
    print(page(raw))


def page(raw: dict) -> str:
    """PROFILE.md from what was measured."""
    rate, wall = raw["matrix_gflops"], raw["steps"]["default, float32"]["wall"]
    least = BATCH * flops_per_image(32) / rate / 1e6
    lines = [
        "# Where a step's time goes",
        "",
        f"Written by `python -m benchmarks.profile`; do not edit. A batch of {BATCH} on {raw['machine']}; "
        f"thread time is that of the {raw['cores']} cores together.",
        "",
        *rows(raw["steps"]),
        "",
        f"Large float32 matrix products run at {rate:.0f} GFLOP/s here. At that rate the multiplications of a step "
        f"of the default network alone take {least:.2f} ms by the clock, {least / wall:.0%} of the step: whatever "
        f"else were saved, float32 could become at most {wall / least:.2f} times as fast.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
