"""Training: one explicit step, an epoch that is a single graph around it, and a run from start to end."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_lib import evaluate, runs
from vae_lib.backend import keras, tf
from vae_lib.config import UserError, VAEConfig
from vae_lib.data import ImageData
from vae_lib.model import VAE
from vae_lib.runs import Row

CHUNK_SECONDS = 0.5  # how long the graph runs before Python sees the losses and can be interrupted
Report = Callable[[int, int, float], None]  # epoch, steps done in it, running mean of nll + kl


class Plan(NamedTuple):
    """The batches of one epoch: row ``i`` holds the image indices of step ``i`` and their weights.

    Both are (steps, B). The last batch is filled up with images of weight 0, so that every step has one shape
    and one graph serves them all.
    """

    indices: np.ndarray
    weights: np.ndarray


def plan_epoch(n_images: int, batch_size: int, seed: int, epoch: int) -> Plan:
    """The shuffled batches of an epoch, a function of its arguments alone."""
    steps = math.ceil(n_images / batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(n_images).astype(np.int32)
    filler = steps * batch_size - n_images
    indices = np.concatenate([order, np.zeros(filler, np.int32)])
    weights = np.concatenate([np.ones(n_images, np.float32), np.zeros(filler, np.float32)])
    return Plan(indices.reshape(steps, batch_size), weights.reshape(steps, batch_size))


def learning_rate(config: VAEConfig, total_steps: int) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """The config's schedule: constant, or half a cosine from ``learning_rate`` to 0 over all steps."""
    if config.schedule == "constant" or total_steps == 0:
        return config.learning_rate
    return keras.optimizers.schedules.CosineDecay(config.learning_rate, total_steps)


def kl_weight(config: VAEConfig, step: tf.Tensor, total_steps: int) -> tf.Tensor:
    """The weight of the KL term at ``step``: geometric from ``beta_start`` to ``beta`` over half of training."""
    if not config.beta or not config.beta_start or not total_steps:
        return tf.constant(config.beta)
    left = tf.maximum(1.0 - 2.0 * tf.cast(step, tf.float32) / total_steps, 0.0)
    return config.beta * (config.beta_start / config.beta) ** left


class Trainer:
    """A model, its optimizer and the images it learns from.

    ``images`` is (N, H, W, C) uint8. In mode 'eager' every operation runs from Python, so breakpoints and
    prints in `train_step` and in the model work; in 'graph' the loop over the batches is one ``tf.function``;
    in 'xla' the step inside that loop is compiled as well. From one seed all three give the same losses to
    float tolerance.
    """

    def __init__(self, model: VAE, images: np.ndarray) -> None:
        config = model.config
        if not len(images):
            raise UserError("there are no training images.")
        self.model, self.config = model, config
        self.images = tf.constant(images)
        self.steps_per_epoch = math.ceil(len(images) / config.batch_size)
        total_steps = config.epochs * self.steps_per_epoch
        rate = learning_rate(config, total_steps)
        self._beta = lambda step: kl_weight(config, step, total_steps)
        self.optimizer = keras.optimizers.Adam(rate)
        self.optimizer.build(model.trainable_variables)
        self._step = self.train_step
        self.run_steps = self._run_steps
        if config.mode == "xla":
            self._step = tf.function(self.train_step, jit_compile=True)
        if config.mode != "eager":
            spec = [tf.TensorSpec([None, config.batch_size], kind) for kind in (tf.int32, tf.float32)]
            self.run_steps = tf.function(self._run_steps, input_signature=[*spec, *[tf.TensorSpec([], tf.int32)] * 3])

    def train_step(
        self, images: tf.Tensor, weights: tf.Tensor, beta: tf.Tensor, epsilon: tf.Tensor, uniform: tf.Tensor | None
    ) -> tf.Tensor:
        """One gradient step on a batch: its mean nll and kl in nats, (2,).

        (B, H, W, C) uint8 images, (B,) weights, the weight of the KL term, and the noise that `VAE.noise` drew
        for this step: (B, D), and (B, H, W, C) or None.
        """
        x = self.model.prepare(images, uniform)
        share = weights / tf.reduce_sum(weights)  # a mean over the batch, taken once
        with tf.GradientTape() as tape:
            terms = self.model.elbo(x, epsilon)
            loss = tf.reduce_sum(share * (terms.nll + beta * terms.kl))
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return tf.stack([tf.reduce_sum(share * terms.nll), tf.reduce_sum(share * terms.kl)])

    def _run_steps(
        self, indices: tf.Tensor, weights: tf.Tensor, start: tf.Tensor, stop: tf.Tensor, epoch_start: tf.Tensor
    ) -> tf.Tensor:
        """Steps ``start`` to ``stop`` of an epoch whose first step is number ``epoch_start``, (steps, 2).

        The noise is a function of (seed, step), so step 1,000 is the same whether or not the run was
        interrupted before it. It is drawn out here, because XLA has a normal generator of its own.
        """
        losses = tf.TensorArray(tf.float32, size=stop - start, element_shape=[2])
        for i in tf.range(start, stop):
            images = tf.gather(self.images, indices[i])
            step = epoch_start + i
            noise = self.model.noise(self.config.batch_size, tf.stack([self.config.seed, step]))
            losses = losses.write(i - start, self._step(images, weights[i], self._beta(step), *noise))
        return losses.stack()

    def run_epoch(self, epoch: int, report: Report | None = None) -> Row:
        """One pass over the images; returns the mean losses while learning, in nats per image."""
        plan = plan_epoch(len(self.images), self.config.batch_size, self.config.seed, epoch)
        indices, weights = tf.constant(plan.indices), tf.constant(plan.weights)
        epoch_start = tf.constant(epoch * self.steps_per_epoch)
        losses = np.empty([0, 2], np.float32)
        chunk = 1  # the first call traces the graph
        while len(losses) < self.steps_per_epoch:
            start = len(losses)
            stop = min(start + chunk, self.steps_per_epoch)
            began = time.perf_counter()
            part = self.run_steps(indices, weights, tf.constant(start), tf.constant(stop), epoch_start)
            losses = np.concatenate([losses, part.numpy()])
            chunk = 10 if start == 0 else max(1, int(CHUNK_SECONDS * (stop - start) / (time.perf_counter() - began)))
            if not np.isfinite(losses[start:]).all():
                bad = start + int(np.argmin(np.isfinite(losses[start:]).all(axis=1)))
                raise UserError(
                    f"the loss became {losses[bad].sum()} in epoch {epoch + 1}, step {bad + 1}: lower --learning-rate."
                )
            if report is not None:
                report(epoch, stop, float(losses.sum(axis=1, dtype=np.float64).mean()))
        return _epoch_row(losses, plan.weights)


def _epoch_row(losses: np.ndarray, weights: np.ndarray) -> Row:
    """The mean of the steps' losses (steps, 2), each step weighing as many images as it had."""
    nll, kl = np.average(losses.astype(np.float64), axis=0, weights=weights.sum(axis=1))
    return {"train_nll": float(nll), "train_kl": float(kl), "train_elbo": float(-(nll + kl))}


def fit(
    model: VAE,
    data: ImageData,
    *,
    report: Report | None = None,
    after_epoch: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Train ``model`` for its config's epochs; returns the history, one row an epoch in nats per image.

    ``report`` hears of each chunk of steps, ``after_epoch`` of each row.
    """
    trainer = Trainer(model, data.train_images)
    history = []
    for epoch in range(model.config.epochs):
        row = {"epoch": epoch + 1, **trainer.run_epoch(epoch, report)}
        test = evaluate.evaluate_elbo(model, data.test_images)
        row |= {f"test_{name}": test[name] for name in ("nll", "kl", "elbo")}
        history.append(row)
        if after_epoch is not None:
            after_epoch(row)
    return history


def train_run(
    config: VAEConfig,
    data: ImageData,
    out: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    command: str = "",
    report: Report | None = None,
    after_epoch: Callable[[Row], None] | None = None,
) -> Path:
    """Train a new model and save it as a run with its numbers; returns the run's folder.

    The place is reserved before training, so what cannot be saved is not trained. Raises `UserError`.
    """
    config = config.replace(data_source=data.source, channels=data.train_images.shape[-1])
    partial = runs.start_run(config, out, overwrite=overwrite)
    model = VAE(config)
    began = time.perf_counter()
    history = fit(model, data, report=report, after_epoch=after_epoch)
    seconds = time.perf_counter() - began
    encodings = runs.Encodings(*model.encode_arrays(data.test_images), data.test_labels)
    metrics = evaluate.describe(model, data) | {"made_by": provenance(command, seconds)}
    return runs.finish_run(partial, model, history, metrics, encodings)


def provenance(command: str, seconds: float) -> dict[str, Any]:
    """How a run was made: the command, the versions and the training time."""
    return {
        "command": command,
        "training_seconds": round(seconds, 1),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }
