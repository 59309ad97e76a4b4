"""The training loop: one explicit step, and an epoch that is a single graph around it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from vae_lib.arrays import as_images
from vae_lib.augment import altered_copies, mirrored_at_random
from vae_lib.backend import SHARDS, tf
from vae_lib.config import TrainingConfig
from vae_lib.errors import UserError
from vae_lib.memory import IN_MEMORY, RowReader, memory
from vae_lib.model import VAE, check_model
from vae_lib.objectives import (
    Batch,
    elbo_gradients,
    even_sizes,
    importance_gradients,
    marginal_gradients,
    sum_in_order,
)
from vae_lib.optimization import Adam, kl_weight, learning_rate
from vae_lib.priors import ends_of_networks

Row = dict[str, float]  # one line of a history: the epoch and its numbers in nats per image
CHUNK_SECONDS = 0.5  # how long the graph runs before Python sees the losses and can be interrupted
READERS = 4  # batches that are read from disk at once


class Plan(NamedTuple):
    """The batches of one epoch: row ``i`` holds the image indices of step ``i`` and their weights.

    Both are (steps, B). The last batch is filled up with the first images again, which weigh 0, so that every step has
    one shape and one graph serves them all.
    """

    indices: np.ndarray
    weights: np.ndarray


def plan_epoch(n_images: int, batch_size: int, seed: int, epoch: int) -> Plan:
    """The shuffled batches of an epoch, a function of its arguments alone."""
    steps = math.ceil(n_images / batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(n_images).astype(np.int32)
    filler = steps * batch_size - n_images
    indices = np.resize(order, steps * batch_size)  # others again: batch normalization sees images of the set
    weights = np.concatenate([np.ones(n_images, np.float32), np.zeros(filler, np.float32)])
    return Plan(indices.reshape(steps, batch_size), weights.reshape(steps, batch_size))


class Trainer:
    """A model, its optimizer and the images it learns from.

    A model that has been trained before goes on with new noise and new orders, and with a new optimizer.

    ``images`` is (N, H, W, C) uint8; more than ``stream_above`` bytes of them, by default a quarter of the memory that
    the process may use, are streamed through ``tf.data`` instead of being held, with the same results. In mode 'eager'
    every operation runs from Python, so breakpoints and prints in `train_step` and in the model work; in 'graph' the
    loop over the batches is one ``tf.function``; in 'xla' the gradients inside that loop are compiled as well. From one
    seed all three give the same losses to float tolerance, but for batch normalization, which sees half a batch at a
    time in a graph.
    The objective decides where the model's posteriors come from: log p(x) leaves the encoder as it is and out of use.
    ``rows`` are the indices of the images to learn from, by default all. The model must have been made in the scope of
    ``strategy``. Raises `UserError`.
    """

    def __init__(
        self,
        model: VAE,
        images: np.ndarray,
        config: TrainingConfig | None = None,
        *,
        rows: np.ndarray | None = None,
        strategy: tf.distribute.Strategy | None = None,
        stream_above: float | None = None,
    ) -> None:
        config = config or TrainingConfig(seed=check_model(model).config.seed)
        check_model(model)
        if not isinstance(config, TrainingConfig):
            raise UserError(f"config must be a TrainingConfig, not {config!r}.")
        if strategy is not None and not isinstance(strategy, tf.distribute.Strategy):
            raise UserError(f"strategy must be a tf.distribute.Strategy, not {strategy!r}.")
        self.rows = np.arange(len(images)) if rows is None else _checked_rows(rows, len(images))
        if not len(self.rows):
            raise UserError("there are no training images.")
        images = as_images(images, model.config.image_shape, what="training images", empty=True)
        check_replicas(config.batch_size, strategy)
        if (config.importance_samples > 1 or config.objective == "marginal") and model.losses:
            raise UserError("networks with regularizers are trained on the ELBO of one sample.")
        if config.match_prior:
            ends_of_networks(model)
        dataclasses.replace(model.config, inference=config.inference)  # raises where the model has no grid
        if not all(np.isfinite(weight.numpy()).all() for weight in model.weights):
            raise UserError("the model has weights that are not finite: make a new one.")
        self.strategy = strategy or tf.distribute.get_strategy()
        self.model, self.config = model, config
        self.first_epoch, self.first_step = model.epochs_trained, model.steps_trained
        limit = IN_MEMORY * memory() if stream_above is None else stream_above
        self.images = images if images.nbytes > limit else tf.constant(images)
        self.steps_per_epoch = math.ceil(len(self.rows) / config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        with self.strategy.scope():
            variables = [variable.value for variable in model.trainable_variables]
            self.optimizer = Adam(variables, config.weight_decay)
        # Independent parts of a batch that the cores work on side by side; only a graph runs them so.
        self.shards = SHARDS if config.mode == "graph" else 1
        self.traces = 0  # how often Python walked through the loop: once in a graph, always in eager mode
        xla = config.mode == "xla"
        self._compiled_gradients = tf.function(self.gradients, jit_compile=True) if xla else self.gradients
        # From 0: a learning rate and a weight of the KL term that take their schedules' places.
        self.rate_set, self.beta_set = (tf.Variable(-1.0, trainable=False) for _ in range(2))
        self._graph: Any = None
        self._graph_of_a_step: Any = tf.function(self._prepared_step)

    @property
    def streaming(self) -> bool:
        """Whether each chunk of images is read from the array (a file, where it is mapped) when it is needed."""
        return isinstance(self.images, np.ndarray)

    def variables(self) -> list[tf.Variable]:
        """Everything that training changes: the model's weights and the optimizer's moments."""
        return [*(v.value for v in self.model.trainable_variables), *self.optimizer.variables]

    def learning_rate(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rate at ``step``: the schedule's, or the one that was set instead."""
        scheduled = learning_rate(self.config, step, self.total_steps)
        return tf.where(self.rate_set < 0.0, scheduled, self.rate_set)

    def beta(self, step: tf.Tensor) -> tf.Tensor:
        """The weight of the KL term at ``step``: the schedule's, or the one that was set instead."""
        scheduled = kl_weight(self.config, self.model.config.likelihood, step, self.total_steps)
        return tf.where(self.beta_set < 0.0, scheduled, self.beta_set)

    # ---- one step --------------------------------------------------------------------------------------------

    def train_step(self, batch: Batch, step: tf.Tensor) -> tf.Tensor:
        """One gradient step on a global batch: its mean nll and kl in nats, (2,).

        Each replica takes its rows of the batch, so that the loss does not depend on how many share the work; the mean
        over the whole batch is taken once, through the images' shares.
        """
        context = tf.distribute.get_replica_context()
        mine = Batch(*(None if a is None else _rows(a, context) for a in batch))._replace(shift=batch.shift)
        gradients, losses = self._compiled_gradients(self.beta(step), mine)
        if context.num_replicas_in_sync > 1:
            *gradients, losses = context.all_reduce(tf.distribute.ReduceOp.SUM, [*gradients, losses])
        self.optimizer.apply(gradients, self.learning_rate(step), step)
        return losses

    def gradients(self, beta: tf.Tensor, batch: Batch) -> tuple[list[tf.Tensor], tf.Tensor]:
        """The gradients of the loss on a batch, and its nll and kl in nats, (2,), weighted by the batch's shares.

        ``beta`` is the weight of the KL term. The batch is cut into shards whose gradients are added in a fixed order;
        the marginal objective cuts its grid instead.
        """
        config = self.config
        if config.objective == "marginal":
            return marginal_gradients(self.model, batch, config.grid_side, self.shards)
        sizes = even_sizes(batch.images.shape[0], self.shards)
        parts = [[None] * len(sizes) if a is None else tf.split(a, sizes) for a in batch]
        shards = [Batch(*part) for part in zip(*parts, strict=True)]
        if config.importance_samples > 1:
            results = [importance_gradients(self.model, shard) for shard in shards]
        else:
            results = [elbo_gradients(self.model, shard, beta) for shard in shards]
        gradients, losses = zip(*results, strict=True)
        return [sum_in_order(column) for column in zip(*gradients, strict=True)], sum_in_order(losses)

    # ---- many steps ------------------------------------------------------------------------------------------

    def _loop(
        self,
        indices: tf.Tensor,
        weights: tf.Tensor,
        start: tf.Tensor,
        stop: tf.Tensor,
        first_step: tf.Tensor,
        stream: Iterator[tf.Tensor] | None,
    ) -> tf.Tensor:
        """Steps ``start`` to ``stop`` of an epoch whose first step is number ``first_step``, (steps, 2)."""
        self.traces += 1
        losses = tf.TensorArray(tf.float32, size=stop - start, element_shape=[2])
        for i in tf.range(start, stop):
            images = tf.gather(self.images, indices[i]) if stream is None else next(stream)
            losses = losses.write(i - start, self._prepared_step(images, weights[i], first_step + i))
        return losses.stack()

    def _prepared_step(self, images: tf.Tensor, weights: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """`train_step` on images (B, H, W, C) with their weights (B,), on all replicas, (2,).

        The noise is a function of (seed, step), so step 1,000 is the same whether or not the run was interrupted
        before it. It is drawn outside of what XLA compiles, because XLA has a normal generator of its own.
        """
        seed = tf.stack([self.config.seed, self.first_step + step])
        share = weights / tf.reduce_sum(weights)
        if self.config.mirror:
            images = mirrored_at_random(images, tf.random.experimental.stateless_fold_in(seed, 4))
        noise = self.model.noise(self.config.batch_size, seed)
        batch = Batch(images, share, *noise, self._copies(images, seed), *self._further_noise(seed))
        return self._one(self.strategy.run(self.train_step, (batch, step)))

    def _copies(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor | None:
        if not self.config.augment_encoder:
            return None
        other = tf.random.experimental.stateless_fold_in(seed, 2)  # independent of what `VAE.noise` draws
        return altered_copies(images, other, bits=self.model.config.binarize != "none")

    def _further_noise(self, seed: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """What the other objectives draw at each step, independent of what `VAE.noise` draws."""
        config, other = self.config, tf.random.experimental.stateless_fold_in(seed, 3)
        if config.objective == "marginal":
            return None, tf.random.stateless_uniform([2], other)
        if config.importance_samples == 1:
            return None, None
        size = [config.batch_size, config.importance_samples, self.model.config.latent_dim]
        return tf.random.stateless_normal(size, other), None

    def _one(self, result: Any) -> tf.Tensor:
        """The value that all replicas agree on."""
        return self.strategy.experimental_local_results(result)[0]

    def run_steps(self, plan: tuple[tf.Tensor, tf.Tensor], start: int, stop: int, first_step: int, stream: Any) -> Any:
        """Run steps in the config's mode, (stop - start, 2)."""
        numbers: list[Any] = [tf.constant(number, tf.int32) for number in (start, stop, first_step)]
        if self.config.mode == "eager":
            eagerly: Any = self._loop
            return eagerly(*plan, *numbers, stream).numpy()
        if self.strategy.num_replicas_in_sync > 1:  # workers that share a loop in a graph can wait for ever
            losses = []
            for i in range(start, stop):
                images = tf.gather(self.images, plan[0][i]) if stream is None else next(stream)
                losses.append(self._graph_of_a_step(images, plan[1][i], tf.constant(first_step + i)))
            return np.stack(losses)
        if self._graph is None:
            batch = self.config.batch_size
            specs = [tf.TensorSpec([None, batch], tf.int32), tf.TensorSpec([None, batch], tf.float32)]
            specs += [tf.TensorSpec([], tf.int32)] * 3
            spec = None if stream is None else tf.data.IteratorSpec(stream.element_spec)
            self._graph = tf.function(self._loop).get_concrete_function(*specs, spec)
        return self._graph(*plan, *numbers, *([] if stream is None else [stream])).numpy()

    def _stream(self, reader: RowReader, indices: np.ndarray) -> Any:
        """An iterator over the batches (B, H, W, C) that ``indices`` (steps, B) names, read ahead from disk."""

        batches = tf.data.Dataset.from_tensor_slices(indices).map(
            lambda row: tf.ensure_shape(
                tf.numpy_function(reader.take, [row], tf.uint8), [self.config.batch_size, *self.images.shape[1:]]
            ),
            num_parallel_calls=READERS,
        )
        return iter(batches.prefetch(READERS))

    def epoch_losses(
        self,
        epoch: int,
        done: np.ndarray,
        *,
        pause_every: int = 0,
        pause_after: Sequence[int] = (),
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> Iterator[tuple[np.ndarray, bool]]:
        """Train through an epoch, yielding the losses (steps so far, 2) every ``chunk_seconds`` until it is over.

        ``done`` holds the losses of the steps that an interrupted epoch has behind it, (0, 2) for a new one.
        With ``pause_every`` the loop also yields, with True, after each step whose number it divides, and after those
        steps of the whole training that ``pause_after`` counts. Raises `UserError` when a loss is not finite.
        """
        self.model.set_inference(self.config.inference)
        plan = plan_epoch(len(self.rows), self.config.batch_size, self.config.seed, self.first_epoch + epoch)
        plan = plan._replace(indices=self.rows[plan.indices].astype(np.int32))
        tensors = (tf.constant(plan.indices), tf.constant(plan.weights))
        reader = RowReader(self.images) if self.streaming else None
        stream = None if reader is None else self._stream(reader, plan.indices[len(done) :])
        first_step, losses, chunk = epoch * self.steps_per_epoch, done, 1  # the first call traces the graph
        with reader or contextlib.nullcontext():
            while len(losses) < self.steps_per_epoch:
                start = len(losses)
                stop = min(start + chunk, self.steps_per_epoch)
                if pause_every:
                    stop = min(stop, start + pause_every - (first_step + start) % pause_every)
                stop = min([stop, *(step - first_step for step in pause_after if step > first_step + start)])
                began = time.perf_counter()
                losses = np.concatenate([losses, self.run_steps(tensors, start, stop, first_step, stream)])
                rate = (stop - start) / (time.perf_counter() - began)
                chunk = 10 if start == len(done) else max(1, int(chunk_seconds * rate))
                _check_finite(losses[start:], epoch, start)
                yield losses, bool(pause_every) and (first_step + stop) % pause_every == 0

    def epoch_row(self, losses: np.ndarray) -> Row:
        """The mean of an epoch's losses (steps, 2) in nats per image, each step weighing as many as it had."""
        sizes = np.full(self.steps_per_epoch, self.config.batch_size)
        sizes[-1] -= sizes.sum() - len(self.rows)
        nll, kl = np.average(losses.astype(np.float64), axis=0, weights=sizes)
        return {"train_nll": float(nll), "train_kl": float(kl), "train_elbo": float(-(nll + kl))}


def _checked_rows(rows: Any, count: int) -> np.ndarray:
    """``rows`` as indices of ``count`` images; raises `UserError` for anything else."""
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or (len(rows) and not 0 <= rows.min() <= rows.max() < count):
        raise UserError(f"rows must be indices from 0 to {count - 1:,}.")
    return rows


def check_replicas(batch_size: int, strategy: tf.distribute.Strategy | None) -> None:
    """Raise `UserError` unless all replicas get equal parts of a batch."""
    replicas = strategy.num_replicas_in_sync if strategy else 1
    if batch_size % replicas:
        raise UserError(f"a batch of {batch_size} cannot be shared evenly by {replicas} replicas.")


def _rows(array: tf.Tensor, context: tf.distribute.ReplicaContext) -> tf.Tensor:
    """This replica's equal part of the rows of a global batch."""
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return array
    size = array.shape[0] // replicas
    start = context.replica_id_in_sync_group * size
    return tf.ensure_shape(array[start : start + size], [size, *array.shape[1:]])


def _check_finite(losses: np.ndarray, epoch: int, start: int) -> None:
    """Raise `UserError` naming the first step whose loss is not finite."""
    bad = np.flatnonzero(~np.isfinite(losses).all(axis=1))
    if len(bad):
        raise UserError(
            f"the loss became {losses[bad[0]].sum()} in epoch {epoch + 1}, step {start + bad[0] + 1}: the learning "
            "rate is too high for this data; lower it."
        )
