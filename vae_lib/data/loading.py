"""Images through one function: `load_data` finds a source, decodes it once and keeps the result.

Sources in order: the decoded cache, TFDS prepared on disk, a TFDS download, the bundled sample. Full sets
and large folders are decoded one image after another into files of the cache, from which they are memory-mapped: they
may be more than the memory holds.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import numbers
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
import tqdm

from vae_lib.arrays import as_images, as_labels
from vae_lib.config import DATASETS, is_dataset
from vae_lib.data import cache, folders, sources
from vae_lib.data.sources import Example, Images
from vae_lib.errors import UserError, notice, one_of
from vae_lib.files import user_path
from vae_lib.memory import IN_MEMORY, memory

MANY_FILES = 500  # in a folder, from which on the decoded images are kept
CACHE_VERSION = 2  # raise it when decoding, cropping, resizing or splitting changes
HELD_OUT = "-without-sample"  # what the name of an entry ends in
BAR_SECONDS = 2.0  # of decoding before a progress bar appears


class ImageData(NamedTuple):
    """A data set: images (N, H, W, C) uint8, labels (N,) int64, their names, and where it all came from.

    ``source`` is 'tfds' (the full set), 'sample' (the bundled one), 'folder', or 'array' for what came from elsewhere;
    ``name`` is what was asked for.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    label_names: tuple[str, ...]
    source: str
    name: str = ""

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.train_images.shape[1:]))
        classes = f"{len(self.label_names):,} classes" if len(self.label_names) != 1 else "1 class"
        return (
            f"ImageData({self.name or 'images'}, {self.source}: {len(self.train_images):,} training and "
            f"{len(self.test_images):,} test images of {shape}, {classes})"
        )


def fingerprint(data: ImageData) -> str:
    """Sixteen hex digits that change with any pixel or label of a data set, its name, or their order."""
    digest = hashlib.blake2b(digest_size=8)
    for field in cache.ARRAYS:
        array = np.ascontiguousarray(getattr(data, field))
        digest.update(f"{field} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    digest.update(repr(data.label_names).encode())
    return digest.hexdigest()


def as_image_data(data: Any, shape: tuple[int, ...]) -> ImageData:
    """An `ImageData` of images of that shape: as given, or from training images (N, *shape) alone.

    Raises `UserError` for what is neither.
    """
    if not isinstance(data, ImageData):
        if isinstance(data, tuple | dict) or hasattr(data, "element_spec") or hasattr(data, "test_images"):
            raise UserError(f"data must be what load_data returns, or an array of images, not {type(data).__name__}.")
        images = as_images(data, shape, what="training images")
        none = np.zeros([0, *shape], np.uint8)
        return ImageData(images, np.zeros(len(images), np.int64), none, np.zeros(0, np.int64), (), "array")
    train = as_images(data.train_images, shape, what="training images", empty=True)
    test = as_images(data.test_images, shape, what="test images", empty=True)
    labels = [as_labels(data.train_labels, len(train)), as_labels(data.test_labels, len(test))]
    names = tuple(str(name) for name in data.label_names or ())
    if names and max(int(part.max(initial=0)) for part in labels) >= len(names):
        raise UserError(f"there are labels beyond the {len(names)} names: give a name for each.")
    return data._replace(
        train_images=train, train_labels=labels[0], test_images=test, test_labels=labels[1], label_names=names
    )


def load_data(
    name: str | os.PathLike[str],
    im_dim: int = 28,
    *,
    source: str | os.PathLike[str] = "auto",
    channels: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    hold_out_sample: bool = False,
    skip_broken: bool = False,
) -> ImageData:
    """Images of ``name``: 'mnist', 'fashion_mnist', 'faces', 'tfds:NAME', or a folder of your own.

    'tfds:NAME' is any data set of TensorFlow Datasets that has images: 'tfds:kmnist', 'tfds:emnist/letters',
    'tfds:cifar10:3.0.2'. Where it has no test split, 'validation' serves, or else every tenth image or so.
    ``im_dim`` is the side in pixels; ``source`` is 'auto', 'tfds', 'sample' or a folder of prepared TFDS data.
    ``channels`` 1 or 3 converts the images of a folder, or of 'tfds:NAME', to grey or RGB.
    ``hold_out_sample`` leaves every image of the bundled sample out of the training part, so that the sample
    is held-out data. ``skip_broken`` names and leaves out the files of a folder that cannot be used, and without it the
    first of them is an error. Paths may begin with ~ and hold environment variables. The bundled samples and folders
    are in the order of their labels. Arrays from the cache are memory-mapped and read-only. Of a folder, a line on
    stderr says how many images and classes it holds and what was left out. Raises `UserError`.

        >>> data = load_data("mnist", source="sample")
        >>> data.train_images.shape, data.train_images.dtype, data.label_names[:3]
        ((4000, 28, 28, 1), dtype('uint8'), ('0', '1', '2'))
    """
    wanted = name if isinstance(name, str) and is_dataset(name) else user_path(name, "the data")
    if channels not in (None, 1, 3) or isinstance(channels, bool):
        raise UserError(f"channels must be 1 (grey) or 3 (RGB), not {channels!r}.")
    if not isinstance(im_dim, numbers.Integral) or isinstance(im_dim, bool) or not 8 <= im_dim <= 1024:
        raise UserError(f"im_dim must be a whole number from 8 to 1024, not {im_dim!r}.")
    folder = user_path(cache_dir, "cache_dir") if cache_dir is not None else default_cache_dir()
    asked = _Asked(wanted, int(im_dim), channels, source, folder, hold_out_sample, skip_broken)
    return (_folder(asked) if isinstance(wanted, Path) else _data_set(asked))._replace(name=str(wanted))


def prepare_sample(name: str = "mnist", data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Write the bundled sample as a prepared TFDS data set, so that ``tfds.load(name, data_dir=...)`` reads it.

    ``name`` is 'mnist' or 'fashion_mnist'. Returns ``data_dir``, by default a folder in the cache; what is prepared
    there already is left as it is. The sample has about 4,000 training and 1,000 test images, and needs no network.
    Raises `UserError`.

        >>> import tensorflow_datasets
        >>> from vae_lib import prepare_sample
        >>> digits = tensorflow_datasets.load("mnist", split="test", data_dir=prepare_sample("mnist"))
        >>> len(digits)
        1000
    """
    one_of("the sample", name, ("mnist", "fashion_mnist"))
    if data_dir is not None:
        folder = user_path(data_dir, "the data's folder")
    elif (cache := default_cache_dir()) is not None:
        folder = cache / "tfds_sample"
    else:
        raise UserError("there is no place for a cache here: give data_dir, or set VAE_LIB_CACHE.")
    sources.write_as_tfds(name, sources.read_sample(name, 28), folder)
    return folder


class _Asked(NamedTuple):
    """What `load_data` was asked for."""

    name: str | Path
    im_dim: int
    channels: int | None
    source: str | os.PathLike[str]
    cache: Path | None
    hold_out_sample: bool
    skip_broken: bool

    def key(self, kind: str, channels: int | None) -> str:
        """What the name of its entry in the cache begins with."""
        return f"{kind}-{self.im_dim}{f'x{channels}' if channels else ''}-v{CACHE_VERSION}-"


def _data_set(asked: _Asked) -> ImageData:
    name, source, held_out = str(asked.name), asked.source, asked.hold_out_sample
    documented = name in DATASETS
    if asked.skip_broken:
        raise UserError("skip_broken is for the files of a folder: leave it off.")
    if documented and asked.channels not in (None, 1):
        raise UserError(f"the images of {name} are grey: leave channels off.")
    if not documented:
        sources.builder_name(name)  # raises where it cannot be one
        if held_out or source == "sample":
            raise UserError(f"there are samples of {', '.join(DATASETS)} only, not of {name}.")
    if source == "sample":
        if held_out:
            raise UserError("the bundled sample cannot be held out of itself: leave hold_out_sample off.")
        return _sample(name, asked.im_dim)
    data_dir, named = sources.tfds_dir()
    if source not in ("auto", "tfds"):
        folder = user_path(source, "source") if isinstance(source, str | os.PathLike) else None
        if folder is None or not os.path.isdir(folder):
            one_of("source", source, ("auto", "tfds", "sample"))
            raise UserError(f"source {source!r} is no folder.")
        data_dir, source, named = folder, "tfds", True
    found = _full_set(asked, name, data_dir, named)
    if found is not None:
        return _without_sample(found, name) if held_out else found
    where = f"{name} is not prepared under {data_dir} and cannot be downloaded"
    if not documented:
        raise UserError(f"{where}: connect to the network, or set TFDS_DATA_DIR to where it is.")
    if source == "tfds":
        raise UserError(f"{where}: connect to the network, or use the source 'sample'.")
    if held_out:
        raise UserError(f"{where}: only the full data set can be used without the images of the bundled sample.")
    data = _sample(name, asked.im_dim)
    notice(f"{where}; using the bundled sample of {len(data.train_images)} training images.")
    return data


def _sample(name: str, im_dim: int) -> ImageData:
    sample = sources.read_sample(name, im_dim)
    return ImageData(*sample.train, *sample.test, sample.label_names, "sample")


def _full_set(asked: _Asked, name: str, data_dir: Path, named: bool) -> ImageData | None:
    """The whole data set from the cache, from disk or from the network, in this order; None without any.

    Where ``data_dir`` was named and lacks the set, what the cache holds is from elsewhere and is not used.
    """
    prepared, channels = sources.prepared_folder(name, data_dir), None if name in DATASETS else asked.channels
    key, entry = asked.key(sources.file_name(name), channels), None
    if asked.cache is not None:
        kept = [] if named else sorted(asked.cache.glob(key + "*"), key=lambda path: path.lstat().st_mtime)
        kept = [path for path in kept if not path.name.endswith(HELD_OUT)]
        entry = asked.cache / (key + _fingerprint(prepared)) if prepared else next(reversed(kept), None)
    if entry is not None and (cached := cache.read(entry)) is not None:
        return ImageData(*cached, "tfds")
    if prepared is None:
        if name not in DATASETS:
            sources.check_known(name)
        if not sources.host_answers(name):
            return None
    try:
        if prepared is None:
            notice(f"downloading {name} to {data_dir} with TensorFlow Datasets.")
        images = sources.read_tfds(name, asked.im_dim, data_dir, channels, download=prepared is None)
    except UserError as error:
        if prepared is not None:
            raise
        notice(str(error))  # a download that failed half-way is no data set
        return None
    prepared = sources.prepared_folder(name, data_dir)
    assert prepared is not None, "read_tfds returns only from a prepared folder"
    entry = None if asked.cache is None else asked.cache / (key + _fingerprint(prepared))
    return _decoded(images, entry, asked.im_dim, 1 if name in DATASETS else channels or 3, "tfds")


def _folder(asked: _Asked) -> ImageData:
    folder = Path(asked.name)
    if asked.hold_out_sample:
        raise UserError("a folder has no bundled sample that could be held out: leave hold_out_sample off.")
    if asked.source != "auto":
        raise UserError(f"a source is for {', '.join(DATASETS)}: the folder {str(folder)!r} is its own.")
    if not os.path.isdir(folder):
        near = difflib.get_close_matches(str(folder), DATASETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(DATASETS)}, tfds:NAME, or a folder."
        raise UserError(f"data {str(folder)!r} is neither a data set nor a folder of images: {hint}")
    listing, data, entry = folders.list_folder(folder), None, None
    if asked.cache is not None and len(listing.files) >= MANY_FILES:
        ending = listing.key + ("-skipped" if asked.skip_broken else "")
        entry = asked.cache / (asked.key("folder", asked.channels) + ending)
        for channels in {None, asked.channels}:  # what needed no conversion serves too
            cached = cache.read(asked.cache / (asked.key("folder", channels) + ending))
            if cached is not None and asked.channels in (None, cached.train_images.shape[-1]):
                data = ImageData(*cached, "folder")
    if data is None:
        images = folders.read_folder(listing, asked.im_dim, asked.channels, skip_broken=asked.skip_broken)
        data = _decoded(images, entry, asked.im_dim, asked.channels or 3, "folder")
        if entry is not None:  # what was kept of the folder before it changed
            for other in entry.parent.glob(f"{entry.name.rpartition('.')[0]}.*"):
                if other != entry and other.name.endswith("-skipped") == asked.skip_broken:
                    cache.forget(other)
    notice(listing.describe(len(data.train_images) + len(data.test_images), len(data.label_names)))
    return data


def _decoded(images: Images, entry: Path | None, im_dim: int, channels: int, source: str) -> ImageData:
    """Decoded images, kept under ``entry`` and memory-mapped; with a notice and in memory where that cannot be.

    ``channels`` is the most that they can have. Raises `UserError` where neither disk nor memory has room for them.
    """
    needed = 1.0 * images.total * im_dim**2 * channels
    if entry is not None:
        try:
            place = next((path for path in entry.parents if path.is_dir()), None)
            if place is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            if needed > shutil.disk_usage(place).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            cache.write(entry, _with_bar(images), images.label_names)
            if (cached := cache.read(entry)) is not None:
                return ImageData(*cached, source)
        except OSError as error:
            notice(f"cannot keep decoded images under {entry.parent} ({error.strerror}); going on without.")
    if 2 * needed > memory():
        raise UserError(
            f"{images.total:,} images of {im_dim} x {im_dim} pixels take {2 * needed / 1e9:,.0f} GB of "
            f"memory while they are decoded and the machine has {memory() / 1e9:.0f} GB: lower the image size, or set "
            "VAE_LIB_CACHE to a folder with room."
        )
    return ImageData(*cache.in_memory(_with_bar(images), images.label_names), source)


def _with_bar(images: Images) -> Iterator[Example]:
    """The examples, with a progress bar where somebody waits for them at a terminal."""
    return iter(tqdm.tqdm(images.examples(), "decoding", images.total, False, delay=BAR_SECONDS, disable=None))


def _without_sample(data: ImageData, name: str) -> ImageData:
    """``data`` without the images of the bundled sample; of faces, without every person that the sample shows."""
    if name == "faces":
        people = sources.sample_people()
        shown = np.array([sources.hashed_name(name) in people for name in data.label_names])
        keep = ~shown[data.train_labels]
    else:
        sample = sources.read_sample(name, data.train_images.shape[1])
        known = {image.tobytes() for part in (sample.train, sample.test) for image in part.images}
        keep = np.array([image.tobytes() not in known for image in data.train_images])
    if data.train_images.nbytes <= IN_MEMORY * memory():
        return data._replace(train_images=data.train_images[keep], train_labels=data.train_labels[keep])

    def examples() -> Iterator[Example]:
        for i in np.flatnonzero(keep):
            yield Example(data.train_images[i], int(data.train_labels[i]), False)
        for pixels, label in zip(data.test_images, data.test_labels, strict=True):
            yield Example(pixels, int(label), True)

    whole = getattr(data.train_images, "filename", None)
    entry = Path(whole).parent.with_name(Path(whole).parent.name + HELD_OUT) if whole else None
    cached = None if entry is None else cache.read(entry)
    if cached is not None:
        return ImageData(*cached, data.source)
    kept = Images(int(keep.sum()) + len(data.test_images), examples, data.label_names)
    return _decoded(kept, entry, data.train_images.shape[1], 1, data.source)


# ---- Where decoded images are kept ---------------------------------------------------------------------------


def default_cache_dir() -> Path | None:
    """``VAE_LIB_CACHE``, or the folder for vae_lib where the system keeps caches; None for a user without a home."""
    if named := os.environ.get("VAE_LIB_CACHE"):
        return user_path(named)
    try:
        return Path(platformdirs.user_cache_dir("vae_lib", appauthor=False))
    except RuntimeError:
        return None


def _fingerprint(prepared: Path) -> str:
    """Twelve hex digits that tell one prepared data set from another of the same name and version."""
    return hashlib.sha256((prepared / "dataset_info.json").read_bytes()).hexdigest()[:12]
