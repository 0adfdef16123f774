"""The recorder as a callback of training frameworks.

Each needs its framework: ``pip install 'ipstore[lightning]'`` or ``pip install 'ipstore[hf]'``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipstore.trainers.integrations.huggingface import HuggingFaceRecorder
    from ipstore.trainers.integrations.lightning import LightningRecorder

__all__ = ["HuggingFaceRecorder", "LightningRecorder"]

_HOMES = {
    "HuggingFaceRecorder": "ipstore.trainers.integrations.huggingface",
    "LightningRecorder": "ipstore.trainers.integrations.lightning",
}


def __getattr__(name: str) -> Any:
    """Import a framework only for what needs it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ipstore.trainers.integrations' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
