"""``python -m vae_lib``."""

import sys

try:
    from vae_lib.cli import main

    sys.exit(main(prog="python -m vae_lib"))
except KeyboardInterrupt:  # before the command has begun
    sys.exit(130)
