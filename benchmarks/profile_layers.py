"""Where a training step's time goes: ``python -m benchmarks.profile_layers [BATCH]`` prints a table of milliseconds.

Each layer of the default networks alone, forward and forward plus backward, on one core (the shard that a core works on
is half a batch on two cores); then the whole step, the step without the optimizer, and the forward pass.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"

import numpy as np

from vae_lib.backend import tf
from vae_lib.model import VAE
from vae_lib.optimization import Adam

REPEATS = 30


def milliseconds(function, *arguments) -> float:
    """The median over repetitions of a compiled function."""
    compiled = tf.function(function)
    times = []
    for _ in range(REPEATS + 3):
        began = time.perf_counter()
        result = compiled(*arguments)
        tf.nest.map_structure(lambda t: t.numpy() if t is not None else None, result)
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times[3:])


def backward(function, x, variables):
    """A function that returns one number from each gradient of ``function``, so that all must be computed."""

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(function(x))
        return [tf.reduce_max(g) for g in tape.gradient(loss, [x, *variables]) if g is not None]

    return run


def main() -> None:
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    vae = VAE(2)
    rng = np.random.default_rng(0)
    print("| layer | output | forward, ms | forward and backward, ms | GFLOP/s |\n| --- | --- | --- | --- | --- |")
    for network in (vae.encoder, vae.decoder):
        for layer in network.layers:
            x = tf.constant(rng.normal(size=(batch, *layer.input.shape[1:])), tf.float32)
            forward = milliseconds(lambda x, layer=layer: tf.reduce_max(layer(x)), x)
            both = milliseconds(backward(layer, x, layer.trainable_variables), x)
            rate = ""
            if layer.trainable_variables:
                area = int(np.prod(layer.output.shape[1:-1])) if len(layer.output.shape) == 4 else 1
                rate = f"{6e-6 * batch * area * int(np.prod(layer.kernel.shape)) / both:.0f}"
            shape = " x ".join(map(str, layer.output.shape[1:]))
            print(f"| {network.name} {layer.__class__.__name__} | {shape} | {forward:.2f} | {both:.2f} | {rate} |")
    x = tf.constant(rng.integers(0, 2, (batch, 28, 28, 1)), tf.float32)
    epsilon = tf.constant(rng.normal(size=(batch, 2)), tf.float32)
    variables = [v.value for v in vae.trainable_variables]
    adam = Adam(variables)

    def elbo(x):
        return -vae.elbo(x, epsilon).elbo

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(elbo(x))
        adam.apply(tape.gradient(loss, variables), tf.constant(1e-3), tf.constant(0))
        return loss

    whole = backward(elbo, x, variables)
    print(f"\nforward {milliseconds(elbo, x):.2f} ms, with backward {milliseconds(whole, x):.2f} ms, "
          f"with Adam {milliseconds(step, x):.2f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
