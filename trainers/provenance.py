"""What every run says of the task that it is of, and of the packages that made it."""

import platform
from importlib.metadata import version
from typing import Any

import numpy as np

from ipstore.schema import StaticArray
from ipstore.trainers.tasks.base import Task
from ipstore.version import __version__

__all__ = ["probe_arrays", "task_attrs"]


def probe_arrays(task: Task) -> list[StaticArray]:
    """Give a task's samples and their distribution as arrays below ``probe/``."""
    dims = {
        "x": ("sample", "feature"),
        "y": ("sample",),
        "p_x": ("sample",),
        "p_y_given_x": ("sample", "class"),
        "x_id": ("sample",),
    }
    return [StaticArray(f"probe/{name}", of, np.asarray(getattr(task, name))) for name, of in dims.items()]


def task_attrs(task: Task) -> dict[str, Any]:
    """Give the attributes of a run that name its task, and the versions with which it is made."""
    return {
        "task": task.name or "custom",
        "task_params": dict(task.params),
        "labels": task.labels,
        "probe": "population" if task.population else "sample",
        "versions": {
            "ipstore": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in ("numpy", "torch", "zarr")},
        },
    }
