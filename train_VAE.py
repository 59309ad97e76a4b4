#!/usr/bin/env python3
"""Train a variational auto-encoder; see ``train_VAE.py --help``."""

import sys

if __name__ == "__main__":
    try:
        from vae_lib.cli import train_main

        sys.exit(train_main())
    except KeyboardInterrupt:  # before the command has begun
        sys.exit(130)
