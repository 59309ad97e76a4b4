"""Several devices and several machines, through ``tf.distribute``."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from vae_lib.backend import tf
from vae_lib.errors import UserError, notice, one_of

STRATEGIES = ("none", "mirrored", "multi-worker")
TOLD_AFTER_SECONDS = 5.0
INTERRUPTED = 130  # the exit status


def make_strategy(name: str) -> tf.distribute.Strategy | None:
    """The strategy of that name; it must be made before anything else runs in TensorFlow.

    'mirrored' uses all devices of this machine, 'multi-worker' the machines that ``TF_CONFIG`` lists. Raises
    `UserError` for an unknown name or a ``TF_CONFIG`` that cannot be used.
    """
    one_of("strategy", name, STRATEGIES)
    if name == "none":
        return None
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    place = check_tf_config()
    return _waiting(tf.distribute.MultiWorkerMirroredStrategy, place)


def _waiting(connect: Callable[[], tf.distribute.Strategy], place: str) -> tf.distribute.Strategy:
    """What ``connect`` returns once all workers are there; SIGINT and SIGTERM end the waiting.

    TensorFlow waits in C++, where Python hears no signal, so a thread of its own does.
    """
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(connect())
        except Exception as error:  # passed on to the thread that waits
            results.append(error)

    thread = threading.Thread(target=work, daemon=True)
    listening = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if listening else None
    thread.start()
    try:
        began, told = time.monotonic(), False
        while thread.is_alive():
            thread.join(0.2)
            if not told and thread.is_alive() and time.monotonic() - began > TOLD_AFTER_SECONDS:
                notice(f"{place} waits for the others; Ctrl-C ends it.")
                told = True
    except KeyboardInterrupt:
        notice("interrupted while waiting for the other workers.")
        sys.stdout.flush()
        os._exit(INTERRUPTED)  # the thread inside of TensorFlow cannot be ended otherwise
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    if isinstance(results[0], Exception):
        reason = (str(results[0]).strip() or type(results[0]).__name__).splitlines()[0]
        raise UserError(f"{place} cannot join the others: {reason}.")
    return results[0]


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def check_tf_config() -> str:
    """What to call this worker. Raises `UserError` unless ``TF_CONFIG`` names workers and this one's place in them."""
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        cluster, task = config["cluster"], config["task"]
        workers, index = cluster["worker"], task["index"]
        usable = set(cluster) == {"worker"} and isinstance(workers, list) and task["type"] == "worker"
        usable = usable and isinstance(index, int) and 0 <= index < len(workers)
        usable = usable and all(isinstance(worker, str) and _port(worker) for worker in workers)
    except (KeyError, TypeError, ValueError):
        usable = False
    if not usable:
        raise UserError(f"--strategy multi-worker needs TF_CONFIG in the environment, such as {example}.")
    place, port = f"worker {index + 1} of {len(workers)}", _port(workers[index])
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            own.bind(("", port))
        except OSError as error:
            raise UserError(f"{place} cannot use its port {port}: {error.strerror}.") from None
    return place


def _port(address: str) -> int:
    """The port of "host:port", 0 for text that is no such address."""
    host, _, port = address.rpartition(":")
    return int(port) if host and port.isdecimal() and 0 < int(port) < 2**16 else 0
