"""The variational auto-encoder: a convolutional encoder and decoder around a Gaussian latent space."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from typing import Any, NamedTuple

import numpy as np

from vae_lib import losses
from vae_lib.arrays import as_codes, as_images, as_labels, check_count, check_seed
from vae_lib.backend import keras, parallel_map, tf
from vae_lib.config import EVALUATION_SEED, ModelConfig
from vae_lib.errors import UserError
from vae_lib.latent import prior_cells
from vae_lib.networks import build_decoder, build_encoder

LOG_VAR_BOUND = 20.0  # |z_log_var| stays below it, so exp() of it never overflows
MIN_LOG_SIGMA = math.log(1 / 256)  # one grey level
LOG_SCALE = (-3.0, 5.0)  # of the discretized logistic: what a new decoder starts near, and how far it may go from there
GRID_SIDE = 96  # cells along a side of the grid on which a posterior is found without an encoder
WINDOWS = (0.15, 0.5, math.inf)  # standard deviations of what a Gaussian sees around the highest peak of a posterior
SMALLEST_VARIANCE = 1e-6  # of a posterior on the grid: single precision has no smaller differences of squares


class Elbo(NamedTuple):
    """The evidence lower bound and its terms in nats, each (B,): elbo = -(nll + kl)."""

    elbo: Any
    nll: Any
    kl: Any


class Posterior(NamedTuple):
    """The encoder's Gaussian q(z | x): means and log-variances, each (B, D)."""

    z_mean: Any
    z_log_var: Any


class Encodings(NamedTuple):
    """The encoded test set: z_mean and z_log_var (N, D) float32, labels (N,) int64."""

    z_mean: np.ndarray
    z_log_var: np.ndarray
    labels: np.ndarray


@keras.saving.register_keras_serializable("vae_lib")
class VAE(keras.Model):
    """A variational auto-encoder (Kingma and Welling 2014) for square images.

    ``image_shape`` is (H, W, C), and the other settings are those of `ModelConfig`. ``encoder`` and ``decoder`` are
    networks of your own: Keras models from (B, H, W, C) to (B, 2 D), the means and the raw log-variances side by side,
    and from (B, D) to logits (B, H, W, C), or (B, H, W, 2 C), means and scales side by side, for the discretized
    logistic. Raises `UserError` for settings that make no sense and for networks of other shapes.

        >>> vae = VAE(latent_dim=2, num_filters=8)
        >>> vae.decode(np.zeros([3, 2], np.float32)).shape
        TensorShape([3, 28, 28, 1])

    Images are floats in [0, 1] of shape (B, H, W, C); codes z are (B, D); every loss is in nats per image.
    Random numbers are arguments (``epsilon``) or follow from a ``seed``: nothing draws from global state.
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        image_shape: tuple[int, int, int] = (28, 28, 1),
        likelihood: str = "bernoulli",
        binarize: str | None = None,
        num_filters: int = 32,
        hidden_units: int = 256,
        precision: str = "float32",
        seed: int = 0,
        encoder_layers: int = 1,
        inference: str = "encoder",
        encoder: keras.Model | None = None,
        decoder: keras.Model | None = None,
        name: str = "vae",
    ) -> None:
        config = ModelConfig(
            latent_dim, image_shape, likelihood, binarize, num_filters, hidden_units, precision, seed, encoder_layers,
            inference,
        )  # fmt: skip
        super().__init__(name=name)
        self.config = config
        self.own_networks = encoder is not None or decoder is not None
        self.encoder = build_encoder(config) if encoder is None else encoder
        self.decoder = build_decoder(config) if decoder is None else decoder
        if self.own_networks:
            _check_networks(config, self.encoder, self.decoder)
        if config.likelihood == "gaussian":
            start = keras.initializers.Constant(-2.0)
            self.raw_log_sigma = self.add_weight(shape=(), initializer=start, dtype="float32", name="log_sigma")
        self.optimizer: Any = None  # Keras callbacks look for it, and only compile() sets it
        self.epochs_trained = self.steps_trained = 0  # where the next training goes on with its noise
        self.recording: Any = None  # the `Recording` of the last training, where it was wanted
        self.training_record: Any = None  # the `TrainingConfig` and the history of the last training
        self._graphs: dict[str, Any] = {}
        self.built = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("encoder", "decoder") and "_graphs" in self.__dict__:  # another network than the first one
            networks = {"encoder": self.encoder, "decoder": self.decoder} | {name: value}
            _check_networks(self.config, **networks)
            self._tracker.untrack(getattr(self, name))
            self._graphs.clear()
            self.own_networks = True
        super().__setattr__(name, value)

    @classmethod
    def from_model_config(cls, config: ModelConfig) -> VAE:
        """A new model with these settings."""
        return cls(**dataclasses.asdict(config))

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, so that ``vae.save("mine.keras")`` can be loaded again."""
        networks = {}
        if self.own_networks:
            saved = keras.saving.serialize_keras_object
            networks = {"encoder": saved(self.encoder), "decoder": saved(self.decoder)}
        return dataclasses.asdict(self.config) | networks | {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> VAE:
        """A model from what `get_config` gave."""
        for name in ("encoder", "decoder"):
            if name in config:
                network = keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
                config = config | {name: network}
        return cls(**config)

    def set_inference(self, inference: str) -> None:
        """Take posteriors from the 'encoder' or from the decoder on a 'grid'; raises `UserError`."""
        if inference != self.config.inference:
            self.config = dataclasses.replace(self.config, inference=inference)
            self._graphs.clear()

    # ---- the model, in tensors -------------------------------------------------------------------------

    def encode(self, x: tf.Tensor, *, training: bool = False) -> Posterior:
        """The posterior q(z | x) of prepared images, (B, H, W, C) -> two tensors (B, D).

        ``training`` is for networks of your own that behave differently then, by dropout or batch normalization.
        Raises `UserError`.
        """
        x = tf.convert_to_tensor(x)
        if not x.dtype.is_floating or not x.shape.is_compatible_with([None, *self.config.image_shape]):
            wanted = f"floats (B, {', '.join(map(str, self.config.image_shape))})"
            raise UserError(f"encode takes prepared images, {wanted}; encode_arrays takes bytes.")
        if self.config.inference == "grid":
            return self.posterior_on_grid(x, *self.grid_terms())
        z_mean, raw = tf.split(tf.cast(self.encoder(x, training=training), tf.float32), 2, axis=-1)
        return Posterior(z_mean, LOG_VAR_BOUND * tf.tanh(raw / LOG_VAR_BOUND))

    def grid_terms(self) -> tuple[tf.Tensor, ...]:
        """What `posterior_on_grid` needs: codes and squares (G, 2), and `log_likelihood_terms` of what they decode to.

        The plane is cut into cells that hold the same share of the prior, and each has the mean of z and of z^2 in it.
        """
        codes, squares = (
            tf.constant(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), tf.float32)
            for axis in prior_cells(GRID_SIDE)
        )
        return codes, squares, *self.log_likelihood_terms(self.decode_logits(codes))

    def log_likelihood_terms(self, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Slopes (G, P) and offsets (G,) with log p(x | z) = x . slope - offset - `log_likelihood_base`.

        The likelihoods of one number a pixel are exponential families, so that G codes and B images take one matrix
        product, (B, P) times (P, G). ``logits`` are (G, H, W, C).
        """
        offset = self.nll(tf.zeros_like(logits), logits)
        if self.config.likelihood == "gaussian":
            logits = self.mean_of_logits(logits) * tf.exp(-2.0 * self.log_sigma())
        return tf.reshape(logits, [tf.shape(logits)[0], -1]), offset

    def log_likelihood_base(self, flat: tf.Tensor) -> tf.Tensor:
        """The part of -log p(x | z) that depends on x alone, (B, P) -> (B,)."""
        if self.config.likelihood != "gaussian":
            return tf.zeros_like(flat[:, 0])
        return 0.5 * tf.reduce_sum(tf.square(flat), axis=1) * tf.exp(-2.0 * self.log_sigma())

    def posterior_on_grid(
        self, x: tf.Tensor, codes: tf.Tensor, squares: tf.Tensor, slope: tf.Tensor, offset: tf.Tensor
    ) -> Posterior:
        """A Gaussian close to p(z | x), (B, H, W, C) -> two tensors (B, 2).

        Cells of the same prior probability weigh the same, so Bayes' rule is a softmax of log p(x | z) over them. Many
        an image has several peaks, of which a Gaussian can describe one: it takes the moments near the highest, within
        each of `WINDOWS`, and of these Gaussians the one with the smallest KL(q(z) || p(z | x)).
        """
        flat = tf.reshape(x, [tf.shape(x)[0], -1])
        log_p = tf.nn.log_softmax(tf.matmul(flat, slope, transpose_b=True) - offset)  # (B, G)
        peak = tf.gather(codes, tf.argmax(log_p, axis=1))  # (B, 2)
        distance = 0.5 * tf.reduce_sum(tf.square(codes - peak[:, None]), axis=-1)  # (B, G)
        prior = 0.5 * tf.reduce_sum(tf.square(codes), axis=-1)  # a cell's share of q is as its q(z) / p(z)
        found = []
        for width in WINDOWS:
            share = tf.nn.softmax(log_p - distance / width**2)
            z_mean = tf.matmul(share, codes)
            variance = tf.maximum(tf.matmul(share, squares) - tf.square(z_mean), SMALLEST_VARIANCE)
            density = tf.reduce_sum(tf.square(codes - z_mean[:, None]) / variance[:, None], axis=-1)
            log_q = tf.nn.log_softmax(prior - 0.5 * density)
            kl = tf.reduce_sum(tf.exp(log_q) * (log_q - log_p), axis=1)
            found.append((kl, z_mean, tf.math.log(variance)))
        kl, z_mean, z_log_var = (tf.stack(column, axis=1) for column in zip(*found, strict=True))
        best = tf.argmin(kl, axis=1)
        return Posterior(*(tf.gather(column, best, batch_dims=1) for column in (z_mean, z_log_var)))

    def decode_logits(self, z: tf.Tensor, *, training: bool = False) -> tf.Tensor:
        """The decoder's logits, (B, D) -> (B, H, W, C) in float32. Raises `UserError`."""
        z = tf.convert_to_tensor(z)
        if not z.dtype.is_floating or not z.shape.is_compatible_with([None, self.config.latent_dim]):
            raise UserError(f"decode takes codes, floats (B, {self.config.latent_dim}), not {z.dtype.name} {z.shape}.")
        return tf.cast(self.decoder(z, training=training), tf.float32)

    def location_and_log_scale(self, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What the discretized logistic takes from logits, (B, H, W, 2 C) -> two tensors (B, H, W, C)."""
        location, raw = tf.split(logits, 2, axis=-1)
        start, most = LOG_SCALE
        return 0.5 + location, start + most * tf.tanh(raw / most)

    def mean_of_logits(self, logits: tf.Tensor) -> tf.Tensor:
        """E[x | logits] under the model's likelihood, for each pixel, in [0, 1]."""
        if self.config.likelihood == "discretized_logistic":
            return losses.discretized_logistic_mean(*self.location_and_log_scale(logits))
        if self.config.likelihood == "continuous_bernoulli":
            return losses.continuous_bernoulli_mean(logits)
        return tf.sigmoid(logits)

    def mean_and_variance(self, logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The likelihood's mean and variance of each pixel, two tensors (B, H, W, C)."""
        mean = self.mean_of_logits(logits)
        if self.config.likelihood == "discretized_logistic":
            return mean, losses.discretized_logistic_variance(*self.location_and_log_scale(logits))
        if self.config.likelihood == "continuous_bernoulli":
            return mean, losses.continuous_bernoulli_variance(logits)
        if self.config.likelihood == "gaussian":
            return mean, tf.fill(tf.shape(mean), tf.exp(2.0 * self.log_sigma()))
        return mean, mean * (1.0 - mean)

    def decode(self, z: tf.Tensor) -> tf.Tensor:
        """Pixel probabilities (Bernoulli) or grey means (otherwise), (B, D) -> (B, H, W, C) in [0, 1]."""
        return self.mean_of_logits(self.decode_logits(z))

    def reconstruct(self, x: tf.Tensor) -> tf.Tensor:
        """The image decoded from the posterior's mean, (B, H, W, C) -> (B, H, W, C)."""
        return self.decode(self.encode(x).z_mean)

    def sample(self, n: int, seed: int = 0) -> tf.Tensor:
        """``n`` images decoded from the prior N(0, I), (n, H, W, C). Raises `UserError`."""
        n, seed = check_count(n, "the number of images"), check_seed(seed)
        return self.decode(tf.random.stateless_normal([n, self.config.latent_dim], [seed, 0]))

    def log_sigma(self) -> tf.Tensor:
        """The Gaussian likelihood's log standard deviation, a learned scalar, at least one grey level."""
        return _at_least(tf.convert_to_tensor(self.raw_log_sigma), MIN_LOG_SIGMA)

    def nll(self, x: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """-log p(x | logits) in nats, (B, H, W, C) -> (B,)."""
        if self.config.likelihood == "gaussian":
            return losses.gaussian_nll(x, self.mean_of_logits(logits), self.log_sigma())
        if self.config.likelihood == "continuous_bernoulli":
            return losses.continuous_bernoulli_nll(x, logits)
        if self.config.likelihood == "discretized_logistic":
            return losses.discretized_logistic_nll(x, *self.location_and_log_scale(logits))
        return losses.bernoulli_nll(x, logits)

    def elbo(self, x: tf.Tensor, epsilon: tf.Tensor, *, training: bool = False) -> Elbo:
        """The evidence lower bound with one sample per image, (B, H, W, C), (B, D) -> three of (B,).

        ``epsilon`` is standard normal noise: z = z_mean + exp(z_log_var / 2) * epsilon, the
        reparameterization of Kingma and Welling 2014, equation 10. The KL term is exact.
        """
        z_mean, z_log_var = self.encode(x, training=training)
        z_sigma = tf.exp(0.5 * z_log_var)
        z = z_mean + z_sigma * epsilon  # (B, D)
        nll = self.nll(x, self.decode_logits(z, training=training))
        kl = losses.gaussian_kl(z_mean, z_log_var, z_sigma)
        return Elbo(-(nll + kl), nll, kl)

    def prepare(self, images: tf.Tensor, uniform: tf.Tensor | None = None) -> tf.Tensor:
        """Bytes 0..255 to what the likelihood models, (B, H, W, C) uint8 -> float32 in [0, 1].

        Thresholded at 0.5; or (dynamic) 1 where ``uniform`` noise lies below the grey value, which gives each
        pixel the probability that its grey value names; or grey and, for a density, dequantized, (byte + uniform) /
        256. A density without that noise could grow without bound on pixels that are exactly 0 (Theis et al. 2016).
        Without ``uniform`` grey values lie in the middle of their level, as the discretized logistic takes them, and
        for dynamic binarization a `ValueError` is raised.
        """
        grey = tf.cast(images, tf.float32)
        if self.config.binarize == "threshold":
            return tf.cast(grey >= 127.5, tf.float32)
        if self.config.binarize == "dynamic":
            if uniform is None:
                raise ValueError("dynamic binarization needs uniform noise of the images' shape")
            return tf.cast(255.0 * uniform < grey, tf.float32)
        return (grey + (0.5 if uniform is None else uniform)) / 256.0

    def noise(self, batch: int | tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """The noise of one step, a function of ``seed`` (two integers) alone.

        (batch, D) standard normal for the sampling step, and (batch, H, W, C) uniform for `prepare`, or None
        for pixels that need no noise.
        """
        c = self.config
        epsilon = tf.random.stateless_normal([batch, c.latent_dim], seed)
        if not c.needs_pixel_noise:
            return epsilon, None
        other = tf.random.experimental.stateless_fold_in(seed, 1)  # independent of epsilon
        return epsilon, tf.random.stateless_uniform([batch, *c.image_shape], other)

    def image_noise(self, images: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        """`noise` for uint8 images (B, H, W, C), that of each a function of ``seed`` and its own bytes alone.

        So neither its code nor its ELBO depends on which images it is measured with.
        """
        c = self.config
        epsilon = np.empty([len(images), c.latent_dim], np.float32)
        uniform = np.empty(images.shape, np.float32) if c.needs_pixel_noise else None
        for i, image in enumerate(np.ascontiguousarray(images)):
            key = hashlib.blake2b(image.data, digest_size=16, key=seed.to_bytes(8)).digest()
            draws = np.random.Generator(np.random.Philox(key=int.from_bytes(key)))
            draws.standard_normal(dtype=np.float32, out=epsilon[i])
            if uniform is not None:
                draws.random(dtype=np.float32, out=uniform[i])
        return epsilon, uniform

    def elbo_of_bytes(self, images: tf.Tensor, epsilon: tf.Tensor, uniform: tf.Tensor | None = None) -> Elbo:
        """`elbo` of (B, H, W, C) uint8 images, prepared."""
        return self.elbo(self.prepare(images, uniform), epsilon)

    # ---- the same in NumPy arrays, in batches ----------------------------------------------------------
    # Concrete functions, traced on first use: one graph for every batch size.

    def _image_spec(self, dtype: tf.DType) -> tf.TensorSpec:
        c = self.config
        return tf.TensorSpec([None, *c.image_shape], dtype)

    def _graph(self, function: Any, *specs: tf.TensorSpec) -> Any:
        name = function.__name__
        if name not in self._graphs:
            self._graphs[name] = tf.function(function).get_concrete_function(*specs)
        return self._graphs[name]

    def encode_graph(self) -> Any:
        """`encode` as one graph for every number of images."""
        return self._graph(self.encode, self._image_spec(tf.float32))

    def decode_graph(self) -> Any:
        """`decode` as one graph for every number of codes."""
        return self._graph(self.decode, tf.TensorSpec([None, self.config.latent_dim], tf.float32))

    def elbo_graph(self) -> Any:
        """`elbo_of_bytes` as one graph for every number of images."""
        specs = [self._image_spec(tf.uint8), tf.TensorSpec([None, self.config.latent_dim])]
        specs += [self._image_spec(tf.float32)] if self.config.needs_pixel_noise else []
        return self._graph(self.elbo_of_bytes, *specs)

    def elbo_arrays(self, images: np.ndarray, *, seed: int = EVALUATION_SEED, batch_size: int = 500) -> Elbo:
        """`elbo` of images (N, H, W, C), bytes or floats in [0, 1], as three float32 arrays (N,), with `image_noise`.

        Raises `UserError`.
        """
        images, seed = as_images(images, self.config.image_shape), check_seed(seed)
        batch_size = check_count(batch_size, "the batch size")
        if self.config.inference == "grid":
            return self._elbo_on_grid(images, seed, batch_size)
        run = self.elbo_graph()  # traced here, not in every thread

        def part(i: int) -> Elbo:
            batch = images[i : i + batch_size]
            return run(*(tf.constant(array) for array in (batch, *self.image_noise(batch, seed)) if array is not None))

        return Elbo(*_columns(parallel_map(part, range(0, len(images), batch_size))))

    def _elbo_on_grid(self, images: np.ndarray, seed: int, batch_size: int) -> Elbo:
        posterior = self.encode_arrays(images, seed=seed, batch_size=batch_size)

        def part(i: int) -> Elbo:
            batch = images[i : i + batch_size]
            epsilon, uniform = self.image_noise(batch, seed)
            z_mean, z_log_var = (tf.constant(array[i : i + batch_size]) for array in posterior)
            logits = self.decode_logits(z_mean + tf.exp(0.5 * z_log_var) * epsilon)
            nll, kl = self.nll(self.prepare(batch, uniform), logits), losses.gaussian_kl(z_mean, z_log_var)
            return Elbo(-(nll + kl), nll, kl)

        return Elbo(*_columns(parallel_map(part, range(0, len(images), batch_size))))

    def prepare_arrays(self, images: np.ndarray, *, seed: int = EVALUATION_SEED, batch_size: int = 500) -> np.ndarray:
        """`prepare` of images (N, H, W, C), bytes or floats in [0, 1], as float32, with the noise of `elbo_arrays`.

        Raises `UserError`.
        """
        images, seed = as_images(images, self.config.image_shape), check_seed(seed)
        batch_size = check_count(batch_size, "the batch size")
        parts = []
        for i in range(0, len(images), batch_size):
            batch = images[i : i + batch_size]
            parts.append(self.prepare(tf.constant(batch), self.image_noise(batch, seed)[1]).numpy())
        return np.concatenate(parts)

    def encode_arrays(self, images: np.ndarray, *, seed: int = EVALUATION_SEED, batch_size: int = 500) -> Posterior:
        """`encode` of images (N, H, W, C), bytes or floats in [0, 1], as two float32 arrays (N, D).

        Raises `UserError`.
        """
        images, seed = as_images(images, self.config.image_shape), check_seed(seed)
        batch_size = check_count(batch_size, "the batch size")
        run = self._encoding()  # traced here, not in every thread

        def part(i: int) -> Posterior:
            batch = images[i : i + batch_size]
            return run(self.prepare(tf.constant(batch), self.image_noise(batch, seed)[1]))

        return Posterior(*_columns(parallel_map(part, range(0, len(images), batch_size))))

    def _encoding(self) -> Any:
        """A function like `encode` for many batches: on a grid, the codes are decoded once for all of them."""
        if self.config.inference == "encoder":
            return self.encode_graph()
        shapes = ([None, 2], [None, 2], [None, None], [None])
        specs = [self._image_spec(tf.float32), *map(tf.TensorSpec, shapes)]
        run, terms = self._graph(self.posterior_on_grid, *specs), self._graph(self.grid_terms)()
        return lambda x: run(x, *terms)

    def decode_arrays(self, z: np.ndarray, *, batch_size: int = 400) -> np.ndarray:
        """`decode` of codes (N, D) as a float32 array (N, H, W, C). Raises `UserError`."""
        z, batch_size = as_codes(z, self.config.latent_dim), check_count(batch_size, "the batch size")
        run = self.decode_graph()  # traced here, not in every thread

        def part(i: int) -> tf.Tensor:
            return run(tf.constant(z[i : i + batch_size]))

        return np.concatenate(parallel_map(part, range(0, len(z), batch_size)))

    # ---- Keras' compile, fit and evaluate --------------------------------------------------------------

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """`reconstruct`, so that ``vae(x)`` and ``vae.predict(x)`` do what one expects; ``x`` may be bytes.

        Raises `UserError`.
        """
        self._check_shape(inputs)
        if inputs.dtype == tf.uint8:
            inputs = self.prepare(inputs, tf.fill(tf.shape(inputs), 0.5))
        return self.reconstruct(_in_range(inputs))

    def export(self, filepath: Any, **options: Any) -> None:
        """Write `reconstruct` as a TensorFlow SavedModel that needs no vae_lib; ``options`` are those of Keras."""
        images = tf.TensorSpec([None, *self.config.image_shape], tf.float32)
        super().export(filepath, **({"input_signature": [images]} | options))

    def _check_shape(self, x: tf.Tensor) -> None:
        if tuple(x.shape[1:]) != self.config.image_shape:
            raise UserError(f"images must have the shape {_shape(self.config.image_shape)}, not {tuple(x.shape)}.")

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> tf.Tensor:
        """The mean negative ELBO, for ``compile(optimizer)``, ``fit(x)`` and ``evaluate(x)``.

        ``x`` holds bytes or floats in [0, 1]; ``y``, ``y_pred`` and ``sample_weight`` are not used. Regularizers of
        networks of your own are added. Raises `UserError`.
        """
        self._check_shape(x)
        if x.dtype != tf.uint8:
            x = tf.cast(tf.round(255.0 * _in_range(x)), tf.uint8)
        step = tf.cast(self.optimizer.iterations, tf.int32)
        epsilon, uniform = self.noise(tf.shape(x)[0], tf.stack([self.config.seed, step]))
        loss = -tf.reduce_mean(self.elbo(self.prepare(x, uniform), epsilon, training=training).elbo)
        return loss + tf.add_n(self.losses) if self.losses else loss


def check_model(model: Any) -> VAE:
    """``model`` as it is; raises `UserError` for anything but a VAE."""
    if not isinstance(model, VAE):
        hint = ": give its model, run.model" if hasattr(model, "encodings") else ""
        raise UserError(f"this takes a VAE, not {type(model).__name__}{hint}.")
    return model


def check_encodings(encodings: Any, dim: int) -> Encodings:
    """Encoded images as finite codes (N, ``dim``) with a whole number as label each; raises `UserError`."""
    if not isinstance(encodings, Encodings):
        raise UserError(f"encodings must be Encodings(z_mean, z_log_var, labels), not {type(encodings).__name__}.")
    z_mean, z_log_var = (as_codes(encodings[i], dim, what=Encodings._fields[i], empty=True) for i in (0, 1))
    return Encodings(z_mean, z_log_var, as_labels(encodings.labels, len(z_mean)))


def _check_networks(config: ModelConfig, encoder: Any, decoder: Any) -> None:
    """Raise `UserError` unless two networks fit a model and one another."""
    _check_network("encoder", encoder, config.image_shape, (2 * config.latent_dim,))
    _check_network("decoder", decoder, (config.latent_dim,), config.logits_shape)
    if {id(w) for w in encoder.weights} & {id(w) for w in decoder.weights}:
        raise UserError("encoder and decoder share a layer: give each its own.")


def _check_network(name: str, network: Any, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    """Raise `UserError` unless ``network`` maps (B, *inputs) to (B, *outputs)."""
    wanted = f"the {name} must map {_shape(inputs)} to {_shape(outputs)}"
    if not isinstance(network, keras.Model):
        raise UserError(f"{wanted}, as a keras.Model; {type(network).__name__} is none.")
    try:
        result = network(tf.zeros([2, *inputs]))
    except Exception as error:  # whatever somebody's own code raises
        lines = [
            line.strip()
            for line in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()
            if line.strip() and "Exception encountered" not in line
        ]
        reason = lines[0].removesuffix(".") if lines else type(error).__name__
        raise UserError(f"{wanted}, and it cannot be called so: {reason}.") from None
    if any(tf.as_dtype(weight.dtype) != tf.float32 for weight in network.weights):
        raise UserError(f"{wanted}, with weights in float32: give its layers that dtype, or a mixed precision.")
    if isinstance(result, list | tuple | dict):
        raise UserError(f"{wanted}, and it returns {len(result)} tensors: join them, such as means and log-variances.")
    found = tuple(result.shape[1:])
    if result.shape[0] != 2:
        raise UserError(f"{wanted}, and of 2 it makes {result.shape[0]}.")
    if found != outputs:
        raise UserError(f"{wanted}, not to {_shape(found)}.")


def _in_range(x: tf.Tensor) -> tf.Tensor:
    """Floats from 0 to 1 as they are; raises `UserError` for another type, TensorFlow's own error for other values."""
    if not x.dtype.is_floating:
        raise UserError(f"images must be bytes (uint8) or floats from 0 to 1, not {x.dtype.name}.")
    beyond = tf.reduce_max(tf.abs(x - 0.5))  # NaN fails too
    with tf.control_dependencies(
        [tf.debugging.assert_less_equal(beyond, 0.501, "floats must lie from 0 to 1: give bytes as uint8")]
    ):
        return tf.identity(x)


def _shape(sizes: tuple[int, ...]) -> str:
    return f"(B, {', '.join(map(str, sizes))})"


def _at_least(value: tf.Tensor, low: float) -> tf.Tensor:
    """max(value, low) whose gradient can still raise a value that has fallen below ``low``."""

    @tf.custom_gradient
    def bounded(raw: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return tf.maximum(raw, low), lambda upstream: tf.where((raw >= low) | (upstream < 0), upstream, 0.0)

    return bounded(value)


def _columns(parts: list[tuple[tf.Tensor, ...]]) -> list[np.ndarray]:
    """The tuples' first members joined, then their second, and so on."""
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
