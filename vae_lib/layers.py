"""Layers that give the numbers of Keras' own and train faster on a processor; benchmarks/TRIED.md has the times.

`vae_lib.exporting.plain` turns a network of them into one of Keras' layers alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from vae_lib.backend import keras, tf


@keras.saving.register_keras_serializable("vae_lib")
def gelu(x: tf.Tensor) -> tf.Tensor:
    """x times the normal distribution function of x, elementwise (Hendrycks and Gimpel 2016).

    TensorFlow's own takes erfc where erf is three times as fast, keeps what the gradient has no use for, and works in
    bfloat16, which has no instructions for it, where the layer does.

    >>> from vae_lib.layers import gelu
    >>> gelu(1.0).numpy().round(4)
    np.float32(0.8413)
    """
    return _gelu(x)


@tf.custom_gradient
def _gelu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    x = tf.convert_to_tensor(x)
    wide = tf.cast(x, tf.float32)
    share = 0.5 + 0.5 * tf.math.erf(math.sqrt(0.5) * wide)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        density = tf.exp(-tf.square(math.sqrt(0.5) * wide)) * (wide * (1.0 / math.sqrt(2.0 * math.pi)))
        return upstream * tf.cast(share + density, x.dtype)

    return tf.cast(wide * share, x.dtype), gradient


@keras.saving.register_keras_serializable("vae_lib")
class Conv2D(keras.layers.Conv2D):
    """A convolution, (B, H, W, C) -> (B, H', W', filters), which is one product of matrices where no patches overlap.

    That is where it moves by as much as it reads, and nothing is left over at the borders.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        _, height, width, channels = inputs.shape
        size, _ = self.kernel_size
        if self.strides != (size, size) or height % size or width % size:
            return super().call(inputs)
        if size > 1:  # the patches' first rows of pixels, their second ... -> one patch after the other
            rows = tf.reshape(inputs, [-1, size, width // size, size * channels])
            inputs = tf.transpose(rows, [0, 2, 1, 3])
        kernel = tf.reshape(self.kernel, [size * size * channels, self.filters])
        product = tf.nn.bias_add(tf.matmul(tf.reshape(inputs, [-1, kernel.shape[0]]), kernel), self.bias)
        return self.activation(tf.reshape(product, [-1, height // size, width // size, self.filters]))


@keras.saving.register_keras_serializable("vae_lib")
class DepthToSpace(keras.layers.Layer):
    """Channels to pixels, (B, H, W, C * block^2) -> (B, H * block, W * block, C).

    As ``tf.nn.depth_to_space``, whose gradient takes 17 times as long as this transposition.
    """

    def __init__(self, block: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block = block

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"block": self.block}

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        _, height, width, depth = inputs.shape
        channels = depth // self.block**2
        rows = tf.reshape(inputs, [-1, width, self.block, self.block * channels])
        return tf.reshape(tf.transpose(rows, [0, 2, 1, 3]), [-1, height * self.block, width * self.block, channels])
