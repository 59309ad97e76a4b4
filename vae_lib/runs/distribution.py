"""Several devices and several machines, through ``tf.distribute``."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable

from vae_lib.backend import tf
from vae_lib.errors import UserError, notice, one_of

STRATEGIES = ("none", "mirrored", "multi-worker")


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
    """What ``connect`` returns once all workers are there; Ctrl-C ends the process while it waits.

    TensorFlow waits in C++ without giving Python its turn, so SIGINT gets its default meaning back meanwhile. Nothing
    has been written yet. SIGTERM is TensorFlow's own: it keeps it for machines that announce their end so.
    """
    notice(f"{place} waits until all are there; Ctrl-C ends it.")
    listening = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if listening else None
    try:
        return connect()
    except (tf.errors.OpError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{place} cannot join the others: {reason}.") from None
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


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
