"""Where images come from: TensorFlow Datasets, the bundled samples, folders. The only import of ``tfds``.

Each reader returns ``(images, labels, names)`` per split with images resized to ``im_dim``; `vae_lib.data.loading`
chooses between them and caches what they return.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import logging
import os
import threading
import urllib.request
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from PIL import Image, ImageChops, ImageOps

from vae_lib.errors import UserError
from vae_lib.files import user_path

TFDS_BUILDERS = {"mnist": "mnist:3.0.1", "fashion_mnist": "fashion_mnist:3.0.1", "faces": "lfw:0.1.1"}
HOSTS = {  # what TFDS downloads each data set from
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
    "faces": "https://ndownloader.figshare.com/files/5976018",
}
SAMPLE_NOTE = "The sample that vae_lib brings along, not the whole data set."
HOST_SECONDS = 3.0
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# LFWcrop (Sanderson and Lovell 2009): columns 83..166 and rows 92..175 of the 250 x 250 image, inclusive.
FACE_BOX = (83, 92, 167, 176)
TEST_SHARE = 10  # one person, or one file of a folder, in ten is held out
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


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


def resize(image: Image.Image, im_dim: int) -> np.ndarray:
    """A Pillow image scaled to im_dim x im_dim with anti-aliasing, (im_dim, im_dim, C) uint8."""
    if image.size != (im_dim, im_dim):
        image = image.resize((im_dim, im_dim), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def memory() -> float:
    """The memory that this process may use, in bytes: the machine's, or less in a container; infinite if unknown."""
    limits = [float("inf")]
    with contextlib.suppress(AttributeError, ValueError, OSError):
        limits.append(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    for path in CGROUP_LIMITS:
        with contextlib.suppress(ValueError, OSError):  # "max" is no number
            limits.append(float(Path(path).read_text()))
    return min(limits)


def check_room(n: int, im_dim: int, channels: int = 1) -> None:
    """Raise `UserError` where the memory cannot hold ``n`` decoded images twice."""
    needed, there = 2.0 * n * im_dim**2 * channels, memory()
    if needed > there:
        raise UserError(
            f"{n:,} images of {im_dim} x {im_dim} pixels take {needed / 1e9:,.0f} GB of memory while they are decoded "
            f"and the machine has {there / 1e9:.0f} GB: lower the image size."
        )


def resize_all(images: np.ndarray, im_dim: int) -> np.ndarray:
    """`resize` for grey images (N, H, W, 1) uint8, unchanged where they already fit."""
    check_room(len(images), im_dim)
    if images.shape[1:3] == (im_dim, im_dim):
        return np.ascontiguousarray(images)
    return np.stack([resize(Image.fromarray(image[..., 0]), im_dim) for image in images])


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


def prepared_folder(name: str, data_dir: Path) -> Path | None:
    """Where a data set lies prepared under ``data_dir``, or None; a sample that `write_as_tfds` wrote is none."""
    folder = data_dir / TFDS_BUILDERS[name].replace(":", "/")
    return folder if os.path.isfile(folder / "dataset_info.json") and not holds_sample(folder) else None


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
        request = urllib.request.Request(HOSTS[name], method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=HOST_SECONDS):
                answers.append(True)
        except (OSError, ValueError):  # URLError and HTTPError are OSErrors
            answers.append(False)

    # A thread, because a look-up of a host name cannot be given a time limit.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HOST_SECONDS)
    return answers == [True]


def read_tfds(name: str, im_dim: int, data_dir: Path, *, download: bool = False) -> Splits:
    """A data set through TFDS, from disk unless ``download``; raises `UserError` where it cannot be read."""
    try:
        from vae_lib.backend import tf  # imported here: reading a cache or a sample needs no TensorFlow

        tf.get_logger().setLevel("ERROR")
        import tensorflow_datasets as tfds

        if download:
            tfds.builder(TFDS_BUILDERS[name], data_dir=data_dir).download_and_prepare()
        folder = prepared_folder(name, data_dir)
        if folder is None:
            raise UserError(f"{name} is not prepared under {data_dir}: set TFDS_DATA_DIR to where it is.")
        builder = tfds.builder_from_directory(folder)  # unlike tfds.load, it never asks the network
        if name == "faces":
            return _read_faces(tfds.as_numpy(builder.as_dataset(split="train")), im_dim)
        train, test = (_read_split(tfds, builder, split, im_dim) for split in ("train", "test"))
        return Splits(train, test, default_label_names(name))
    except UserError:
        raise
    except Exception as error:  # TFDS raises many kinds; each means that the data cannot be had from it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"TensorFlow Datasets cannot read {name} under {data_dir}: {reason}") from error


def _read_split(tfds: Any, builder: Any, split: str, im_dim: int) -> Split:
    batches = list(tfds.as_numpy(builder.as_dataset(split=split, batch_size=1000, shuffle_files=False)))
    images = np.concatenate([batch["image"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    return Split(resize_all(images, im_dim), labels.astype(np.int64))


def _read_faces(examples: Iterable[dict[str, Any]], im_dim: int) -> Splits:
    """LFW people as grey crops, the test set holding about a tenth of the people and all of their pictures."""
    images, people = [], []
    for example in examples:
        face = Image.fromarray(example["image"]).crop(FACE_BOX).convert("L")
        images.append(resize(face, im_dim))
        people.append(example["label"].decode())
    return split(np.stack(images), people, np.array([in_test_set(person) for person in people]))


def split(images: np.ndarray, labels: list[str], held_out: np.ndarray) -> Splits:
    """The parts that are not and that are held out, (N,) bool; labels become indices of sorted names."""
    names, indices = np.unique(labels, return_inverse=True)
    parts = [Split(images[keep], indices[keep].astype(np.int64)) for keep in (~held_out, held_out)]
    return Splits(parts[0], parts[1], tuple(str(name) for name in names))


# ---- Bundled samples ---------------------------------------------------------------------------------------


def read_sample(name: str, im_dim: int) -> Splits:
    """The small sample that is installed with the package; the same bytes on every machine."""
    resource = importlib.resources.files("vae_lib.data.samples").joinpath(f"{name}.npz")
    with resource.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        train, test = (
            Split(resize_all(arrays[f"{part}_images"], im_dim), arrays[f"{part}_labels"].astype(np.int64))
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


# ---- Folders of images -------------------------------------------------------------------------------------


class Listing(NamedTuple):
    """The images below a folder, sorted by their paths, and how many files of each other kind there are."""

    folder: Path
    files: list[Path]
    left_out: Counter[str]

    @property
    def key(self) -> str:
        """Sixteen hex digits that change with the path, the size or the time of any file."""
        digest = hashlib.blake2b(os.fsencode(os.path.realpath(self.folder)), digest_size=8)
        for file in self.files:
            found = file.stat()
            digest.update(os.fsencode(file) + f" {found.st_size} {found.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def describe(self, classes: int) -> str:
        """What was found, for people."""
        found = f"{len(self.files):,} images in " + ("1 class" if classes == 1 else f"{classes:,} classes")
        others = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.left_out.items()))
        return f"{self.folder}: {found}" + (f"; left out: {others}." if others else ".")


def list_folder(folder: Path) -> Listing:
    """Every image below ``folder``; links are followed. Hidden files and folders are left out, as is what is no image.

    Raises `UserError`.
    """
    files, left_out = _image_files(folder)
    if len(files) < 2:
        raise UserError(f"{folder} holds {len(files)} images ({', '.join(sorted(IMAGE_SUFFIXES))}); it needs 2.")
    return Listing(folder, files, left_out)


def read_folder(listing: Listing, im_dim: int) -> Splits:
    """The images of a folder, all grey or all RGB; each one's sub-folder is its label.

    About one file in ten, chosen by its name, is held out (at least one on either side). Images are turned upright as
    their cameras noted, and resized to a square. Raises `UserError` naming the first file that cannot be used.
    """
    folder, files, _ = listing
    check_room(len(files), im_dim, 3)
    names = [file.relative_to(folder).as_posix() for file in files]
    held_out = np.array([in_test_set(name) for name in names])
    if held_out.all() or not held_out.any():  # too few files for chance: hold the last one out
        held_out = np.arange(len(names)) == len(names) - 1
    return split(decode_all(folder, files, im_dim), [str(Path(name).parent) for name in names], held_out)


def decode_all(folder: Path, files: Sequence[Path], im_dim: int) -> np.ndarray:
    """The images in files of a folder, resized to a square, (N, im_dim, im_dim, C) uint8, by a thread for each core.

    Raises `UserError` for the first file that cannot be used, and where grey and colour are mixed.
    """

    def decode(file: Path) -> np.ndarray:
        return resize(_open(file, im_dim), im_dim)  # at once: a photo takes a thousand times the memory

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:
        try:
            images: np.ndarray | None = None
            for i, pixels in enumerate(pool.map(decode, files)):
                if images is None:
                    images = np.empty([len(files), *pixels.shape], np.uint8)
                if pixels.shape != images.shape[1:]:
                    first, other = ("grey" if shape[-1] == 1 else "RGB" for shape in (images.shape, pixels.shape))
                    raise UserError(
                        f"{folder} mixes kinds of images, {first} ({files[0].name}) and {other} ({files[i].name}): "
                        "convert them all to grey or all to RGB."
                    )
                images[i] = pixels
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    assert images is not None
    return images


def _image_files(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The images below a folder, and how many files of each other kind there are; a linked folder is entered once."""
    if not os.path.isdir(folder):
        raise UserError(f"{folder} is not a folder.")

    def refuse(error: OSError) -> NoReturn:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): make it readable, or move it away.")

    def is_file(path: Path) -> bool:
        try:
            return path.is_file()
        except OSError as error:  # in a folder whose names can be read, but not what they name
            return refuse(error)

    found: list[Path] = []
    others: Counter[str] = Counter()
    entered = {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        hidden = [name for name in (*folders, *files) if name.startswith(".")]
        others["hidden"] += len(hidden)
        inside = [Path(place, name) for name in folders if name not in hidden]
        folders.clear()
        for inner in sorted(inside, key=lambda path: (path.is_symlink(), path)):  # a link gives way to the folder
            if (real := os.path.realpath(inner)) not in entered:
                entered.add(real)
                folders.append(inner.name)
        for path in (Path(place, name) for name in files if name not in hidden):
            if path.suffix.lower() in IMAGE_SUFFIXES and is_file(path):
                found.append(path)
            else:
                others[path.suffix.lower() or "without an ending"] += 1
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix()), +others


def _open(file: Path, im_dim: int) -> Image.Image:
    """An image as grey or RGB, upright; a large JPEG is decoded to about twice ``im_dim``, which is much faster."""
    try:
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("ignore")  # what Pillow can read all the same
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # which phones write: a photo and its preview
                raise UserError(f"{file} is an animation of {frames} frames: keep one of them.")
            image.draft(None, (2 * im_dim, 2 * im_dim))
            image.load()
            upright = ImageOps.exif_transpose(image)
            if "transparency" in upright.info:
                raise UserError(f"{file} has transparent pixels: flatten it.")
            if upright.mode == "P":
                upright = upright.convert("RGB")
                red, *others = upright.split()
                if all(ImageChops.difference(red, other).getextrema() == (0, 0) for other in others):
                    upright = red  # a palette of greys
            mode = "L" if upright.mode == "1" else upright.mode
            if mode not in ("L", "RGB"):
                raise UserError(f"{file} has the pixel format {mode}: convert it to 8-bit grey or RGB.")
            return upright.convert(mode)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow raises many kinds for what a file can hold
        raise UserError(f"{file} cannot be read as an image: {error}.") from None
