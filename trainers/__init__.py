"""Capture: tasks, networks in training, and the stream of their activations into a store.

Needs PyTorch (``pip install 'ipstore[train]'``), save `ipstore.trainers.tasks` and `TrainConfig`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ipstore.trainers.config import TrainConfig

if TYPE_CHECKING:
    from ipstore.trainers import tasks
    from ipstore.trainers.recorder import Recorder
    from ipstore.trainers.streaming import capture, resume
    from ipstore.trainers.sweeps import capture_sweep, resume_sweep

__all__ = ["Recorder", "TrainConfig", "capture", "capture_sweep", "resume", "resume_sweep", "tasks"]

_HOMES = {
    "Recorder": "ipstore.trainers.recorder",
    "capture": "ipstore.trainers.streaming",
    "capture_sweep": "ipstore.trainers.sweeps",
    "resume": "ipstore.trainers.streaming",
    "resume_sweep": "ipstore.trainers.sweeps",
}


def __getattr__(name: str) -> Any:
    """Import PyTorch, or SciPy, only for what needs it."""
    if name == "tasks":
        return import_module("ipstore.trainers.tasks")
    if name not in _HOMES:
        raise AttributeError(f"module 'ipstore.trainers' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
