"""What a step of training ascends, and its gradients: the ELBO, the bound of many samples, or log p(x) itself.

Each function takes a `Batch` and gives the gradient of the loss for every trainable variable of the model, in their
order, and two numbers in nats, (2,): nll and kl, whose sum is what is minimized but for ``beta``. Sums of gradients
have two terms each and a fixed order: TensorFlow adds three or more in an order that changes from run to run.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from vae_lib.backend import tf
from vae_lib.losses import gaussian_kl
from vae_lib.model import VAE


class Batch(NamedTuple):
    """What one step learns from.

    (B, H, W, C) uint8 images; the share (B,) of each in the loss, 1 in all; the noise that `VAE.noise` draws, (B, D)
    and (B, H, W, C) or None; altered copies of the images, (B, H, W, C) float32, or None; and, for the objectives that
    need it, further standard normal noise (B, K, D) or the shift (2,) of the grid.
    """

    images: tf.Tensor
    share: tf.Tensor
    epsilon: tf.Tensor
    uniform: tf.Tensor | None = None
    copies: tf.Tensor | None = None
    samples: tf.Tensor | None = None
    shift: tf.Tensor | None = None


Gradients = list[tf.Tensor]


def elbo_gradients(model: VAE, batch: Batch, beta: tf.Tensor) -> tuple[Gradients, tf.Tensor]:
    """Of nll + beta kl with one sample an image (Kingma and Welling 2014)."""

    def descend(images: tf.Tensor, variables: Sequence[Any]) -> tuple[Gradients, tf.Tensor]:
        x, values = model.prepare(images, batch.uniform), _values(variables)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            terms = model.elbo(x, batch.epsilon, training=True)
            loss = tf.reduce_sum(batch.share * (terms.nll + beta * terms.kl))
            if model.losses:  # regularizers of networks of one's own
                loss += tf.reduce_sum(batch.share) * tf.add_n(model.losses)
        nll, kl = (tf.reduce_sum(batch.share * term) for term in (terms.nll, terms.kl))
        return tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO), tf.stack([nll, kl])

    return _with_copies(model, batch, descend)


def importance_gradients(model: VAE, batch: Batch) -> tuple[Gradients, tf.Tensor]:
    """Of the importance-weighted bound (Burda et al. 2016), doubly reparameterized (Tucker et al. 2019).

    The plain gradient of the encoder drowns in noise as samples get more (Rainforth et al. 2018). Without its score
    term each sample's path to the encoder counts by its squared share of the weights, and the decoder's by the share.
    The numbers are the nll and the kl of an average sample, so that they can be compared with those of the ELBO.
    """

    def descend(images: tf.Tensor, variables: Sequence[Any]) -> tuple[Gradients, tf.Tensor]:
        x = model.prepare(images, batch.uniform)
        wanted = {id(variable) for variable in variables}
        encoder = [variable for variable in model.encoder.trainable_variables if id(variable) in wanted]
        others = [v for v in variables if id(v) not in {id(variable) for variable in encoder}]
        assert batch.samples is not None
        k, dim = batch.samples.shape[1:]
        with tf.GradientTape(watch_accessed_variables=False) as to_encoder:
            to_encoder.watch(_values(encoder))
            z_mean, z_log_var = model.encode(x, training=True)
            z_sigma = tf.exp(0.5 * z_log_var)
            z = z_mean[:, None] + z_sigma[:, None] * batch.samples  # (B, K, D)
        with tf.GradientTape(watch_accessed_variables=False) as to_decoder:
            to_decoder.watch([z, *_values(others)])
            logits = model.decode_logits(tf.reshape(z, [-1, dim]), training=True)
            nll = tf.reshape(model.nll(tf.repeat(x, k, axis=0), logits), [-1, k])
            # log p(z) - log q(z | x): the constants cancel
            log_ratio = 0.5 * tf.reduce_sum(
                tf.square(batch.samples) + z_log_var[:, None] - tf.square(tf.stop_gradient(z)), axis=-1
            )
            weight = tf.stop_gradient(tf.nn.softmax(log_ratio - nll))  # (B, K)
            loss = tf.reduce_sum(batch.share[:, None] * weight * nll)
        by_z, *by_others = to_decoder.gradient(
            loss, [z, *_values(others)], unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        by_ratio = z - batch.samples / z_sigma[:, None]  # of log q(z | x) - log p(z), with q held still
        by_z = weight[..., None] * (by_z + (batch.share[:, None] * weight)[..., None] * by_ratio)
        by_encoder = to_encoder.gradient(
            z, _values(encoder), output_gradients=by_z, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        found = {id(v): g for v, g in zip([*encoder, *others], [*by_encoder, *by_others], strict=True)}
        numbers = [tf.reduce_mean(nll, axis=1), gaussian_kl(z_mean, z_log_var)]
        losses = tf.stack([tf.reduce_sum(batch.share * number) for number in numbers])
        return [found[id(variable)] for variable in variables], losses

    return _with_copies(model, batch, descend)


def _with_copies(model: VAE, batch: Batch, descend: Any) -> tuple[Gradients, tf.Tensor]:
    """The gradients on the images, and for the encoder those on the altered copies too."""
    gradients, losses = descend(batch.images, model.trainable_variables)
    if batch.copies is not None:
        encoder = model.encoder.trainable_variables
        more, _ = descend(batch.copies, encoder)
        places = {id(variable): i for i, variable in enumerate(model.trainable_variables)}
        for variable, gradient in zip(encoder, more, strict=True):
            gradients[places[id(variable)]] += gradient
    return gradients, losses


def shifted_grid(shift: tf.Tensor, side: int) -> tf.Tensor:
    """Codes (side^2, 2) at equal steps of the prior's probability, moved by ``shift`` (2,) in [0, 1) of a step.

    Each code stands for the same share of the prior, whatever the shift, and over all shifts every code of the plane
    comes up as often as under the prior.
    """
    shares = (tf.range(side, dtype=tf.float32)[:, None] + shift) / side  # (side, 2)
    axes = tf.math.ndtri(tf.clip_by_value(shares, 1e-6, 1.0 - 1e-6))
    x, y = tf.meshgrid(axes[:, 0], axes[:, 1])
    return tf.stack([tf.reshape(x, [-1]), tf.reshape(y, [-1])], axis=-1)


def marginal_gradients(model: VAE, batch: Batch, side: int, shards: int) -> tuple[Gradients, tf.Tensor]:
    """Of -log p(x), the sum of p(x | z) over a shifted grid of codes z that all weigh the same; of the decoder only.

    The generative topographic mapping (Bishop, Svensen and Williams 1998) with a deeper decoder. The grid is cut into
    ``shards`` that the cores work on side by side; they meet where Bayes' rule needs the whole grid. The kl is 0.
    """
    x = model.prepare(batch.images, batch.uniform)
    flat = tf.reshape(x, [x.shape[0], -1])
    codes = tf.split(shifted_grid(batch.shift, side), even_sizes(side * side, shards))
    variables = model.trainable_variables
    encoder = {id(variable) for variable in model.encoder.trainable_variables}
    decoder = [variable for variable in variables if id(variable) not in encoder]
    tapes, parts = [], []
    for part in codes:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(_values(decoder))
            slope, offset = model.log_likelihood_terms(model.decode_logits(part, training=True))
            fit = tf.matmul(flat, slope, transpose_b=True) - offset  # (B, G / shards)
            parts.append(fit - model.log_likelihood_base(flat)[:, None])
        tapes.append(tape)
    joint = tf.concat(parts, axis=1)
    log_px = tf.reduce_logsumexp(joint, axis=1) - math.log(side * side)
    posterior = batch.share[:, None] * tf.nn.softmax(joint)
    shares = tf.split(-posterior, [part.shape[0] for part in codes], axis=1)
    zero = tf.UnconnectedGradients.ZERO
    by_part = [
        tape.gradient(part, _values(decoder), output_gradients=share, unconnected_gradients=zero)
        for tape, part, share in zip(tapes, parts, shares, strict=True)
    ]
    found = {id(v): sum_in_order(g) for v, g in zip(decoder, zip(*by_part, strict=True), strict=True)}
    gradients = [found.get(id(variable), tf.zeros_like(variable.value)) for variable in variables]
    return gradients, tf.stack([-tf.reduce_sum(batch.share * log_px), 0.0])


def _values(variables: Sequence[Any]) -> list[tf.Variable]:
    """TensorFlow's variables behind those of Keras."""
    return [variable.value for variable in variables]


def even_sizes(n: int, parts: int) -> list[int]:
    """``n`` rows shared as evenly as possible by at most ``parts``: 50 by 4 is 13, 13, 12, 12."""
    parts = min(n, parts)
    return [n // parts + (i < n % parts) for i in range(parts)]


def sum_in_order(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum from left to right: an n-ary sum would add in an order that changes from run to run.

    Products of matrices that are larger than their factors, as the shards' gradients of a dense layer's weights are,
    become one product of the joined factors in a graph: it writes the large result once.
    """
    factors = [_as_product(tensor) for tensor in tensors]
    if len(tensors) > 1 and None not in factors:
        left, right = zip(*factors, strict=True)
        rows, (i, o) = sum(a.shape[0] or math.inf for a in left), tensors[0].shape
        if rows * (i + o) < i * o:
            product = tf.matmul(tf.concat(left, axis=0), tf.concat(right, axis=0), transpose_a=True)
            return tf.cast(product, tensors[0].dtype)
    return functools.reduce(tf.add, tensors)


def _as_product(tensor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor] | None:
    """The factors a (N, I) and b (N, O) of a tensor that a graph computes as a^T b, cast or not; otherwise None."""
    if not isinstance(tensor, tf.Tensor) or not hasattr(tensor, "graph"):
        return None
    operation = tensor.op.inputs[0].op if tensor.op.type == "Cast" else tensor.op
    if operation.type != "MatMul" or not operation.get_attr("transpose_a") or operation.get_attr("transpose_b"):
        return None
    return tuple(operation.inputs)
