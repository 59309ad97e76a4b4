"""TensorFlow and Keras, imported in one place and quietly.

TensorFlow's C++ libraries write about fifteen lines to stderr while they are imported, whatever
``TF_CPP_MIN_LOG_LEVEL`` says. They are held back here; Python exceptions come through as always.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send what C++ code writes to file descriptor 2 to the null device."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"  # the training step is written for it
with _quiet_stderr():
    import keras
    import tensorflow as tf

__all__ = ["keras", "tf"]
