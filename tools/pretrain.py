"""Train the runs that the project ships: ``python -m tools.pretrain [RUN ...]``, all of them by default.

Hours on a CPU; needs the full data sets. None sees an image of the bundled samples. A training that was interrupted
goes on; a run that is there is trained again and replaced once the new one is complete.
"""

from __future__ import annotations

import subprocess
import sys

from vae_lib.errors import UserError
from vae_lib.runs.places import find_unfinished

GREY = "--match-prior --beta-start 30"
FACES = f"--data faces --im-dim 64 --batch-size 25 --hidden-units 384 --mirror {GREY}"
DYNAMIC = "--data mnist --binarize dynamic"
RECIPES = {
    "mnist_2": "--data mnist -l 2 --epochs 40 --batch-size 100 --hidden-units 512 --encoder-layers 2 --augment-encoder",
    "mnist_2_exact": "--data mnist -l 2 --objective marginal --grid-side 72 --epochs 40 --batch-size 500 "
    "--learning-rate 0.0025 --hidden-units 512",
    "fashion_mnist_2": f"--data fashion_mnist -l 2 --epochs 30 {GREY}",
    "faces_2": f"{FACES} -l 2 --epochs 40",
    "faces_6": f"{FACES} -l 6 --epochs 40 --weight-decay 0.3",
    "faces_10": f"{FACES} -l 10 --epochs 70 --weight-decay 0.3",
    "mnist_dynamic_2": f"{DYNAMIC} -l 2 --epochs 60 --batch-size 100 --hidden-units 320 --learning-rate 0.002",
    "mnist_dynamic_2_exact": f"{DYNAMIC} -l 2 --objective marginal --grid-side 72 --epochs 40 --batch-size 500 "
    "--learning-rate 0.0025 --hidden-units 512",
    "mnist_dynamic_20": f"{DYNAMIC} -l 20 --epochs 40 --batch-size 100 --num-filters 64 --importance-samples 5 "
    "--hidden-units 512 --encoder-layers 2",
}


def arguments(name: str) -> list[str]:
    """What trains a run, or goes on with it."""
    try:
        find_unfinished(name)
    except UserError:
        return [*RECIPES[name].split(), "--hold-out-sample", "--out", f"pickles/{name}", "--overwrite"]
    return ["--resume", name]


def main() -> None:
    for name in sys.argv[1:] or RECIPES:
        subprocess.run([sys.executable, "train_VAE.py", *arguments(name)], check=True)


if __name__ == "__main__":
    main()
