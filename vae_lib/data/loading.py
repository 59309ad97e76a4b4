"""Images through one function: `load_data` finds a source, decodes it once and keeps the result.

Sources in order: the decoded cache, TFDS prepared on disk, a TFDS download, the bundled sample.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import json
import numbers
import os
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs

from vae_lib.arrays import as_images, as_labels
from vae_lib.config import DATASETS
from vae_lib.data import sources
from vae_lib.errors import UserError, notice, one_of
from vae_lib.files import user_path

MANY_FILES = 500  # in a folder, from which on the decoded images are kept
CACHE_VERSION = 2  # raise it when decoding, cropping, resizing or splitting changes
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


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
    for field in ARRAYS:
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
    cache_dir: str | os.PathLike[str] | None = None,
    hold_out_sample: bool = False,
) -> ImageData:
    """Images of ``name``: 'mnist', 'fashion_mnist', 'faces', or a folder of your own.

    ``im_dim`` is the side in pixels; ``source`` is 'auto', 'tfds', 'sample' or a folder of prepared TFDS data.
    ``hold_out_sample`` leaves every image of the bundled sample out of the training part, so that the sample
    is held-out data. Paths may begin with ~ and hold environment variables. The bundled samples and folders are in the
    order of their labels. Arrays from the cache are memory-mapped and read-only. Of a folder, a line on stderr says
    how many images and classes it holds and what was left out. Raises `UserError`.

        >>> data = load_data("mnist", source="sample")
        >>> data.train_images.shape, data.train_images.dtype, data.label_names[:3]
        ((4000, 28, 28, 1), dtype('uint8'), ('0', '1', '2'))
    """
    wanted = str(name) if isinstance(name, str) and name in DATASETS else user_path(name, "the data")
    if not isinstance(im_dim, numbers.Integral) or isinstance(im_dim, bool) or not 8 <= im_dim <= 1024:
        raise UserError(f"im_dim must be a whole number from 8 to 1024, not {im_dim!r}.")
    return _load(wanted, int(im_dim), source, cache_dir, hold_out_sample)._replace(name=str(wanted))


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


def _load(
    name: str | Path,
    im_dim: int,
    source: str | os.PathLike[str],
    cache_dir: str | os.PathLike[str] | None,
    hold_out_sample: bool,
) -> ImageData:
    cache = user_path(cache_dir, "cache_dir") if cache_dir is not None else default_cache_dir()
    if isinstance(name, Path):
        if hold_out_sample:
            raise UserError("a folder has no bundled sample that could be held out: leave hold_out_sample off.")
        if source != "auto":
            raise UserError(f"a source is for {', '.join(DATASETS)}: the folder {str(name)!r} is its own.")
        return _folder(name, im_dim, cache)
    if source == "sample":
        if hold_out_sample:
            raise UserError("the bundled sample cannot be held out of itself: leave hold_out_sample off.")
        return _image_data(sources.read_sample(name, im_dim), "sample")
    data_dir, named = sources.tfds_dir()
    if source not in ("auto", "tfds"):
        folder = user_path(source, "source") if isinstance(source, str | os.PathLike) else None
        if folder is None or not os.path.isdir(folder):
            one_of("source", source, ("auto", "tfds", "sample"))
            raise UserError(f"source {source!r} is no folder.")
        data_dir, source, named = folder, "tfds", True
    found = _full_set(name, im_dim, data_dir, cache, named)
    if found is not None:
        return _without_sample(found, name) if hold_out_sample else found
    where = f"{name} is not prepared under {data_dir} and cannot be downloaded"
    if source == "tfds":
        raise UserError(f"{where}: connect to the network, or use the source 'sample'.")
    if hold_out_sample:
        raise UserError(f"{where}: only the full data set can be used without the images of the bundled sample.")
    data = _image_data(sources.read_sample(name, im_dim), "sample")
    notice(f"{where}; using the bundled sample of {len(data.train_images)} training images.")
    return data


def _full_set(name: str, im_dim: int, data_dir: Path, cache: Path | None, named: bool) -> ImageData | None:
    """The whole data set from the cache, from disk or from the network, in this order; None without any.

    Where ``data_dir`` was named and lacks the set, what the cache holds is from elsewhere and is not used.
    """
    prepared = sources.prepared_folder(name, data_dir)
    key, entry = f"{name}-{im_dim}-v{CACHE_VERSION}-", None
    if cache is not None:
        kept = [] if named else sorted(cache.glob(key + "*"), key=lambda path: path.lstat().st_mtime)
        entry = cache / (key + _fingerprint(prepared)) if prepared else next(reversed(kept), None)
    if entry is not None and (cached := _read_cache(entry)) is not None:
        return cached
    if prepared is None and not sources.host_answers(name):
        return None
    try:
        if prepared is None:
            notice(f"downloading {name} to {data_dir} with TensorFlow Datasets.")
        splits = sources.read_tfds(name, im_dim, data_dir, download=prepared is None)
    except UserError as error:
        if prepared is not None:
            raise
        notice(str(error))  # a download that failed half-way is no data set
        return None
    prepared = sources.prepared_folder(name, data_dir)
    assert prepared is not None, "read_tfds returns only from a prepared folder"
    data = _image_data(splits, "tfds")
    return data if cache is None else _write_cache(cache / (key + _fingerprint(prepared)), data)


def _folder(folder: Path, im_dim: int, cache: Path | None) -> ImageData:
    if not os.path.isdir(folder):
        near = difflib.get_close_matches(str(folder), DATASETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(DATASETS)}, or a folder."
        raise UserError(f"data {str(folder)!r} is neither a data set nor a folder of images: {hint}")
    listing, data, entry = sources.list_folder(folder), None, None
    if cache is not None and len(listing.files) >= MANY_FILES:
        entry = cache / f"folder-{im_dim}-v{CACHE_VERSION}-{listing.key}"
        data = _read_cache(entry, "folder")
    if data is None:
        data = _image_data(sources.read_folder(listing, im_dim), "folder")
        if entry is not None:
            data = _write_cache(entry, data)
    notice(listing.describe(len(data.label_names)))
    return data


def _image_data(splits: sources.Splits, source: str) -> ImageData:
    return ImageData(*splits.train, *splits.test, splits.label_names, source)


def _without_sample(data: ImageData, name: str) -> ImageData:
    """``data`` without the images of the bundled sample; of faces, without every person that the sample shows."""
    if name == "faces":
        people = sources.sample_people()
        shown = np.array([sources.hashed_name(name) in people for name in data.label_names])
        keep = ~shown[data.train_labels]
        return data._replace(train_images=data.train_images[keep], train_labels=data.train_labels[keep])
    sample = sources.read_sample(name, data.train_images.shape[1])
    known = {image.tobytes() for part in (sample.train, sample.test) for image in part.images}
    keep = np.array([image.tobytes() not in known for image in data.train_images])
    return data._replace(train_images=data.train_images[keep], train_labels=data.train_labels[keep])


# ---- The decoded cache -------------------------------------------------------------------------------------


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


def _read_cache(entry: Path, source: str = "tfds") -> ImageData | None:
    """A cached data set, memory-mapped; None where it is missing, and also, with a notice, where it is damaged."""
    if not os.path.isdir(entry):
        return None
    try:
        record = json.loads((entry / "contents.json").read_text("utf-8"))
        if record["crc32"] != {field: _crc32(entry / f"{field}.npy") for field in ARRAYS}:
            raise ValueError("a checksum differs")
        names = tuple(record["label_names"])
        arrays = {f: np.load(entry / f"{f}.npy", mmap_mode="r", allow_pickle=False) for f in ARRAYS}
    except (OSError, ValueError, EOFError, KeyError, TypeError, RecursionError) as error:
        notice(f"the cache {entry} is damaged ({error}); making it again.")
        _forget(entry)
        return None
    return ImageData(**arrays, label_names=names, source=source)


def _forget(entry: Path) -> None:
    """Delete what `_write_cache` wrote, and the folder unless somebody keeps files of their own in it."""
    with contextlib.suppress(OSError):
        for name in (*(f"{field}.npy" for field in ARRAYS), "contents.json"):
            (entry / name).unlink(missing_ok=True)
        entry.rmdir()


def _write_cache(entry: Path, data: ImageData) -> ImageData:
    """Keep ``data`` under ``entry`` (complete or not at all) and return it memory-mapped; with a notice and
    unchanged where that cannot be written."""
    staging = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=entry.parent))
        for field in ARRAYS:
            np.save(staging / f"{field}.npy", getattr(data, field), allow_pickle=False)
        crc32 = {field: _crc32(staging / f"{field}.npy") for field in ARRAYS}
        (staging / "contents.json").write_text(json.dumps({"label_names": data.label_names, "crc32": crc32}), "utf-8")
        with contextlib.suppress(FileExistsError):
            _rename_new(staging, entry)
    except OSError as error:
        notice(f"cannot keep decoded images under {entry.parent} ({error.strerror}); going on without.")
        return data
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return _read_cache(entry, data.source) or data


def _crc32(path: Path) -> int:
    """The checksum of a file: it finds flipped bits."""
    value = 0
    with open(path, "rb") as file:
        while block := file.read(2**22):
            value = zlib.crc32(block, value)
    return value


def _rename_new(staging: Path, entry: Path) -> None:
    """Move a folder to a name that is free; FileExistsError where another process was first."""
    try:
        staging.rename(entry)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise FileExistsError(str(entry)) from error
        raise
