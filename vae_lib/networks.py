"""The two networks: a convolutional encoder and decoder whose depth follows the image size."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from vae_lib.backend import keras, tf
from vae_lib.config import ModelConfig
from vae_lib.layers import Conv2D, DepthToSpace, gelu

LAST = "channels_last"  # whatever ~/.keras/keras.json says
PATCH = 4  # the first convolution reads, and the last one writes, patches of 4 x 4 pixels


class _Layers:
    """Keras layers of one network, each with its own seed, so that weights follow from ``config.seed``."""

    def __init__(self, seed: int, precision: str) -> None:
        self.dtype = "mixed_bfloat16" if precision == "bfloat16" else "float32"  # weights stay float32
        self._seeds = iter(np.random.SeedSequence(seed).generate_state(64))

    def _initializer(self) -> keras.Initializer:
        return keras.initializers.GlorotUniform(seed=int(next(self._seeds) % 2**31))

    def conv(
        self, filters: int, size: int, *, stride: int = 1, activation: Callable[..., tf.Tensor] | None = gelu
    ) -> keras.Layer:
        return Conv2D(
            filters,
            size,
            stride,
            "same",
            activation=activation,
            kernel_initializer=self._initializer(),
            dtype=self.dtype,
            data_format=LAST,
        )

    def dense(self, units: int, *, activation: Callable[..., tf.Tensor] | None = gelu) -> keras.Layer:
        return keras.layers.Dense(
            units, activation=activation, kernel_initializer=self._initializer(), dtype=self.dtype
        )


def feature_size(im_dim: int) -> tuple[int, int]:
    """The side of the smallest feature map (at most 8) and how often it is halved after the patches."""
    side, halvings = math.ceil(im_dim / PATCH), 0
    while side > 8:
        side, halvings = math.ceil(side / 2), halvings + 1
    return side, halvings


def _margins(im_dim: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels to pad (and crop again) so that the side is a multiple of what the strides divide by."""
    side, halvings = feature_size(im_dim)
    extra = side * PATCH * 2**halvings - im_dim
    return ((extra // 2, extra - extra // 2),) * 2


def build_encoder(config: ModelConfig) -> keras.Sequential:
    """Images (B, H, W, C) in [0, 1] -> (B, 2 D), the means and the raw log-variances side by side.

    One head for both: weight files are keyed by order, and two equal heads could be swapped unseen.
    """
    layers = _Layers(2 * config.seed, config.precision)
    filters = config.num_filters
    _, halvings = feature_size(config.im_dim)
    return keras.Sequential(
        [
            keras.Input(config.image_shape),
            keras.layers.ZeroPadding2D(_margins(config.im_dim), LAST, dtype=layers.dtype),
            layers.conv(filters, PATCH, stride=PATCH),
            *(layers.conv(2 * filters, 3, stride=2) for _ in range(halvings)),
            layers.conv(2 * filters, 3),
            layers.conv(filters, 1),  # half the channels: the dense layer after it holds most of the weights
            keras.layers.Flatten(LAST, dtype=layers.dtype),
            *(layers.dense(config.hidden_units) for _ in range(config.encoder_layers)),
            layers.dense(2 * config.latent_dim, activation=None),
        ],
        name="encoder",
    )


def build_decoder(config: ModelConfig) -> keras.Sequential:
    """Codes (B, D) -> logits (B, H, W, C), or (B, H, W, 2 C) for a likelihood with a scale for each pixel.

    The last convolution works on the coarse map and writes all pixels of a patch as channels: a
    single-channel convolution at full resolution costs several times as much on a CPU.
    """
    layers = _Layers(2 * config.seed + 1, config.precision)
    filters = config.num_filters
    side, halvings = feature_size(config.im_dim)
    upsample = [
        layer
        for _ in range(halvings)
        for layer in (layers.conv(8 * filters, 3), DepthToSpace(2, dtype=layers.dtype), layers.conv(2 * filters, 3))
    ]
    return keras.Sequential(
        [
            keras.Input((config.latent_dim,)),
            layers.dense(config.hidden_units),
            layers.dense(config.hidden_units),
            layers.dense(side * side * filters),
            keras.layers.Reshape((side, side, filters), dtype=layers.dtype),
            layers.conv(2 * filters, 3),
            *upsample,
            layers.conv(PATCH * PATCH * config.logits_shape[-1], 3, activation=None),
            DepthToSpace(PATCH, dtype=layers.dtype),
            keras.layers.Cropping2D(_margins(config.im_dim), LAST, dtype=layers.dtype),
        ],
        name="decoder",
    )
