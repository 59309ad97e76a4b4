"""Where images come from: TensorFlow Datasets and the bundled samples. The package's only import of ``tfds``.

A reader returns `Images`, which gives one example after another, resized to ``im_dim``; `vae_lib.data.loading` chooses
between readers and keeps what they give.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.resources
import io
import logging
import math
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vae_lib.config import TFDS
from vae_lib.data.decoding import decode, in_order, resize, resize_array
from vae_lib.errors import UserError
from vae_lib.files import user_path

TFDS_BUILDERS = {"mnist": "mnist:3.0.1", "fashion_mnist": "fashion_mnist:3.0.1", "faces": "lfw:0.1.1"}
HOSTS = {  # what TFDS downloads each data set from
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
    "faces": "https://ndownloader.figshare.com/files/5976018",
}
ANY_HOST = "https://storage.googleapis.com/"
SAMPLE_NOTE = "The sample that vae_lib brings along, not the whole data set."
HOST_SECONDS = 3.0
# LFWcrop (Sanderson and Lovell 2009): columns 83..166 and rows 92..175 of the 250 x 250 image, inclusive.
FACE_BOX = (83, 92, 167, 176)
TEST_SHARE = 10  # one person, one file of a folder, or one example of a single split in ten is held out
BATCH, BATCH_BYTES = 256, 2**24  # examples that TFDS reads at once, and at most so many bytes of them
FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class Example(NamedTuple):
    """An image (im_dim, im_dim, C) uint8, its label, and whether it is held out for testing."""

    pixels: np.ndarray
    label: int | str
    held_out: bool


class Images(NamedTuple):
    """About how many examples there are, what makes them one after another, and the names of their labels.

    Labels are numbers of ``label_names``; with None they are names themselves.
    """

    total: int
    examples: Callable[[], Iterator[Example]]
    label_names: tuple[str, ...] | None


class Split(NamedTuple):
    """Images (N, H, W, C) uint8 and labels (N,) int64, indices into ``label_names`` of `Splits`."""

    images: np.ndarray
    labels: np.ndarray


class Splits(NamedTuple):
    """A training and a test part and the names of the labels."""

    train: Split
    test: Split
    label_names: tuple[str, ...]


def in_test_set(name: str) -> bool:
    """Whether ``name`` (a person, a file) is held out: about one in ten, the same on every machine."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") % TEST_SHARE == 0


def write_as_tfds(name: str, found: Splits, folder: Path) -> None:
    """Write images of 28 x 28 as the prepared data set that TFDS has under ``name``, unless ``folder`` holds it.

    Raises `UserError`.
    """
    target = folder / TFDS_BUILDERS[name].replace(":", "/")
    if holds_sample(target):
        return
    if os.path.lexists(target):
        raise UserError(f"{target} holds something else than the sample: give another folder.")
    import tensorflow_datasets as tfds

    from vae_lib.backend import tf

    label = tfds.features.ClassLabel(names=list(found.label_names))
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(28, 28, 1)), "label": label})
    parts = {
        part: tf.data.Dataset.from_tensor_slices({"image": images.images, "label": images.labels})
        for part, images in (("train", found.train), ("test", found.test))
    }
    version = TFDS_BUILDERS[name].partition(":")[2]
    tfds.disable_progress_bar()
    talk = logging.getLogger("absl")
    level = talk.level
    try:
        talk.setLevel(logging.ERROR)
        with contextlib.redirect_stdout(None):
            tfds.dataset_builders.store_as_tfds_dataset(
                name,
                version=version,
                features=features,
                split_datasets=parts,
                data_dir=folder,
                description=SAMPLE_NOTE,
            )
    except OSError as error:
        raise UserError(f"cannot write the sample under {folder}: {error.strerror or error}.") from None
    finally:
        talk.setLevel(level)


def default_label_names(name: str) -> tuple[str, ...]:
    """The class names of a data set that has ten classes; empty for faces."""
    return {"mnist": tuple("0123456789"), "fashion_mnist": FASHION_NAMES}.get(name, ())


# ---- TensorFlow Datasets -----------------------------------------------------------------------------------


def tfds_dir() -> tuple[Path, bool]:
    """The folder of prepared data sets, and whether ``TFDS_DATA_DIR`` names it; else it is ~/tensorflow_datasets."""
    named = os.environ.get("TFDS_DATA_DIR")
    return user_path(named or "~/tensorflow_datasets"), bool(named)


def builder_name(name: str) -> str:
    """What TFDS calls a data set: 'mnist:3.0.1' for 'mnist', 'emnist/letters' for 'tfds:emnist/letters'.

    Raises `UserError` for a name that cannot be one.
    """
    if name in TFDS_BUILDERS:
        return TFDS_BUILDERS[name]
    wanted = name.removeprefix(TFDS)
    if not re.fullmatch(r"[a-z]\w*(/[\w.+-]+)?(:\d+\.\d+\.\d+)?", wanted, re.ASCII):
        raise UserError(f"{name!r} is no data set: write tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:VERSION.")
    return wanted


def file_name(name: str) -> str:
    """A data set's name for a file: 'tfds_emnist_letters' for 'tfds:emnist/letters'."""
    return re.sub("[:/]", "_", name)


def check_known(name: str) -> None:
    """Raise `UserError`, with the nearest match, for a data set that TFDS cannot prepare."""
    with contextlib.redirect_stderr(io.StringIO()):
        import tensorflow_datasets as tfds

        known = tfds.list_builders(with_community_datasets=False)
    wanted = re.split("[/:]", builder_name(name))[0]
    if wanted not in known:
        near = difflib.get_close_matches(wanted, known, n=1)
        hint = f"did you mean '{TFDS}{near[0]}'?" if near else "look it up at tensorflow.org/datasets."
        raise UserError(f"TensorFlow Datasets knows no {wanted!r}: {hint}")


def prepared_folder(name: str, data_dir: Path) -> Path | None:
    """Where a data set lies prepared under ``data_dir``, or None; a sample that `write_as_tfds` wrote is none.

    Without a version the newest is meant.
    """
    path, _, version = builder_name(name).partition(":")
    versions = [version] if version else sorted(_names(data_dir / path), key=_version, reverse=True)
    for folder in (data_dir / path / version for version in versions):
        if os.path.isfile(folder / "dataset_info.json") and not holds_sample(folder):
            return folder
    return None


def _names(folder: Path) -> list[str]:
    """The versions in a folder."""
    try:
        return [name for name in os.listdir(folder) if re.fullmatch(r"\d+\.\d+\.\d+", name)]
    except OSError:
        return []


def _version(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split(".")))


def holds_sample(folder: Path) -> bool:
    """Whether `write_as_tfds` wrote what lies in a folder."""
    try:
        return SAMPLE_NOTE in (folder / "dataset_info.json").read_text("utf-8")
    except (OSError, ValueError):
        return False


def host_answers(name: str) -> bool:
    """Whether the server that TFDS would download from answers, without an error, within 3 seconds."""
    answers: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(HOSTS.get(name, ANY_HOST), method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=HOST_SECONDS):
                answers.append(True)
        except urllib.error.HTTPError:
            answers.append(name not in HOSTS)  # there is a network; which of its servers TFDS needs is not known
        except (OSError, ValueError):  # URLError is an OSError
            answers.append(False)

    # A thread, because a look-up of a host name cannot be given a time limit.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HOST_SECONDS)
    return answers == [True]


def read_tfds(name: str, im_dim: int, data_dir: Path, channels: int | None = None, *, download: bool = False) -> Images:
    """A data set through TFDS, from disk unless ``download``; raises `UserError` where it cannot be read.

    ``name`` is one of `TFDS_BUILDERS`, or 'tfds:' and what TFDS calls a data set.
    """
    with _in_one_sentence(name, data_dir):
        from vae_lib.backend import tf  # imported here: reading a cache or a sample needs no TensorFlow

        tf.get_logger().setLevel("ERROR")
        import tensorflow_datasets as tfds

        if download:
            tfds.builder(builder_name(name), data_dir=data_dir).download_and_prepare()
        folder = prepared_folder(name, data_dir)
        if folder is None:
            raise UserError(f"{name} is not prepared under {data_dir}: set TFDS_DATA_DIR to where it is.")
        builder = tfds.builder_from_directory(folder)  # unlike tfds.load, it never asks the network
        read = _read_faces(builder, im_dim) if name == "faces" else _read_any(builder, name, im_dim, channels)

    def examples() -> Iterator[Example]:
        with _in_one_sentence(name, data_dir):
            yield from read.examples()

    return read._replace(examples=examples)


@contextlib.contextmanager
def _in_one_sentence(name: str, data_dir: Path) -> Iterator[None]:
    try:
        yield
    except (UserError, GeneratorExit):
        raise
    except Exception as error:  # TFDS raises many kinds; each means that the data cannot be had from it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"TensorFlow Datasets cannot read {name} under {data_dir}: {reason}") from error


def _read_faces(builder: Any, im_dim: int) -> Images:
    """LFW people as grey crops, the test set holding about a tenth of the people and all of their pictures."""
    import tensorflow_datasets as tfds

    def examples() -> Iterator[Example]:
        for example in tfds.as_numpy(builder.as_dataset(split="train")):
            face = Image.fromarray(example["image"]).crop(FACE_BOX).convert("L")
            person = example["label"].decode()
            yield Example(resize(face, im_dim), person, in_test_set(person))

    return Images(builder.info.splits["train"].num_examples, examples, None)


def _read_any(builder: Any, name: str, im_dim: int, channels: int | None) -> Images:
    """The images of a data set and their labels, found by its features.

    The test set is the split of that name, else 'validation', else a tenth of the examples, by their numbers.
    """
    import tensorflow_datasets as tfds

    features, splits = builder.info.features, builder.info.splits
    image, label = _image_feature(tfds, features, name), _label_feature(tfds, features)
    train = "train" if "train" in splits else min(splits)
    test = next((split for split in ("test", "validation") if split in splits and split != train), None)
    shape = features[image].shape
    fixed, wanted = None not in shape, channels or shape[-1]
    if wanted not in (1, 3) and (fixed or wanted is not None):
        raise UserError(f"the images of {name} have {wanted} channels: channels of 1 or 3 converts them.")
    # What waits to be resized is at its full size.
    size = max(1, min(BATCH, BATCH_BYTES // math.prod(shape))) if fixed else BATCH

    def squares(batch: dict[str, Any]) -> list[tuple[np.ndarray, int | str]]:
        labels = batch[label] if label is not None else np.zeros(len(batch[image]), np.int64)
        named = [found.decode() if isinstance(found, bytes) else int(found) for found in labels]
        if fixed:
            return [(resize_array(pixels, im_dim, wanted), n) for pixels, n in zip(batch[image], named, strict=True)]
        text = f"an image of {name}"
        return [(decode(file, im_dim, wanted, name=text), n) for file, n in zip(batch[image], named, strict=True)]

    def examples() -> Iterator[Example]:
        # Pillow decodes what differs in size: it reads a large JPEG at about the size that is wanted.
        decoders = None if fixed else {image: tfds.decode.SkipDecoding()}
        for split in [train] if test is None else [train, test]:
            found = builder.as_dataset(split=split, decoders=decoders)
            kept = found.map(lambda example: {key: example[key] for key in (image, label) if key is not None})
            batches = in_order(squares, tfds.as_numpy(kept.batch(size)))
            for number, (pixels, n) in enumerate(pair for batch in batches for pair in batch):
                yield Example(pixels, n, split == test if test is not None else in_test_set(str(number)))

    names = getattr(features[label], "names", None) if label is not None else []
    total = sum(splits[split].num_examples for split in {train, test} - {None})
    if total < 2:
        raise UserError(f"{name} holds {total} images; 2 are needed.")
    return Images(total, examples, None if names is None else tuple(names))


def _image_feature(tfds: Any, features: Any, name: str) -> str:
    """The name of the only feature that is an image, or of the one called 'image'."""
    found = [key for key, feature in features.items() if type(feature) is tfds.features.Image]
    if "image" in found or len(found) == 1:
        key = "image" if "image" in found else found[0]
        if features[key].np_dtype != np.uint8:
            raise UserError(f"the images of {name} are {np.dtype(features[key].np_dtype)}, and uint8 is needed.")
        return key
    raise UserError(f"{name} has " + (f"several images ({', '.join(sorted(found))})." if found else "no images."))


def _label_feature(tfds: Any, features: Any) -> str | None:
    """The name of the feature 'label', else of the first class label, else None."""
    classes = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    label = dict(features).get("label")
    simple = label is not None and label.shape == () and np.dtype(label.np_dtype).kind in "iuO"
    return "label" if simple else next(iter(classes), None)


# ---- Bundled samples ---------------------------------------------------------------------------------------


def read_sample(name: str, im_dim: int) -> Splits:
    """The small sample that is installed with the package; the same bytes on every machine."""
    resource = importlib.resources.files("vae_lib.data.samples").joinpath(f"{name}.npz")
    with resource.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        train, test = (
            Split(
                np.stack([resize_array(pixels, im_dim) for pixels in arrays[f"{part}_images"]]),
                arrays[f"{part}_labels"].astype(np.int64),
            )
            for part in ("train", "test")
        )
    return Splits(train, test, default_label_names(name))


def hashed_name(person: str) -> str:
    """A person's name as `sample_people` holds it: a salted hash, so that the sample names nobody."""
    return hashlib.sha256(f"vae_lib faces sample: {person}".encode()).hexdigest()


def sample_people() -> set[str]:
    """The hashed names of the people in the sample of faces: found, not stated by its source, see SOURCES.md."""
    text = importlib.resources.files("vae_lib.data.samples").joinpath("faces_people.txt").read_text("utf-8")
    return set(text.split())
