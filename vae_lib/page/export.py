"""A run as one HTML file: sliders, map and decoder in a page that opens from disk, without a kernel or a network."""

from __future__ import annotations

import base64
import html
import json
import os
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vae_lib import figures, latent, pictures, report
from vae_lib.arrays import check_count
from vae_lib.backend import keras
from vae_lib.data.loading import ImageData, as_image_data
from vae_lib.errors import Fault, UserError
from vae_lib.evaluation import kl_per_dimension
from vae_lib.files import output_path, write_atomically
from vae_lib.layers import Conv2D, DepthToSpace, gelu
from vae_lib.model import LOG_SCALE, VAE, Encodings, check_encodings, check_model
from vae_lib.runs.store import Run

PAGE = Path(__file__).parent
MAP_SIDE = 784  # at most, in pixels, of the picture behind the map
TILES = 20  # along its side, at most
SMALL = 32  # the side of images, in pixels, up to which a page of one channel holds the encoder and a drawing pad
SPIRAL = 40  # tiles along a side of the grid that the walk visits
POINTS = 3000  # encoded test images on the map, at most
CODE_STEP = 1 / 4096  # encoded test images are rounded to it, and to more where they reach far

COLOURS = (  # of classes: far apart for all kinds of colour vision (tests/test_explorer.py), and on black
    "#04abff", "#d49679", "#ffee90", "#5e7300", "#615aff", "#c112a6", "#a1ffdd", "#ccc200", "#9c566c", "#89e1ff",
)  # fmt: skip
TITLES = {"mnist": "Handwritten digits", "fashion_mnist": "Garments", "faces": "Faces"}
WORDS = (
    "Each image is described by a code z of {dim}. Before an image is seen, {each} expected to lie near 0, like a draw "
    "from a bell curve, the prior; half a percent lies beyond each end of a slider. The image is decoded in this page."
)
HOME = '<p id="back"><a href="index.html">All models</a></p>'
CREDITS = {  # the licences stay with the images, in a copy of the page too
    "mnist": "MNIST (LeCun, Cortes and Burges), CC BY-SA 3.0, creativecommons.org/licenses/by-sa/3.0",
    "fashion_mnist": "Fashion-MNIST, Copyright (c) 2017 Zalando SE, MIT licence, opensource.org/license/mit",
    "faces": "Labeled Faces in the Wild (Huang et al. 2007, 2012); the page holds no photograph",
}


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


KERAS_LAYERS = (
    keras.layers.Dense, keras.layers.Conv2D, keras.layers.Reshape, keras.layers.Cropping2D, keras.layers.Flatten,
    keras.layers.ZeroPadding2D,
)  # fmt: skip
LARGE = 500_000  # weights
GELU = (gelu, keras.activations.gelu)
ACTIVATIONS = (keras.activations.linear, *GELU)  # that the page's JavaScript has


def _described(layer: keras.Layer) -> dict[str, Any]:
    """A layer as the page's JavaScript knows it, without its weights. Raises `UserError`."""
    activation = getattr(layer, "activation", keras.activations.linear)
    if activation not in ACTIVATIONS:
        raise UserError(f"the page has layers with gelu or no activation, not with {activation.__name__}.")
    curved = activation in GELU
    if type(layer) not in (*KERAS_LAYERS, Conv2D, DepthToSpace):  # a subclass computes something else
        raise UserError(f"the page cannot show a network with a layer such as {layer.name} ({type(layer).__name__}).")
    match layer:
        case keras.layers.Dense() if layer.use_bias:
            rows, columns = layer.kernel.shape
            return {"kind": "dense", "K": rows, "N": columns, "gelu": curved}
        case keras.layers.Conv2D() if _plain(layer):
            size, _, channels, columns = layer.kernel.shape
            sizes = {"K": size * size * channels, "N": columns, "size": size, "stride": layer.strides[0]}
            return {"kind": "conv", **sizes, "gelu": curved}
        case keras.layers.Reshape() if len(layer.target_shape) == 3:
            return {"kind": "reshape"} | dict(zip(("height", "width", "channels"), layer.output.shape[1:], strict=True))
        case DepthToSpace():
            return {"kind": "depth_to_space", "block": layer.block}
        case keras.layers.Flatten() if layer.data_format == "channels_last":
            return {"kind": "flatten"}
        case keras.layers.Cropping2D() | keras.layers.ZeroPadding2D() if layer.data_format == "channels_last":
            crops = isinstance(layer, keras.layers.Cropping2D)
            (top, _), (left, _) = layer.cropping if crops else layer.padding
            height, width = layer.output.shape[1:3]
            return {"kind": "crop" if crops else "pad", "top": top, "left": left, "height": height, "width": width}
    raise UserError(f"the page cannot show a network with a layer such as {layer.name} ({type(layer).__name__}).")


def _plain(layer: keras.layers.Conv2D) -> bool:
    """Whether a convolution and its strides are square, with a bias and a border of zeros, and nothing else."""
    square = layer.kernel_size[0] == layer.kernel_size[1] and layer.strides[0] == layer.strides[1]
    simple = layer.dilation_rate == (1, 1) and layer.groups == 1
    return square and simple and layer.use_bias and layer.padding == "same" and layer.data_format == "channels_last"


def _twelve_bits(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers from -2,047 to 2,047, an even count, as bytes, three for two of them."""
    first, second = (numbers.reshape(-1, 2).T + 2048).astype(np.uint16)
    return np.stack([first & 255, first >> 8 | (second & 15) << 4, second >> 4], axis=-1).astype(np.uint8).ravel()


def packed_network(network: keras.Model) -> dict[str, Any]:
    """A network as a list of layers and two base64 blocks: whole numbers, and each column's scale and bias.

    A weight is its whole number times the scale of its column. Numbers have 16 bits, so that a weight is off by at
    most 1.6e-5 of the column's largest, or in a matrix of more than `LARGE` weights 12, which is 2.5e-4.
    Raises `UserError`.
    """
    if not network.weights:
        raise UserError("the page shows networks with weights, and this one has none.")
    if not isinstance(network, keras.Sequential):
        raise UserError(f"the page can show a network that is a keras.Sequential, not a {type(network).__name__}.")
    weights, columns = [], []
    layers = [_described(layer) for layer in network.layers]
    for layer, described in zip(network.layers, layers, strict=True):
        if layer.weights:
            kernel, bias = (np.asarray(w, np.float32) for w in layer.get_weights())
            kernel = kernel.reshape(-1, kernel.shape[-1])  # (K, N)
            bits = 12 if kernel.size > LARGE and kernel.size % 2 == 0 else 16
            scale = np.maximum(np.abs(kernel).max(axis=0), 1e-12) / (2 ** (bits - 1) - 1)
            numbers = np.rint(kernel / scale).astype("<i2").ravel()
            described["bits"] = bits
            weights.append(numbers.view(np.uint8) if bits == 16 else _twelve_bits(numbers))
            columns.append(np.stack([scale, bias], axis=-1).astype("<f4").ravel())
    return {
        "layers": layers,
        "weights": _base64(np.concatenate(weights)),
        "columns": _base64(np.concatenate(columns)),
    }


def _data_uri(picture: np.ndarray) -> str:
    """A picture (H, W, C) uint8 as a data address, JPEG, about half of PNG's size or less."""
    return f"data:image/jpeg;base64,{base64.b64encode(figures.encoded(picture, '.jpg', quality=80)).decode()}"


def _plane(model: VAE, encodings: Encodings | None) -> dict[str, list[float]]:
    """Centre and two axes of the plane that the map shows: z = centre + a * x + b * y."""
    codes = pictures.on_plane(model, np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), encodings=encodings)
    centre, x, y = codes[0], codes[1] - codes[0], codes[2] - codes[0]
    return {"centre": centre.tolist(), "x": x.tolist(), "y": y.tolist()}


def _points(encodings: Encodings | None, names: tuple[str, ...]) -> dict[str, Any]:
    """Encoded test images for the map, and their classes where there are few enough to colour."""
    if encodings is None:
        return {"codes": "", "labels": "", "names": [], "step": CODE_STEP}
    z_mean, labels = encodings.z_mean[:POINTS], encodings.labels[:POINTS]
    z_mean = z_mean.astype(np.float64)
    step = max(CODE_STEP, float(np.abs(z_mean).max(initial=0.0)) / 32767)
    few = 1 < len(names) <= len(COLOURS)
    return {
        "codes": _base64(np.rint(z_mean / step).astype("<i2")),
        "labels": _base64(labels.astype(np.uint8)) if few else "",
        "names": list(names) if few else [],
        "step": step,
    }


def run_card(run: Run) -> list[tuple[str, str]]:
    """What the page says of the run: data, network, and the numbers with their protocol."""
    config, test = run.config, run.metrics.get("test", {})
    rows = [
        ("data", report.describe_task(config, config.data.found or "sample")),
        ("latent dimensions", str(config.model.latent_dim)),
        ("likelihood", config.model.likelihood.replace("_", " ")),
        ("training", f"{config.training.epochs} epochs, seed {config.training.seed}"),
    ]
    if {"elbo", "elbo_error"} <= set(test):
        rows.append(("test ELBO", f"{test['elbo']:.2f} {_plus_minus(test['elbo_error'])} nats an image"))
    if "bits_per_pixel" in test:
        rows.append(("bits per pixel", f"{test['bits_per_pixel']:.3f}"))
    if "log_px" in test:
        rows.append(("log p(x), integrated", f"{test['log_px']:.2f} nats an image"))
    if {"images", "seed"} <= set(test):
        rows.append(("protocol", f"{test['images']:,} test images, one noise sample each, seed {test['seed']}"))
    if credit := CREDITS.get(config.data.name):
        rows.append(("images", credit))
    if command := run.metrics.get("made_by", {}).get("command"):
        rows.append(("made by", command))
    return rows


def _plus_minus(error: float | None) -> str:
    return report.plus_minus(error).replace("+-", "\N{PLUS-MINUS SIGN}")


def _examples(model: VAE, data: ImageData | None, encodings: Encodings | None, count: int) -> dict[str, Any]:
    """Codes to start from: of test images, which the page then shows too, or else the first of ``encodings``."""
    if data is None or not count:
        codes = np.zeros([0, model.config.latent_dim]) if encodings is None else encodings.z_mean[:count]
        return {"pixels": "", "codes": np.round(codes, 3).tolist(), "labels": []}
    indices = pictures.spread_indices(data.test_labels, count)
    images = data.test_images[indices]
    return {
        "pixels": _base64(figures.to_bytes(model.prepare_arrays(images))),
        "codes": np.round(model.encode_arrays(images).z_mean, 3).tolist(),
        "labels": [data.label_names[i].replace("_", " ") for i in data.test_labels[indices] if data.label_names],
    }


SCRIPTS = ("network.js", "simd.js", "arrays.js", "pad.js", "posterior.js", "explorer.js")


def _packed_encoder(model: VAE) -> dict[str, Any] | None:
    """The encoder of a model of small images, where the page can compute it."""
    config = model.config
    if config.channels != 1 or config.im_dim > SMALL or config.inference != "encoder":
        return None
    if type(model).encode is not VAE.encode:
        return None
    try:
        return packed_network(model.encoder)
    except UserError:  # one that the page does not know; it shows the decoder alone
        return None


def explorer_page(
    model: VAE,
    data: ImageData | np.ndarray | None = None,
    *,
    encodings: Encodings | None = None,
    name: str = "VAE",
    title: str = "",
    home: bool = False,
    card: Sequence[tuple[str, str]] = (),
    examples: int = 20,
    map_side: int = MAP_SIDE,
) -> str:
    """The model's explorer as HTML, complete in itself: styles, scripts, weights and pictures are inside.

    ``data``, an `ImageData` or images (N, H, W, C), gives the names of the classes and ``examples`` test images to
    start from; without it the page starts from the first ``encodings``, which it shows decoded. ``card`` is a table of
    what is worth knowing, ``title`` stands above the page (by default ``name``), and ``home`` links an index beside it.
    ``map_side`` limits the picture behind the map, in pixels, and with it the size of the page. The page of small
    images with one channel holds the encoder too, for what a visitor draws, and in two dimensions dissects an image.
    Raises `UserError` for a decoder with layers that the page lacks.

        >>> from vae_lib import VAE, explorer_page
        >>> explorer_page(VAE(latent_dim=2, num_filters=4), map_side=112)[:15]
        '<!doctype html>'
    """
    config = check_model(model).config
    if type(model).mean_of_logits is not VAE.mean_of_logits or type(model).decode is not VAE.decode:
        raise UserError(f"the page decodes as a VAE does, and {type(model).__name__} decodes in its own way.")
    if examples != 0:
        examples = check_count(examples, "the number of examples")
    map_side = check_count(map_side, "the side of the map")
    if encodings is not None:
        encodings = check_encodings(encodings, config.latent_dim)
    if data is not None:
        data = as_image_data(data, config.image_shape)
        images = data.test_images if len(data.test_images) else data.train_images
        labels = data.test_labels if len(data.test_images) else data.train_labels
        data = data._replace(test_images=images, test_labels=labels)
        if encodings is None:
            encodings = Encodings(*model.encode_arrays(images), labels)
        elif data.label_names and encodings.labels.max(initial=0) >= len(data.label_names):
            raise UserError("the encodings have labels that the data has no names for: they are of other images.")
    kl = np.zeros(config.latent_dim)
    if encodings is not None:
        kl = kl_per_dimension(encodings.z_mean, encodings.z_log_var)
    tiles = max(4, min(TILES, map_side // config.im_dim))
    names = data.label_names if data is not None else ()
    content = {
        "name": name,
        "side": config.im_dim,
        "channels": config.channels,
        "title": title or name,
        "lead": WORDS.format(
            dim="one number" if config.latent_dim == 1 else f"{config.latent_dim} numbers",
            each="it is" if config.latent_dim == 1 else "each of them is",
        ),
        "likelihood": config.likelihood,
        "binary": config.binarize != "none",
        "colours": COLOURS,
        "tiles": tiles,
        "logScale": LOG_SCALE,
        "decoder": packed_network(model.decoder),
        "encoder": _packed_encoder(model),
        "order": np.argsort(-kl, kind="stable").tolist(),
        "kl": np.round(kl, 3).tolist(),
        "quantiles": latent.DEFAULT_QUANTILES,
        "plane": _plane(model, encodings),
        "spiral": {"side": SPIRAL, "order": latent.spiral(SPIRAL).ravel().tolist()},
        "map": _data_uri(pictures.manifold(model, latent.axis_values(tiles), encodings=encodings)),
        "points": _points(encodings, names),
        "examples": _examples(model, data, encodings, examples),
        "card": [(str(term), str(text)) for term, text in card],
    }
    return _filled(
        "explorer.html",
        {
            "title": html.escape(f"{title or name}: a latent space to explore"),
            "description": html.escape(f"{title or name}: sliders over a latent space, decoded in the page."),
            "home": HOME if home else "",
            "style": _asset("style.css"),
            "content": json.dumps(content, allow_nan=False).replace("<", "\\u003c"),
            "script": "".join(map(_asset, SCRIPTS)),
        },
    )


def run_page(run: Run, data: ImageData | None = None, **options: Any) -> str:
    """`explorer_page` of a run, with its encodings, its name and its card."""
    title = run_title(run)
    return explorer_page(
        run.model, data, encodings=run.encodings, name=run.name, title=title, card=run_card(run), **options
    )  # fmt: skip


def run_title(run: Run) -> str:
    """What a run is about, in words."""
    dim = run.config.model.latent_dim
    what = TITLES.get(run.config.data.name)
    return f"{what} in {dim} dimension{'s' * (dim > 1)}" if what else run.name


def index_page(runs: Mapping[str, Run]) -> str:
    """A page that links the explorers, ``{file name: run}``, each with a picture of its latent plane."""
    return _filled(
        "index.html", {"style": _asset("style.css"), "cards": "\n".join(_index_cards(runs)), "title": "Latent spaces"}
    )


def _index_cards(runs: Mapping[str, Run]) -> Iterator[str]:
    yield (
        '<li><a href="lab.html"><b class="words">Watch one learn, and break it</b>'
        "<strong>Train a VAE in the page</strong><span>with your own drawings, in seconds</span></a></li>"
    )
    for file, run in runs.items():
        tiles = 10 if run.config.model.im_dim <= SMALL else 5
        picture = _data_uri(pictures.manifold(run.model, latent.axis_values(tiles), encodings=run.encodings))
        task = html.escape(report.describe_task(run.config, run.config.data.found or "sample").partition(", ")[2])
        name = html.escape(run.name)
        yield (
            f'<li><a href="{html.escape(file)}"><img src="{picture}" alt="" width="280" height="280">'
            f"<strong>{html.escape(run_title(run))}</strong><span>{task}; the run {name}</span></a></li>"
        )


class EmbeddedPage:
    """A page as the output of a notebook cell, ``height`` pixels tall: alive wherever the notebook's HTML is shown."""

    def __init__(self, page: str, height: int = 1000) -> None:
        self.page, self.height = page, height

    def __repr__(self) -> str:
        return f"EmbeddedPage({len(self.page)} characters)"

    def _repr_html_(self) -> str:
        size = f'width="100%" height="{self.height}" style="border: 0"'
        return f'<iframe title="explorer" {size} srcdoc="{html.escape(self.page)}"></iframe>'


def write_page(path: str | os.PathLike[str], page: str) -> Path:
    """Write a page; whatever stood at ``path`` stays until the new one is whole. Raises `UserError`."""
    target = output_path(path, "the page's file")
    try:
        write_atomically(target, page.encode(errors="replace"))
    except OSError as error:
        raise Fault(f"cannot write {target}: {error.strerror}.") from None
    return target


def _asset(name: str) -> str:
    return (PAGE / name).read_text("utf-8")


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """A template with every ``$name`` replaced; what is put in is not searched again."""
    return string.Template(_asset(template)).substitute(parts)
