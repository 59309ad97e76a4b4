"""Keep a run's weights in half precision where that costs less than 0.01 nat: ``python -m tools.halve RUN ...``.

The file is then half as large; Keras reads it into single precision. Measure the run afterwards (``make numbers``).
"""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path

import h5py
import numpy as np

from vae_lib import evaluate, load_data, load_run
from vae_lib.files import write_atomically
from vae_lib.model import VAE
from vae_lib.runs.store import Run, write_config
from vae_lib.runs.trust import WEIGHTS

MOST = 0.01  # nats an image
IMAGES = 1000


def loss(model: VAE, run: Run) -> float:
    """-log p(x) of a model without an encoder, otherwise the -ELBO, of the first test images in nats."""
    data = load_data(run.config.data.name, run.config.model.im_dim)
    numbers = evaluate(model, data.test_images[:IMAGES], samples=[], exact=run.config.model.inference == "grid")
    return -float(numbers.get("log_px", numbers["elbo"]))


def halve(name: str) -> None:
    run = load_run(name)
    before = loss(run.model, run)
    run.model.set_weights([weight.astype(np.float16).astype(np.float32) for weight in run.model.get_weights()])
    cost = loss(run.model, run) - before
    print(f"{name}: {before:.3f} nats an image, in half precision {cost:+.4f}")
    if not cost < MOST:  # NaN, where a weight is too large for half precision, stays too
        raise SystemExit(f"{name} stays in single precision.")
    path = run.path / WEIGHTS
    content = halved(path)
    write_atomically(path, content)
    write_config(run.path, run.config, hashlib.sha256(content).hexdigest())


def halved(path: Path) -> bytes:
    """The content of an HDF5 file with all arrays in half precision."""

    def copy(source: h5py.Group, target: h5py.Group) -> None:
        target.attrs.update(source.attrs)
        for key, item in source.items():
            if isinstance(item, h5py.Group):
                copy(item, target.create_group(key))
            else:
                target.create_dataset(key, data=item[()].astype(np.float16))

    content = io.BytesIO()
    with h5py.File(path) as source, h5py.File(content, "w") as target:
        copy(source, target)
    return content.getvalue()


def main() -> None:
    for name in sys.argv[1:]:
        halve(name)


if __name__ == "__main__":
    main()
