"""How long until a test -ELBO: ``python -m benchmarks.to_target ours|recipe NATS`` prints seconds, steps, -ELBO.

Only training counts, not tracing or evaluation, which happens every 100 steps, or every 500 of
the recipe, which needs many more.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from vae_lib.data.loading import load_data

EVERY, EVERY_OF_RECIPE = 100, 500


def ours(target: float) -> tuple[float, int, float]:
    """This project's defaults: what ``train_VAE.py -l 2`` does."""
    from vae_lib.backend import tf
    from vae_lib.evaluation import evaluate_elbo
    from vae_lib.model import VAE
    from vae_lib.trainer import Trainer, plan_epoch

    data = load_data("mnist")
    model = VAE(2)
    trainer = Trainer(model, data.train_images)
    trainer.run_steps(tuple(map(tf.constant, plan_epoch(100, 50, 0, 0))), 0, 0, 0, None)  # no step; traces the graph
    seconds, began = 0.0, time.perf_counter()
    for epoch in range(trainer.config.epochs):
        for losses, pause in trainer.epoch_losses(epoch, np.empty([0, 2], np.float32), pause_every=EVERY):
            if pause:
                seconds += time.perf_counter() - began
                reached = -evaluate_elbo(model, data.test_images)["elbo"]
                if reached <= target:
                    return seconds, epoch * trainer.steps_per_epoch + len(losses), reached
                began = time.perf_counter()
    raise SystemExit("the target was not reached")


def recipe(target: float) -> tuple[float, int, float]:
    """The TensorFlow CVAE tutorial's recipe: its networks, Adam at 1e-4, batches of 32, a compiled step."""
    from benchmarks.peers_tensorflow import Step, batches
    from vae_lib.backend import tf

    data = load_data("mnist")
    train, test = ((np.asarray(part) > 127).astype(np.float32) for part in (data.train_images, data.test_images))
    step = Step(textbook=True, rate=1e-4)
    compiled, loss, source = tf.function(step), tf.function(step.loss), batches(train, 32)
    compiled(next(source))
    seconds = 0.0
    for steps in range(1 + EVERY_OF_RECIPE, 50_000, EVERY_OF_RECIPE):
        began = time.perf_counter()
        for _ in range(EVERY_OF_RECIPE):
            result = compiled(next(source))
        result.numpy()
        seconds += time.perf_counter() - began
        reached = float(np.mean([loss(test[i : i + 1000]) for i in range(0, len(test), 1000)]))
        if reached <= target:
            return seconds, steps, reached
    raise SystemExit("the target was not reached")


if __name__ == "__main__":
    print(*{"ours": ours, "recipe": recipe}[sys.argv[1]](float(sys.argv[2])))
