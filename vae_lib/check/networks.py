"""Exercises whose answer is a network, a step of training or a pipeline of data: judged by what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vae_lib.backend import tf
from vae_lib.check.grading import NoNumbers, Verdict, as_array, failure
from vae_lib.losses import bernoulli_nll, gaussian_kl

SHAPE = (28, 28, 1)


class Off(Exception):
    """What is off with an answer, as a sentence."""


def judged(name: str, judge: Callable[[], str]) -> Verdict:
    """What ``judge`` says, which raises `Off` for what is off; other exceptions are the answer's own."""
    try:
        return Verdict(name, True, judge())
    except (Off, NoNumbers) as off:
        return Verdict(name, False, str(off))
    except Exception as error:  # whatever a learner's code raises
        return Verdict(name, False, failure(error))


def _values(result: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """A network's result as an array of that shape."""
    if isinstance(result, list | tuple):
        raise Off(f"it returns {len(result)} tensors: join them in one, {what} {shape}.")
    array = as_array(result)
    if array.shape != shape:
        raise Off(f"it returns the shape {array.shape} where {what} {shape} is wanted.")
    if not np.isfinite(array).all():
        raise Off("it returns values that are not finite.")
    return array


def _is_linear(network: Callable[..., Any], a: np.ndarray, b: np.ndarray) -> bool:
    def values(x: np.ndarray) -> np.ndarray:
        return as_array(network(tf.constant(x, tf.float32)))

    zero, gap = values(np.zeros_like(a)), values(a) + values(b)
    return np.allclose(values(a + b) + zero, gap, rtol=1e-3, atol=1e-4)


def encoder(network: Callable[..., Any], latent_dim: int = 2, image_shape: tuple[int, int, int] = SHAPE) -> Verdict:
    """Check an encoder: images (B, H, W, C) -> (B, 2 D), means and log-variances side by side; returns a `Verdict`."""

    def judge() -> str:
        if not callable(network):
            raise Off(f"give the network itself, not {type(network).__name__}.")
        rng = np.random.default_rng(0)
        x = (rng.random((40, *image_shape)) < 0.3).astype(np.float32)
        result = network(tf.constant(x))
        found = np.shape(result)
        if found == (40, latent_dim):
            raise Off(f"it gives {latent_dim} numbers an image: means and log-variances are twice as many.")
        values = _values(result, (40, 2 * latent_dim), "(B, 2 D)")
        if np.allclose(values, values[:1], atol=1e-6):
            raise Off("every image gets the same code: does the input reach the last layer?")
        signed = rng.standard_normal((2, 5, *image_shape)).astype(np.float32)  # a relu shows itself below 0
        far = as_array(network(tf.constant(1000.0 * np.concatenate([x, *signed]))))
        if min(values.min(), far.min()) >= 0 and max(values.max(), far.max()) <= 1:
            raise Off("all values lie between 0 and 1: no sigmoid or softmax at the end, codes may be negative.")
        if min(values.min(), far.min()) >= 0:
            raise Off("no value is negative: no relu or softplus at the end, codes and log-variances may be negative.")
        if np.abs(values).max() <= 1 and _saturates(network, x):
            raise Off("all values lie between -1 and 1: no tanh at the end, a code may lie anywhere.")
        if _is_linear(network, *signed):
            raise Off("it is a linear map: put a nonlinearity between the layers.")
        return "Images go to means and log-variances."

    return judged("encoder", judge)


def _saturates(network: Callable[..., Any], x: np.ndarray) -> bool:
    values = np.abs(as_array(network(tf.constant(1000.0 * x))))
    return bool(values.max() <= 1 + 1e-6 and values.max() > 0.98)


def decoder(network: Callable[..., Any], latent_dim: int = 2, image_shape: tuple[int, int, int] = SHAPE) -> Verdict:
    """Check a decoder: codes (B, D) -> logits (B, H, W, C), not yet probabilities; returns a `Verdict`."""

    def judge() -> str:
        if not callable(network):
            raise Off(f"give the network itself, not {type(network).__name__}.")
        z = np.random.default_rng(0).standard_normal((40, latent_dim)).astype(np.float32)
        result = network(tf.constant(z))
        found = np.shape(result)
        if found == (40, int(np.prod(image_shape))):
            raise Off(f"it gives one long row of pixels: reshape it to {image_shape}.")
        if found == (40, *image_shape[:2]) and image_shape[2] == 1:
            raise Off("the axis of the channel is missing: (B, H, W, 1).")
        values = _values(result, (40, *image_shape), "(B, H, W, C)")
        far = _values(network(tf.constant(1000.0 * z)), (40, *image_shape), "(B, H, W, C)")
        if np.allclose(values, values[:1], atol=1e-6):
            raise Off("every code gives the same image: does the code reach the last layer?")
        if far.min() >= 0 and 0.98 < far.max() <= 1:  # far from 0 a sigmoid and a tanh reach their ends
            raise Off("all values lie between 0 and 1: a sigmoid at the end gives probabilities; give logits.")
        if far.min() >= 0:
            raise Off("no value is negative: no relu at the end, a logit below 0 says black.")
        if 0.98 < np.abs(far).max() <= 1 + 1e-6:
            raise Off("all values lie between -1 and 1: no tanh at the end, logits may lie anywhere.")
        if _is_linear(network, z[:5], z[5:10]):
            raise Off("it is a linear map: put a nonlinearity between the layers.")
        return "Codes go to logits."

    return judged("decoder", judge)


def _negative_elbo(encoder: Any, decoder: Any, x: Any, epsilon: Any) -> tuple[float, float]:
    """nll of bits and KL of a batch with given noise, means in nats, as the networks are now."""
    x = tf.cast(x, tf.float32)
    z_mean, z_log_var = tf.split(tf.cast(encoder(x), tf.float32), 2, axis=1)
    logits = decoder(z_mean + tf.exp(0.5 * z_log_var) * tf.cast(epsilon, tf.float32))
    nll = bernoulli_nll(x, tf.reshape(tf.cast(logits, tf.float32), tf.shape(x)))
    return float(tf.reduce_mean(nll)), float(tf.reduce_mean(gaussian_kl(z_mean, z_log_var)))


def _compare_loss(found: float, nll: float, kl: float, beta: float) -> None:
    """Raise `Off` where a loss is not nll + beta kl."""

    def equal(value: float) -> bool:
        return abs(found - value) <= 1e-3 * max(abs(value), 1e-3)

    if equal(nll + beta * kl):
        return
    if equal(nll):
        raise Off("the loss leaves the KL out: it is the nll alone.")
    if equal(nll + kl):
        raise Off(f"beta is not in the loss: with a beta of {beta:g} it is still nll + KL.")
    if equal((nll + beta * kl) / SHAPE[0] / SHAPE[1]):
        raise Off("the loss is a mean over the pixels: sum over them, and take the mean over the batch.")
    raise Off(f"the loss of this batch is {found:.2f}, and nll + beta KL is {nll + beta * kl:.2f} nats.")


def train_step(step: Callable[..., Any], encoder: Any, decoder: Any, *arguments: Any, repeats: int = 20) -> Verdict:
    """Check a step of training, called as ``step(x, epsilon)``: it lowers the loss of bits and moves both networks.

    ``encoder`` and ``decoder`` are the Keras models that it trains: images to means and log-variances side by side,
    codes to logits. The step returns the loss before its update: the mean of nll + KL or, where ``beta`` is given as a
    third argument, of nll + beta KL. A ``tf.function`` must be traced once. The step really trains: give it networks
    that may be spoiled. Returns a `Verdict`.
    """

    def judge() -> str:
        if not (encoder.weights and decoder.weights):
            step(*arguments)  # which builds the networks
        halves = {"encoder": encoder.trainable_weights, "decoder": decoder.trainable_weights}
        count = getattr(step, "experimental_get_tracing_count", lambda: 0)
        traced = count()
        before = {name: [as_array(w) for w in weights] for name, weights in halves.items()}
        plain = not (encoder.non_trainable_variables or decoder.non_trainable_variables)  # no dropout, no batch norm
        losses = []
        for _ in range(repeats):
            result = step(*arguments)
            if result is None:
                raise Off("it returns nothing: return the loss.")
            if np.shape(result) != ():
                raise Off(f"it returns the shape {np.shape(result)}: the loss is one number, the mean over the batch.")
            losses.append(float(result))
        moved = {
            name: any(not np.array_equal(as_array(w), old) for w, old in zip(weights, before[name], strict=True))
            for name, weights in halves.items()
        }
        if not any(moved.values()):
            raise Off("no weight has moved: apply the gradients with the optimizer.")
        if not moved["encoder"]:
            raise Off(
                "only the decoder learns: no gradient reaches the encoder. Is the code a draw of z_mean and sigma?"
            )
        if not moved["decoder"]:
            raise Off("only the encoder learns: give the optimizer the decoder's weights too.")
        if not np.isfinite(losses).all():
            raise Off("the loss is not finite: no log of a sigmoid, and a smaller learning rate.")
        if min(losses) < 0:
            raise Off("the loss is below 0, which a KL and an nll of bits never are: a sign is wrong.")
        if np.mean(losses[-3:]) > losses[0]:
            raise Off("the loss grows: the gradient of the loss goes down, that of the ELBO up.")
        if np.mean(losses[-3:]) > losses[0] - 1e-3 * abs(losses[0]):
            raise Off("the loss does not fall: is the learning rate far too small?")
        traced = count() - traced
        if traced > 2:  # Keras' optimizer makes its variables in the first
            raise Off(f"it was traced {traced} times: give tensors where Python's numbers change from step to step.")
        if plain:  # once more, with another beta, now that the KL is not small
            x, epsilon, *rest = arguments
            betas = [tf.constant(4.0)] if rest else []
            now = _negative_elbo(encoder, decoder, x, epsilon)
            _compare_loss(float(step(x, epsilon, *betas, *rest[1:])), *now, 4.0 if rest else 1.0)
        still = [w.path for name, weights in halves.items() for w, old in zip(weights, before[name], strict=True)
                 if np.array_equal(as_array(w), old)]  # fmt: skip
        if still:
            raise Off(f"these weights never move: {', '.join(still[:3])}.")
        return f"The loss falls by {1 - losses[-1] / losses[0]:.0%} in {repeats} steps, and both networks learn."

    return judged("train_step", judge)


def pipeline(dataset: Any, images: np.ndarray, batch_size: int) -> Verdict:
    """Check a ``tf.data`` pipeline: thresholded ``images`` (N, H, W, C) uint8 in batches, shuffled anew each epoch.

    Every image comes once an epoch, as floats 0.0 or 1.0, without labels. Returns a `Verdict`.
    """

    images = np.asarray(images)

    def judge() -> str:
        if not isinstance(dataset, tf.data.Dataset):
            raise Off(f"give the tf.data.Dataset itself, not {type(dataset).__name__}.")
        most = -(-len(images) // batch_size)
        epochs: list[list[np.ndarray]] = []
        for _ in range(2):
            batches: list[np.ndarray] = []
            for batch in dataset.take(most + 1):
                batches.append(_batch(batch))
            epochs.append(batches)
        _check_batches(epochs[0], images, batch_size)
        first, second = (np.concatenate(batches).reshape(len(images), -1) for batches in epochs)
        wanted = (images >= 128).astype(np.float64).reshape(len(images), -1)
        if not np.array_equal(_sorted(first), _sorted(wanted)):
            if np.array_equal(_sorted(first), _sorted((images > 0).astype(np.float64).reshape(len(images), -1))):
                raise Off("every pixel that is not black became 1: threshold at 128.")
            raise Off("these are not the images, each once, thresholded at 128.")
        if np.array_equal(first, wanted):
            raise Off("the images come in the order of the data: shuffle them.")
        if np.array_equal(first, second):
            raise Off("the second epoch has the order of the first: shuffle after cache, and anew each epoch.")
        places = {row.tobytes(): i for i, row in enumerate(second)}  # whatever the order on disk is
        moved = np.mean([abs(places[row.tobytes()] - i) for i, row in enumerate(first)])
        kept = {b.tobytes() for b in epochs[0]} == {b.tobytes() for b in epochs[1]}
        if moved < len(images) / 8 and not kept:  # a third where all orders are as likely
            raise Off("the images hardly move from their places: give shuffle a buffer as large as the data.")
        if 1 < len(epochs[0]) < len(images) and {_key(b) for b in epochs[0]} == {_key(b) for b in epochs[1]}:
            raise Off("the batches are always made of the same images: shuffle before batch.")
        return "Every image comes once an epoch, in an order that is new each time."

    return judged("pipeline", judge)


def _batch(batch: Any) -> np.ndarray:
    if isinstance(batch, tuple | list):
        raise Off("labels came along: a VAE learns from images alone; map them away.")
    if isinstance(batch, dict):
        raise Off("these are dictionaries of features: take the image out of each.")
    if not batch.dtype.is_floating:
        raise Off(f"these are {batch.dtype.name}: cast to float32.")
    return as_array(batch)


def _check_batches(batches: Sequence[np.ndarray], images: np.ndarray, batch_size: int) -> None:
    shape = images.shape[1:]
    sizes = [len(batch) for batch in batches]
    if batches and batches[0].shape == shape:
        raise Off("these are single images: batch them.")
    if batches and batches[0].shape[1:] != shape:
        raise Off(f"a batch has the shape {batches[0].shape} where (B, {', '.join(map(str, shape))}) is wanted.")
    if sum(sizes) > len(images):
        raise Off("it does not end: no repeat, an epoch is one pass.")
    batch_size = min(batch_size, len(images))
    if sizes and sizes[0] < max(sizes) == batch_size:
        raise Off("the smaller batch, which is the last, came first: shuffle before batch.")
    if sizes and sizes[0] != batch_size:
        raise Off(f"the batches have {sizes[0]} images where {batch_size} are wanted.")
    if sum(sizes) < len(images):
        raise Off(f"{len(images) - sum(sizes)} images are lost: keep the last batch, though it is smaller.")
    values = np.unique(np.concatenate([batch.ravel() for batch in batches]))
    if values.max() > 1:
        raise Off("the pixels go up to 255: scale or threshold them.")
    if not set(values) <= {0.0, 1.0}:
        raise Off("the pixels are still grey: threshold them at 128.")


def _sorted(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T[::-1])]


def _key(batch: np.ndarray) -> bytes:
    return _sorted(batch.reshape(len(batch), -1)).tobytes()
