"""A trained model for programs that know nothing of this package."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from vae_lib.backend import keras, tf
from vae_lib.errors import Fault, UserError
from vae_lib.files import make_folder, user_path
from vae_lib.layers import Conv2D, DepthToSpace, gelu
from vae_lib.model import VAE, check_model


def plain(network: keras.Model) -> keras.Model:
    """A copy of an encoder or a decoder that is made of Keras' own layers alone, with the same outputs.

    >>> import numpy as np
    >>> from vae_lib import VAE
    >>> from vae_lib.exporting import plain
    >>> decoder = VAE(latent_dim=2, num_filters=4).decoder
    >>> codes = np.ones([3, 2], np.float32)
    >>> np.allclose(plain(decoder)(codes), decoder(codes), atol=1e-5)
    True
    """
    layers = keras.layers

    def clone(layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, DepthToSpace):
            kind = layers.Conv2D if isinstance(layer, Conv2D) else layer.__class__
            own = {"activation": "gelu"} if getattr(layer, "activation", None) is gelu else {}
            return kind.from_config(layer.get_config() | own)
        height, width, depth = layer.input.shape[1:]
        block, channels = layer.block, depth // layer.block**2
        return keras.Sequential(
            [
                keras.Input((height, width, depth)),
                layers.Reshape((height, width, block, block, channels)),
                layers.Permute((1, 3, 2, 4, 5)),
                layers.Reshape((height * block, width * block, channels)),
            ]
        )

    copy = keras.models.clone_model(network, clone_function=clone)
    copy.set_weights(network.get_weights())
    return copy


def write_keras(model: VAE, path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write the whole model to ``path``, and its decoder beside it; returns both paths.

    ``path`` ends in .keras. `keras.saving.load_model` reads the whole model after ``from vae_lib import VAE``, and the
    decoder without this package: it takes codes (B, D) and gives the likelihood's logits, (B, H, W, C), whose sigmoid
    is the image, or for the discretized logistic (B, H, W, 2 C), of which 0.5 + the first half is where each pixel's
    distribution lies. `write_saved_model` and `write_onnx` give images. Raises `UserError`.
    """
    whole = user_path(path, "the model's file")
    if whole.suffix != ".keras":
        raise UserError(f"a Keras model's file ends in .keras, not {whole.suffix or 'nothing'!r}: {whole}.")
    decoder = whole.with_name(f"{whole.stem}_decoder.keras")
    _written({whole: check_model(model).save, decoder: plain(model.decoder).save})
    return whole, decoder


def write_saved_model(model: VAE, path: str | os.PathLike[str]) -> Path:
    """Write a TensorFlow SavedModel with the endpoints ``decode`` and, where there is an encoder, ``encode``.

    ``decode`` takes codes (B, D) and gives images (B, H, W, C) in [0, 1]; ``encode`` takes prepared images and gives
    z_mean and z_log_var, (B, D) each. ``path`` must not be there yet. Raises `UserError`.
    """
    folder, config = user_path(path, "the model's folder"), check_model(model).config
    if os.path.lexists(folder):
        raise UserError(f"{folder} exists: give another name.")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("decode", model.decode, [tf.TensorSpec([None, config.latent_dim], tf.float32)])
    if config.inference == "encoder":
        images = tf.TensorSpec([None, *config.image_shape], tf.float32)
        archive.add_endpoint("encode", lambda x: model.encode(x)._asdict(), [images])
    _written({folder: lambda target: archive.write_out(str(target), verbose=False)})
    return folder


def write_onnx(model: VAE, path: str | os.PathLike[str]) -> list[Path]:
    """Write what decodes, and where there is an encoder what encodes, as ONNX files; returns their paths.

    ``path`` ends in .onnx and holds the decoder: ``z`` (B, D) to ``image`` (B, H, W, C) in [0, 1]. Beside it, with
    _encoder in its name, are prepared images ``x`` (B, H, W, C) to ``z_mean`` and ``z_log_var``, (B, D) each. Needs
    the package tf2onnx. Raises `UserError`.
    """
    place, config = user_path(path, "the model's file"), check_model(model).config
    if place.suffix != ".onnx":
        raise UserError(f"an ONNX file ends in .onnx, not {place.suffix or 'nothing'!r}: {place}.")
    try:
        import tf2onnx
    except ImportError:
        raise UserError("ONNX files need one more package: pip install tf2onnx.") from None

    def convert(function: Callable[[tf.Tensor], dict[str, tf.Tensor]], spec: tf.TensorSpec) -> Callable[[Path], object]:
        def write(staging: Path) -> None:
            compiled = tf.function(function, input_signature=[spec])
            graph, _ = tf2onnx.convert.from_function(compiled, [spec])
            outputs = {output.name: output for output in graph.graph.output}  # sorted by name
            del graph.graph.output[:]
            graph.graph.output.extend(outputs[name] for name in compiled.get_concrete_function().structured_outputs)
            staging.write_bytes(graph.SerializeToString())

        return write

    codes = tf.TensorSpec([None, config.latent_dim], tf.float32, name="z")
    writes = {place: convert(lambda z: {"image": model.decode(z)}, codes)}
    if config.inference == "encoder":
        images = tf.TensorSpec([None, *config.image_shape], tf.float32, name="x")
        beside = place.with_name(f"{place.stem}_encoder.onnx")
        writes[beside] = convert(lambda x: model.encode(x)._asdict(), images)
    _written(writes)
    return list(writes)


def _written(writes: Mapping[Path, Callable[[Path], object]]) -> None:
    """Let functions fill names in a new folder beside the files' places, and rename all once all are complete."""
    first = next(iter(writes))
    make_folder(first)
    for place in writes:
        if place.is_dir():
            raise UserError(f"cannot write {place}: it is a folder.")
    try:
        with tempfile.TemporaryDirectory(prefix=".part-", dir=first.parent) as folder:
            staged = {place: Path(folder, place.name) for place in writes}
            for place, write in writes.items():
                write(staged[place])
            for place, staging in staged.items():
                staging.replace(place)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0].split("; ")[-1].split(" [Op:")[0]
        raise Fault(f"cannot write {first}: {reason}.") from None
