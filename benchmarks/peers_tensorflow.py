"""The same VAE trained in the usual TensorFlow ways, from Keras layers with Keras' Adam.

``make_fit`` is the exception: it trains this project's `VAE` in Keras' own loop.

Each ``make_*`` takes thresholded images (N, 28, 28, 1) float32 and a batch size, and returns a function that trains
for a number of steps and returns the last loss.
"""

from __future__ import annotations

import itertools

import numpy as np

from vae_lib.backend import keras, tf
from vae_lib.config import ModelConfig
from vae_lib.exporting import plain
from vae_lib.model import VAE
from vae_lib.networks import build_decoder, build_encoder


class Step:
    """A training step as a tutorial writes it."""

    def __init__(self, textbook: bool, rate: float = 1e-3) -> None:
        config = ModelConfig(2)
        self.encoder, self.decoder = textbook_networks() if textbook else keras_networks(config)
        self.variables = self.encoder.trainable_variables + self.decoder.trainable_variables
        self.optimizer = keras.optimizers.Adam(rate)

    def loss(self, x):
        z_mean, z_log_var = tf.split(self.encoder(x, training=True), 2, axis=1)
        z = z_mean + tf.exp(0.5 * z_log_var) * tf.random.normal(tf.shape(z_mean))
        logits = self.decoder(z, training=True)
        nll = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=logits)
        kl = -0.5 * tf.reduce_sum(1 + z_log_var - tf.square(z_mean) - tf.exp(z_log_var), axis=1)
        return tf.reduce_mean(tf.reduce_sum(nll, axis=[1, 2, 3]) + kl)

    def __call__(self, x):
        with tf.GradientTape() as tape:
            loss = self.loss(x)
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.variables), self.variables, strict=True))
        return loss


def keras_networks(config: ModelConfig):
    """This project's encoder and decoder from Keras' own layers, as one would write them."""
    return plain(build_encoder(config)), plain(build_decoder(config))


def batches(images: np.ndarray, batch: int):
    dataset = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images)).batch(batch, drop_remainder=True)
    return iter(dataset.repeat().prefetch(tf.data.AUTOTUNE))


def _loop(step, source):
    def run(steps: int) -> float:
        for x in itertools.islice(source, steps):
            loss = step(x)
        return float(loss)

    return run


def make_eager(images: np.ndarray, batch: int, textbook: bool):
    return _loop(Step(textbook), batches(images, batch))


def make_function(images: np.ndarray, batch: int, textbook: bool):
    return _loop(tf.function(Step(textbook)), batches(images, batch))


def make_in_memory(images: np.ndarray, batch: int, textbook: bool):
    """A step in a graph that takes its images from a tensor by their numbers, without ``tf.data``."""
    data, step = tf.constant(images), Step(textbook)
    graph = tf.function(lambda rows: step(tf.gather(data, rows)))

    def run(steps: int) -> float:
        order = tf.constant(np.random.default_rng().permutation(len(images))[: steps * batch].reshape(steps, batch))
        for i in range(steps):
            loss = graph(order[i])
        return float(loss)

    return run


def make_fit(images: np.ndarray, batch: int, textbook: bool, *, steps_per_execution: int = 1):
    """``compile`` and ``fit`` on an array, as Keras' own examples do."""
    model = make_vae(textbook)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), steps_per_execution=steps_per_execution)

    def run(steps: int) -> float:
        chosen = images[np.random.default_rng().permutation(len(images))[: steps * batch]]
        return model.fit(chosen, batch_size=batch, verbose=0).history["loss"][-1]

    return run


def make_vae(textbook: bool, latent_dim: int = 2, side: int = 28, **settings) -> VAE:
    """This project's model, with the textbook's networks in place of its own if asked for."""
    if textbook:
        numbers = 2 if settings.get("likelihood") == "discretized_logistic" else 1  # that describe a pixel
        settings["encoder"], settings["decoder"] = textbook_networks(latent_dim, side, numbers)
    return VAE(latent_dim, image_shape=(side, side, 1), **settings)


def textbook_networks(latent_dim: int = 2, side: int = 28, numbers: int = 1):
    """The encoder and decoder of the TensorFlow CVAE tutorial's recipe: two strided convolutions each way."""
    layers = keras.layers
    encoder = keras.Sequential([
        keras.Input((side, side, 1)),
        layers.Conv2D(32, 3, 2, activation="relu"),
        layers.Conv2D(64, 3, 2, activation="relu"),
        layers.Flatten(),
        layers.Dense(2 * latent_dim),
    ])  # fmt: skip
    decoder = keras.Sequential([
        keras.Input((latent_dim,)),
        layers.Dense((side // 4) ** 2 * 32, activation="relu"),
        layers.Reshape((side // 4, side // 4, 32)),
        layers.Conv2DTranspose(64, 3, 2, "same", activation="relu"),
        layers.Conv2DTranspose(32, 3, 2, "same", activation="relu"),
        layers.Conv2DTranspose(numbers, 3, 1, "same"),
    ])  # fmt: skip
    return encoder, decoder
