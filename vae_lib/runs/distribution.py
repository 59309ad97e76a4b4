"""Several devices and several machines, through ``tf.distribute``."""

from __future__ import annotations

import json
import os
import socket
import time

from vae_lib.backend import tf
from vae_lib.errors import UserError, notice, one_of

STRATEGIES = ("none", "mirrored", "multi-worker")
SILENT_SECONDS = 5.0  # of waiting for others before anything is said


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
    place, own, others = check_tf_config()
    _wait_for(others, own, place)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{place} cannot join the others: {reason}.") from None


def _wait_for(others: list[str], own: int, place: str) -> None:
    """Return once all other workers listen on their ports, as this one does on its ``own`` meanwhile.

    TensorFlow would wait too, but in C++: neither Ctrl-C nor SIGTERM reach a program there. A worker that has seen all
    others makes room for TensorFlow, which listens on the same port a moment later. Raises `UserError` where the
    port is taken.
    """
    try:
        listener = socket.create_server(("", own), backlog=len(others) + 1)
    except OSError as error:
        raise UserError(f"{place} cannot use its port {own}: {error.strerror}.") from None
    with listener:
        began, told = time.monotonic(), False
        while others := [worker for worker in others if not _answers(worker)]:
            if not told and time.monotonic() - began > SILENT_SECONDS:
                notice(f"{place} waits for {', '.join(others)}; Ctrl-C ends it.")
                told = True
            time.sleep(0.2)


def _answers(worker: str) -> bool:
    """Whether somebody listens at "host:port"."""
    host, _, port = worker.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False


def check_tf_config() -> tuple[str, int, list[str]]:
    """What to call this worker, its own port, and the addresses of the others.

    Raises `UserError` unless ``TF_CONFIG`` names workers and this one's place in them.
    """
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
    others = [worker for i, worker in enumerate(workers) if i != index]
    return f"worker {index + 1} of {len(workers)}", _port(workers[index]), others


def _port(address: str) -> int:
    """The port of "host:port", 0 for text that is no such address."""
    host, _, port = address.rpartition(":")
    return int(port) if host and port.isdecimal() and 0 < int(port) < 2**16 else 0
