"""Versions of the zoo and of its dependencies, and the devices that a result depends on."""

import platform
from importlib import metadata
from typing import Any

import tensorflow as tf

__version__ = "0.1.0"

_PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy", "scikit-learn")


def versions() -> dict[str, Any]:
    """The versions and devices that a result depends on.

    Returns:
        The version of the zoo, of Python and of five packages by name; "devices", the types of the
        logical devices; "tf32", whether TensorFloat-32 is enabled.

    Example:
        >>> zoo.versions.versions()["zoo"] == zoo.__version__
        True
    """
    return (
        {"zoo": __version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in _PACKAGES}
        | {
            "devices": ", ".join(d.device_type for d in tf.config.list_logical_devices()),
            "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        }
    )
