"""Several devices and several machines, through ``tf.distribute``."""

from __future__ import annotations

import json
import os

from vae_lib.backend import tf
from vae_lib.errors import UserError, one_of

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
    check_tf_config()
    return tf.distribute.MultiWorkerMirroredStrategy()


def check_tf_config() -> None:
    """Raise `UserError` unless ``TF_CONFIG`` names a cluster of workers and this worker's place in it."""
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        workers, task = config["cluster"]["worker"], config["task"]
        usable = task["type"] == "worker" and 0 <= int(task["index"]) < len(workers)
    except (KeyError, TypeError, ValueError):
        usable = False
    if not usable:
        raise UserError(f"--strategy multi-worker needs TF_CONFIG in the environment, such as {example}.")
