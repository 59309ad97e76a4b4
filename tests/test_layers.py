"""Layers that are faster than Keras' own give its numbers and its gradients."""

import numpy as np
import pytest

from vae_lib.backend import keras, tf
from vae_lib.layers import Conv2D, DepthToSpace, gelu
from vae_lib.objectives import sum_in_order


def values_and_gradients(function, x, *variables):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
        loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))  # another slope for each element
    return [y, *tape.gradient(loss, [x, *variables])]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("bfloat16", 2e-2)])
def test_gelu_is_the_exact_one(dtype, tolerance):
    x = tf.constant(np.linspace(-9, 9, 1801), tf.float32)
    right = values_and_gradients(lambda x: tf.nn.gelu(x, approximate=False), x)
    found = values_and_gradients(gelu, tf.cast(x, dtype))
    for a, b in zip(found, right, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(tf.cast(a, tf.float32), b, atol=9 * tolerance)


@pytest.mark.parametrize(
    ("size", "stride", "side", "channels"), [(4, 4, 28, 1), (4, 4, 32, 3), (1, 1, 7, 5), (4, 4, 30, 1), (3, 2, 9, 2)]
)
def test_a_convolution_is_that_of_keras(size, stride, side, channels):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=[3, side, side, channels]), tf.float32)
    ours, other = (
        kind(6, size, stride, "same", activation="tanh", bias_initializer="random_normal")
        for kind in (Conv2D, keras.layers.Conv2D)
    )
    for layer in (ours, other):
        layer.build(x.shape)
    other.set_weights(ours.get_weights())
    found, right = (values_and_gradients(c, x, c.kernel.value, c.bias.value) for c in (ours, other))
    for a, b in zip(found, right, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "block"), [((2, 7, 7, 16), 4), ((1, 3, 5, 12), 2), ((2, 4, 4, 96), 4)])
def test_depth_to_space_is_that_of_tensorflow(shape, block):
    x = tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)
    found = values_and_gradients(DepthToSpace(block), x)
    right = values_and_gradients(lambda x: tf.nn.depth_to_space(x, block), x)
    for a, b in zip(found, right, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("rows", "joined"), [(3, True), (500, False)])
def test_large_products_of_few_rows_are_joined_before_they_are_summed(rows, joined, dtype):
    rng = np.random.default_rng(0)
    kernel = tf.Variable(tf.zeros([40, 30]))
    shards = [tf.constant(rng.normal(size=[rows, 40]), dtype) for _ in range(2)]

    @tf.function
    def gradient():
        def of(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.sin(tf.matmul(x, tf.cast(kernel, dtype)) + 1))
            return tape.gradient(loss, kernel)

        return sum_in_order([of(shard) for shard in shards])

    wide = [tf.cast(shard, tf.float32) for shard in shards]
    right = sum(tf.matmul(x, tf.fill([rows, 30], np.cos(1).astype(np.float32)), transpose_a=True) for x in wide)
    np.testing.assert_allclose(gradient(), right, rtol=0.02, atol=0.02 * rows)
    operations = {operation.type for operation in gradient.get_concrete_function().graph.get_operations()}
    assert ("ConcatV2" in operations) == joined
