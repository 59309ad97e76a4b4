"""Find out whom the sample of faces shows, so that they can be held out.

    python -m tools.find_people --hashes > faces_people.txt

scikit-image's patches are faces of Labeled Faces in the Wild, turned, cut out and sampled at 25 x 25 points, and their
people are not named. Each patch is compared with every picture of the full data set, first upright on a coarse
lattice of places and sizes, then, for the likeliest pictures, with a search over angle, size and place. One line a
patch: the person, and the correlation of the patch with the best picture and with the best one of somebody else.
With ``--hashes`` only the salted hashes of the names are
printed, sorted, as faces_people.txt holds them. Needs the full data set; takes about ten minutes.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

from vae_lib.data import sources

SIDE, PATCH = 250, 25
CANDIDATES = 60
GRID = np.stack(np.meshgrid(*[(np.arange(PATCH) + 0.5) / PATCH - 0.5] * 2), axis=0).reshape(2, -1)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows with mean 0 and length 1, so that products are correlations."""
    rows = rows.astype(np.float32)
    rows -= rows.mean(axis=-1, keepdims=True)
    return rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + 1e-6)


def points(angle: np.ndarray, size: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the points of turned squares: angle in degrees, size and centre in pixels; (..., 625)."""
    cos, sin = np.cos(np.deg2rad(angle))[..., None], np.sin(np.deg2rad(angle))[..., None]
    columns = x[..., None] + size[..., None] * (cos * GRID[0] - sin * GRID[1])
    rows = y[..., None] + size[..., None] * (sin * GRID[0] + cos * GRID[1])
    return np.clip(rows, 0, SIDE - 1).astype(np.int16), np.clip(columns, 0, SIDE - 1).astype(np.int16)


def upright(pictures: np.ndarray, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best correlation of every picture with every patch and where, (N, M) and (N, M, 3)."""
    best = np.full([len(pictures), len(patches)], -1.0, np.float32)
    place = np.zeros([*best.shape, 3], np.float32)
    for size in range(100, 146, 3):
        for x in range(122, 146, 4):
            for y in range(122, 146, 4):
                rows, columns = points(*(np.array(float(a)) for a in (0, size, x, y)))
                found = unit(pictures[:, rows, columns]) @ patches.T
                better = found > best
                best[better], place[better] = found[better], (size, x, y)
    return best, place


def refine(picture: np.ndarray, patch: np.ndarray, start: np.ndarray, rng: np.random.Generator) -> float:
    """The best correlation near ``start`` (angle, size, x, y), by random steps that grow shorter."""
    best, where = -1.0, start
    for length in (8.0, 6.0, 4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.3):
        tries = where + length * rng.standard_normal([600, 4]) * [1.2, 1.5, 1.0, 1.0]
        rows, columns = points(*tries.T)
        found = unit(picture[rows, columns]) @ patch
        if found.max() > best:
            best, where = float(found.max()), tries[found.argmax()]
        elif best < 0.7:
            break
    return best


def main() -> None:
    import tensorflow_datasets as tfds

    folder = sources.prepared_folder("faces", sources.tfds_dir()[0])
    if folder is None:
        sys.exit("the full data set is needed: set TFDS_DATA_DIR.")
    examples = list(tfds.as_numpy(tfds.builder_from_directory(folder).as_dataset(split="train")))
    people = [example["label"].decode() for example in examples]
    pictures = np.stack([np.asarray(Image.fromarray(example["image"]).convert("L")) for example in examples])
    sample = sources.read_sample("faces", PATCH)
    patches = unit(np.concatenate([part.images.reshape(-1, PATCH**2) for part in (sample.train, sample.test)]))
    best, place = upright(pictures, patches)
    rng, hashes = np.random.default_rng(0), set[str]()
    for m, patch in enumerate(patches):
        found: dict[str, float] = {}
        for n in best[:, m].argsort()[::-1][:CANDIDATES]:
            value = refine(pictures[n], patch, np.array([0.0, *place[n, m]]), rng)
            found[people[n]] = max(found.get(people[n], -1.0), value)
        first, second = sorted(found, key=lambda name: -found[name])[:2]
        hashes.add(sources.hashed_name(first))
        if "--hashes" not in sys.argv:
            print(f"{first} {found[first]:.3f} {found[second]:.3f}", flush=True)
    if "--hashes" in sys.argv:
        print("\n".join(sorted(hashes)))


if __name__ == "__main__":
    main()
