"""The machine that numbers were measured on."""

import os
import pathlib
import platform
from typing import Any


def machine() -> dict[str, Any]:
    """The CPU's name, the number of its cores that this process may use, and the load."""
    lines = pathlib.Path("/proc/cpuinfo")
    names = lines.read_text().splitlines() if lines.exists() else []
    models = [line.partition(":")[2].strip() for line in names if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": cores,
        "load": load,  # above `cores` if other programs were running
    }
