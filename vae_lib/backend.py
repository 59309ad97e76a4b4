"""TensorFlow and Keras, imported in one place, quietly, and set up to share the processor's cores well.

TensorFlow's C++ libraries write several lines to stderr while they are imported, whatever
``TF_CPP_MIN_LOG_LEVEL`` says. They are held back here, but for those about a GPU that the machine has; Python
exceptions come through as always.

By default TensorFlow cuts each operation into as many pieces as there are cores. The operations of a small network
are too small for that: training is faster when each core works through a part of the batch by itself (`SHARDS` of
them, see `vae_lib.trainer`). ``TF_NUM_INTRAOP_THREADS`` or ``TF_NUM_INTEROP_THREADS`` in the environment override this.
Memory comes from TensorFlow's own allocator in place of the system's, unless ``TF_CPU_ALLOCATOR_USE_BFC`` says 0.
benchmarks/TRIED.md has the measurements.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from tqdm import tqdm

from vae_lib.errors import Fault

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what C++ code writes to file descriptor 2, but for what the owner of a GPU must know."""
    try:
        with contextlib.suppress(AttributeError, ValueError):  # no standard error, or a closed one
            sys.stderr.flush()
        saved = os.dup(2)
    except OSError:  # nobody hears it anyway
        yield
        return
    try:
        temporary: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, closed by the with below
    except OSError:  # a full disk is somebody else's message
        temporary = open(os.devnull, "w+b")  # noqa: SIM115
    with temporary as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        held_back.seek(0)
        about_gpus(held_back.read().decode(errors="replace"))


def about_gpus(messages: str, driver: Path = Path("/proc/driver/nvidia")) -> None:
    """Print the lines about GPUs on stderr where the machine has one, such as why it is not used."""
    if driver.exists():
        print(*(line for line in messages.splitlines() if "GPU" in line or "CUDA" in line), sep="\n", file=sys.stderr)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
os.environ["KERAS_BACKEND"] = "tensorflow"  # the training step is written for it
try:
    with _quiet_stderr():
        import keras
        import tensorflow as tf
except FileNotFoundError as error:  # by absl, which looks for a temporary folder
    if "temporary" not in str(error):
        raise
    raise Fault("TensorFlow needs a temporary folder that can be written to: set TMPDIR.") from None

__all__ = ["CORES", "SHARDS", "keras", "parallel_map", "tf"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SHARDS = 1 if tf.config.list_physical_devices("GPU") else min(CORES, 4)

if not {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"} & set(os.environ) and SHARDS > 1:
    with contextlib.suppress(RuntimeError):  # too late where TensorFlow has already run something
        tf.config.threading.set_intra_op_parallelism_threads(-(-CORES // SHARDS))
        tf.config.threading.set_inter_op_parallelism_threads(CORES)


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, progress: str | None = None
) -> list[Result]:
    """``function`` of each item, in order, on all cores; TensorFlow works outside of Python's lock.

    With ``progress``, a bar of that title is drawn on stderr where stderr is a terminal.
    """
    silent = True if progress is None else None  # None: only on a terminal
    with ThreadPoolExecutor(CORES) as pool:
        return list(tqdm(pool.map(function, items), progress, len(items), leave=False, disable=silent))
