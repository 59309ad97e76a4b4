"""One contender in a process of its own: ``python -m benchmarks.contender NAME ARCHITECTURE``.

Each line that comes in is a number of steps to train; each line that goes out is JSON with the seconds they took, the
last loss, and the process's peak memory in MB. The architecture is 'default' (this project's) or 'textbook' (that of
the TensorFlow CVAE tutorial's recipe).
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from typing import Any

import numpy as np

from vae_lib.config import TrainingConfig
from vae_lib.data.loading import load_data

BATCH = 50
BF16 = {"TF_SET_ONEDNN_FPMATH_MODE": "BF16"}  # lets oneDNN use bfloat16 inside of float32 operations
# name: (changes of the config, environment)
OURS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "graph": ({}, {}),
    "eager": ({"mode": "eager"}, {}),
    "xla": ({"mode": "xla"}, {}),
    "filters 128": ({"num_filters": 128}, {}),
    "--precision bfloat16": ({"precision": "bfloat16"}, {}),
    "graph, oneDNN in bfloat16": ({}, BF16),
}
# name: (module, function, options)
PEERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "TensorFlow, eager loop": ("peers_tensorflow", "make_eager", {}),
    "TensorFlow, tf.function step, tf.data": ("peers_tensorflow", "make_function", {}),
    "TensorFlow, tf.function step, images in memory": ("peers_tensorflow", "make_in_memory", {}),
    "Keras fit": ("peers_tensorflow", "make_fit", {}),
    "Keras fit, steps_per_execution=20": ("peers_tensorflow", "make_fit", {"steps_per_execution": 20}),
    "PyTorch, Adam()": ("peers_torch", "make", {"fused": False}),
    "PyTorch, Adam(fused)": ("peers_torch", "make", {}),
    "PyTorch, fused, channels-last": ("peers_torch", "make", {"channels_last": True}),
    "PyTorch, fused, compiled": ("peers_torch", "make", {"compiled": True}),
    "PyTorch, fused, compiled, max-autotune": ("peers_torch", "make", {"compiled": "max-autotune"}),
    "PyTorch, fused, autocast": ("peers_torch", "make", {"bfloat16": True}),
    "PyTorch, fused, autocast, compiled": ("peers_torch", "make", {"bfloat16": True, "compiled": True}),
    "Flax, jitted step": ("peers_flax", "make", {}),
    "Flax, jitted step, donated": ("peers_flax", "make", {"donate": True}),
    "Flax, epoch in lax.scan, donated": ("peers_flax", "make", {"donate": True, "scan": True}),
}
HALF = {name for name in (*OURS, *PEERS) if "bfloat16" in name or "autocast" in name}  # not in float32 throughout


def make_ours(images: np.ndarray, batch: int, textbook: bool, changes: dict):
    from benchmarks.peers_tensorflow import make_vae
    from vae_lib.backend import tf
    from vae_lib.trainer import Trainer, plan_epoch

    model = {name: value for name, value in changes.items() if name in ("precision", "num_filters")}
    training = {name: value for name, value in changes.items() if name not in model}
    trainer = Trainer(make_vae(textbook, **model), images, TrainingConfig(batch_size=batch, **training))
    epoch = 0

    def run(steps: int) -> float:
        nonlocal epoch
        plan = plan_epoch(len(images), batch, 0, epoch)
        tensors = tuple(map(tf.constant, plan))
        losses = trainer.run_steps(tensors, 0, steps, epoch * trainer.steps_per_epoch, None)
        epoch += 1
        return float(losses[-1].sum())

    run.parameters = sum(int(np.prod(v.shape)) for v in trainer.model.trainable_variables)
    return run


def main() -> None:
    name, textbook = sys.argv[1], sys.argv[2] == "textbook"
    images = np.asarray(load_data("mnist").train_images)
    if name in OURS:
        run = make_ours(images, BATCH, textbook, OURS[name][0])
    else:
        module, make, options = PEERS[name]
        bits = (images > 127).astype(np.float32)
        run = getattr(importlib.import_module(f"benchmarks.{module}"), make)(bits, BATCH, textbook, **options)
    for line in sys.stdin:
        began = time.perf_counter()
        loss = run(int(line))
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answer = {"seconds": seconds, "loss": loss, "peak_mb": peak, "parameters": getattr(run, "parameters", 0)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
