"""What a run needs, estimated before it needs it: weights, memory and time, from the config alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from vae_lib.backend import CORES
from vae_lib.config import ModelConfig, RunConfig
from vae_lib.errors import UserError, notice
from vae_lib.memory import IN_MEMORY, memory
from vae_lib.networks import PATCH, feature_size

WEIGHT_BYTES = 4 * 4  # a weight, its gradient and Adam's two moments, in float32
BASE_BYTES = 600e6  # Python with TensorFlow
KEPT = 3  # arrays that training keeps for each activation: before and after the nonlinearity, and a gradient
PRODUCTS_PER_CORE = 3e10  # multiplications a second while the default network trains (benchmarks/RESULTS.md)
TEMPORARY_BYTES = 50_000
LONG_HOURS = 2.0  # worth a warning


def layers(config: ModelConfig) -> Iterator[tuple[int, int, int]]:
    """Of each layer the inputs and the outputs of one application, and how often it is applied to an image."""
    filters, hidden, patch = config.num_filters, config.hidden_units, PATCH * PATCH
    side, halvings = feature_size(config.im_dim)
    sides = [side * 2**i for i in range(halvings, -1, -1)]  # from the patches down to the smallest map
    yield patch * config.channels, filters, sides[0] ** 2
    channels = filters
    for smaller in sides[1:]:
        yield 9 * channels, 2 * filters, smaller**2
        channels = 2 * filters
    yield 9 * channels, 2 * filters, side**2
    yield 2 * filters, filters, side**2
    yield side**2 * filters, hidden, 1
    yield from [(hidden, hidden, 1)] * (config.encoder_layers - 1)
    yield hidden, 2 * config.latent_dim, 1
    yield from decoder_layers(config)


def decoder_layers(config: ModelConfig) -> Iterator[tuple[int, int, int]]:
    """`layers` of the decoder."""
    filters, hidden = config.num_filters, config.hidden_units
    side, halvings = feature_size(config.im_dim)
    sides = [side * 2**i for i in range(halvings, -1, -1)]
    yield config.latent_dim, hidden, 1
    yield hidden, hidden, 1
    yield hidden, side**2 * filters, 1
    yield 9 * filters, 2 * filters, side**2
    for larger in sides[-2::-1]:
        yield 9 * 2 * filters, 8 * filters, (larger // 2) ** 2
        yield 9 * 2 * filters, 2 * filters, larger**2
    yield 9 * 2 * filters, PATCH * PATCH * config.logits_shape[-1], sides[0] ** 2


def parameters(config: ModelConfig) -> int:
    """The number of weights of encoder and decoder."""
    return sum(inputs * outputs + outputs for inputs, outputs, _ in layers(config))


def decoded_codes(config: RunConfig) -> int:
    """How many codes a step decodes."""
    training = config.training
    if training.objective == "marginal":
        return training.grid_side**2
    return training.batch_size * training.importance_samples


def training_bytes(config: RunConfig, n_images: int) -> float:
    """Memory that training takes, in bytes: weights, the activations of a batch, and the images."""
    decoder = sum(outputs * times for _, outputs, times in decoder_layers(config.model))
    encoder = sum(outputs * times for _, outputs, times in layers(config.model)) - decoder
    images = float(n_images * config.model.im_dim**2 * config.model.channels)
    images = images if images <= IN_MEMORY * memory() else 0.0  # more are streamed
    batch = config.training.batch_size  # a smaller set is filled up to one batch
    activations = batch * encoder + decoded_codes(config) * decoder
    if config.training.objective == "marginal":
        activations += batch * config.training.grid_side**2
    return BASE_BYTES + WEIGHT_BYTES * parameters(config.model) + KEPT * 4 * activations + images


def training_hours(config: RunConfig, n_images: int) -> float:
    """Time that training takes on this machine's processors, in hours, by the default network's speed."""
    decoder = sum(inputs * outputs * times for inputs, outputs, times in decoder_layers(config.model))
    encoder = sum(inputs * outputs * times for inputs, outputs, times in layers(config.model)) - decoder
    batch = config.training.batch_size
    products = 3 * (batch * encoder + decoded_codes(config) * decoder)  # of a step
    steps = n_images * config.training.epochs / batch
    return products * steps / (PRODUCTS_PER_CORE * CORES) / 3600


def check(config: RunConfig, n_images: int) -> None:
    """Raise `UserError` for a training that this machine's memory or disk cannot hold; warn of a very long one."""
    needed, there = training_bytes(config, n_images), memory()
    if needed > there:
        raise UserError(
            f"this training needs about {needed / 1e9:,.0f} GB of memory and the machine has {there / 1e9:.0f} GB: "
            "lower the image size, the filters, the hidden units or the batch size."
        )
    try:
        with tempfile.TemporaryFile() as file:  # TensorFlow writes the code of its graphs there
            file.write(bytes(TEMPORARY_BYTES))
    except OSError as error:
        raise UserError(f"no temporary file can be written ({error.strerror}): free space, or set TMPDIR.") from None
    hours = training_hours(config, n_images)
    if hours > LONG_HOURS:
        notice(f"this training will take about {hours:,.0f} hours on these processors; Ctrl-C saves and stops it.")
