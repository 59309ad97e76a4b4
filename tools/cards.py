"""Write a card for each shipped run, in the format of the model hubs: ``python -m tools.cards docs/cards``.

Every number comes from the run's ``metrics.json``; a test compares the cards with what this writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tools.pretrain import RECIPES
from vae_lib.config import RunConfig
from vae_lib.files import write_atomically
from vae_lib.runs.places import find_run
from vae_lib.runs.store import read_config, read_metrics

DATA = {
    "mnist": ("MNIST", "cc-by-sa-3.0", "LeCun, Cortes and Burges; CC BY-SA 3.0"),
    "fashion_mnist": ("Fashion-MNIST", "mit", "Xiao, Rasul and Vollgraf 2017; MIT"),
    "faces": (
        "Labeled Faces in the Wild",
        "other",
        "Huang et al. 2007 and 2012, cropped as LFWcrop (Sanderson and Lovell 2009); photographs of the press, for "
        "which the data set grants no licence",
    ),
}
GRID = " For the ELBO and the KL, q is the Gaussian fitted to the posterior on the grid."
BIASES = {
    "faces": "The people of Labeled Faces in the Wild were in the news around 2002: mostly men, mostly light-skinned, "
    "mostly middle-aged, and none was asked. The model draws what is frequent among them best and the rest worse. A "
    "face that it decodes is nobody's, but it may resemble somebody. Do not use it to recognize, to judge or to "
    "imitate people.",
    "mnist": "Digits as employees of the United States Census Bureau and pupils wrote them around 1990; other "
    "hands write other digits.",
    "fashion_mnist": "Catalogue photographs of one European shop, on black; other garments, and garments that are "
    "worn, look different.",
}


def card(name: str, config: RunConfig, metrics: dict[str, Any]) -> str:
    """A run's card: YAML for the hub, and what a reader needs to know."""
    title, licence, source = DATA[config.data.name]
    test, protocol, made = metrics["test"], metrics["protocol"], metrics["made_by"]
    side, latent = config.model.im_dim, config.model.latent_dim
    figures = {"ELBO, nats an image": test["elbo"], "KL, nats an image": test["kl"]}
    if "log_px" in test:
        figures["log p(x), nats an image, integrated"] = test["log_px"]
    figures |= {
        f"log p(x), nats an image, IWAE-{key.removeprefix('iwae_')}": value
        for key, value in test.items()
        if key.startswith("iwae_") and not key.endswith("_error")
    }
    if "bits_per_pixel" in test:
        figures["bits per pixel"] = test["bits_per_pixel"]
    meta = [
        "---", "library_name: keras", f"license: {licence}", "pipeline_tag: unconditional-image-generation", "tags:",
        "- variational-auto-encoder", "- tensorflow", "datasets:", f"- {config.data.name}", "model-index:",
        f"- name: {name}", "  results:", "  - task:", "      type: unconditional-image-generation", "    dataset:",
        f"      name: {json.dumps(title)}", f"      type: {config.data.name}", "      split: test", "    metrics:",
    ]  # fmt: skip
    for what, value in figures.items():
        meta += [f"    - name: {json.dumps(what)}", f"      type: {json.dumps(what)}", f"      value: {value:.4f}"]
    how = "a decoder alone; the posterior of an image is found on a grid of codes"
    how = how if config.model.inference == "grid" else "an encoder and a decoder"
    lines = [
        *meta, "---", "",
        f"# {name}", "",
        f"A variational auto-encoder of {title}, {side} x {side} pixels, with {latent} latent dimensions: {how}.", "",
        "## Use", "",
        "```python", "from vae_lib import load_run", "", f'vae = load_run("{name}").model',
        "images = vae.sample(16)  # (16, H, W, C) in [0, 1]", "```", "",
        f"`vae export {name} --keras` writes it for Keras, `--savedmodel` for TensorFlow. It is made for teaching and "
        "for comparison with other models of the same data, and not for decisions about people or things.", "",
        "## Data", "",
        f"{title}: {source}. {protocol['train_images']:,} images to train on and {protocol['test_images']:,} to test "
        + "with; " + ("no picture of a person" if config.data.name == "faces" else "no image")
        + " in the sample that comes with the package was trained on. "
        + f"Pixels: {_pixels(config)}.", "",
        "## Numbers", "",
        f"On the {test['images']:,} test images, one sample of the code for each, seed {test['seed']}; terms are in "
        f"the [glossary](../glossary.md).{GRID if config.model.inference == 'grid' else ''}", "",
        "| measure | value |", "| --- | --- |",
        *(f"| {what} | {value:,.3f} |" for what, value in figures.items()), "",
        "## Biases and limits", "",
        BIASES[config.data.name], "",
        "Samples are blurred: the likelihood takes each pixel by itself, and where several images are plausible for "
        "one code, the decoder gives their average.", "",
        "## How it was made", "",
        "```", made["command"], "```", "",
        f"{made['training_seconds'] / 60:.0f} minutes on a processor, TensorFlow {made['versions']['tensorflow']}, on "
        "the full data set. `make pretrain` makes all runs again; by itself, give the command another `--out`. Weights "
        "are kept in half precision where that changes the ELBO by less than 0.01 nat an image.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _pixels(config: RunConfig) -> str:
    if config.model.binarize == "none":
        return "grey levels, each with a probability"
    return "bits, white from half up" if config.model.binarize == "threshold" else "bits, drawn anew at each look"


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(RECIPES):
        run = find_run(name)
        write_atomically(folder / f"{name}.md", card(name, read_config(run)[0], read_metrics(run)).encode())


if __name__ == "__main__":
    main()
