"""What changes from step to step: the learning rate, the weight of the KL term, and Adam's update."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vae_lib.backend import tf
from vae_lib.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: tf.Tensor, total_steps: int) -> tf.Tensor:
    """The learning rate at ``step``: constant, or half a cosine from ``config.learning_rate`` to 0."""
    if config.schedule == "constant" or not total_steps:
        return tf.constant(config.learning_rate)
    share = tf.minimum(tf.cast(step, tf.float32) / total_steps, 1.0)
    return 0.5 * config.learning_rate * (1.0 + tf.cos(math.pi * share))


def kl_weight(config: TrainingConfig, likelihood: str, step: tf.Tensor, total_steps: int) -> tf.Tensor:
    """The weight of the KL term at ``step``, from its first value to ``config.beta`` over half of training.

    It moves by equal factors, or by equal steps where one of the two is 0.
    """
    first = config.first_beta(likelihood)
    if not total_steps:
        return tf.constant(config.beta)
    left = tf.maximum(1.0 - 2.0 * tf.cast(step, tf.float32) / total_steps, 0.0)
    if not config.beta or not first:
        return config.beta + (first - config.beta) * left
    return config.beta * (first / config.beta) ** left


class Adam:
    """Adam (Kingma and Ba 2015) as one fused TensorFlow operation a variable.

    Keras' optimizer does the same in about ten operations, each of which walks through all weights:
    benchmarks/TRIED.md has the measurement. The moments are its only state; the step is an argument. Weights,
    but not biases, first shrink by ``weight_decay`` times the learning rate (Loshchilov and Hutter 2019).
    """

    BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7

    def __init__(self, variables: Sequence[tf.Variable], weight_decay: float = 0.0) -> None:
        self._weight_decay = weight_decay
        self._weights = list(variables)
        self.variables = [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False) for v in self._weights * 2]

    def apply(self, gradients: Sequence[tf.Tensor], rate: tf.Tensor, step: tf.Tensor) -> None:
        """Update every weight in place; ``step`` counts from 0."""
        count = tf.cast(step, tf.float32) + 1.0
        n = len(self._weights)
        moments = zip(self.variables[:n], self.variables[n:], strict=True)
        for weight, (first, second), gradient in zip(self._weights, moments, gradients, strict=True):
            if self._weight_decay and len(weight.shape) > 1:
                weight.assign_sub(self._weight_decay * rate * weight)
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=self.BETA_1**count,
                beta2_power=self.BETA_2**count,
                lr=rate,
                beta1=self.BETA_1,
                beta2=self.BETA_2,
                epsilon=self.EPSILON,
                grad=gradient,
            )
