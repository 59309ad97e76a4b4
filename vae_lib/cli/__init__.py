"""The command line: ``vae``, ``python -m vae_lib`` and ``train_VAE.py``."""

from vae_lib.cli.commands import main as main
from vae_lib.cli.commands import train_main as train_main
