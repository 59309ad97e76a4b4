#!/usr/bin/env python3
"""Train a variational auto-encoder; see ``train_VAE.py --help``."""

import sys

from vae_lib.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
