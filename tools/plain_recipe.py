"""What the plain recipe reaches where nobody publishes a number: ``python -m tools.plain_recipe RUN ...``.

For each run: the two convolutions of the TensorFlow CVAE tutorial and its optimizer (Adam at 1e-4, batches of 32) with
the run's own data, likelihood, latent dimensions and epochs, evaluated by the same protocol. Adds the section
``plain_recipe`` to the run's ``metrics.json``.
"""

from __future__ import annotations

import sys

from benchmarks.peers_tensorflow import make_vae
from vae_lib.data.loading import load_data
from vae_lib.evaluation import evaluate_elbo
from vae_lib.runs.places import find_run
from vae_lib.runs.store import read_config, record_numbers
from vae_lib.training import train

RECIPE = {"batch_size": 32, "learning_rate": 1e-4, "schedule": "constant", "beta_start": 1.0}


def main() -> None:
    for name in sys.argv[1:]:
        own, _ = read_config(find_run(name))
        data = load_data(own.data.name, own.model.im_dim, hold_out_sample=own.data.hold_out_sample)
        model = make_vae(True, own.model.latent_dim, own.model.im_dim, likelihood=own.model.likelihood)
        epochs = own.training.epochs
        train(model, data, epochs=epochs, verbose=True, **RECIPE)
        numbers = evaluate_elbo(model, data.test_images) | {"epochs": epochs} | RECIPE
        print(name, numbers, record_numbers(find_run(name), "plain_recipe", numbers))


if __name__ == "__main__":
    main()
