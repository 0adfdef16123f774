"""The information plane as data.

`open` gives a store, or one run of it, as a lazy `xarray.DataTree`. `ipstore.trainers` captures runs,
`ipstore.analysis` asks questions of them, `ipstore.errors` lists what can go wrong.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ipstore.version import __version__

if TYPE_CHECKING:
    from ipstore.copying import Copied, copy
    from ipstore.integrity import verify
    from ipstore.materialising import materialise
    from ipstore.merging import merge
    from ipstore.reader import RunInfo, open, runs
    from ipstore.repairs import Repairs, repair

__all__ = [
    "Copied",
    "Repairs",
    "RunInfo",
    "__version__",
    "copy",
    "materialise",
    "merge",
    "open",
    "repair",
    "runs",
    "verify",
]

_HOMES = {
    "materialise": "ipstore.materialising",
    "Copied": "ipstore.copying",
    "RunInfo": "ipstore.reader",
    "copy": "ipstore.copying",
    "merge": "ipstore.merging",
    "Repairs": "ipstore.repairs",
    "open": "ipstore.reader",
    "repair": "ipstore.repairs",
    "runs": "ipstore.reader",
    "verify": "ipstore.integrity",
}


def __getattr__(name: str) -> Any:
    """Load on first use, so that ``import ipstore`` and ``ipstore --help`` stay instant."""
    if name in ("analysis", "trainers", "errors"):
        return import_module(f"ipstore.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'ipstore' has no attribute {name!r}")
    import_module("ipstore.analysis")  # it gives trees, datasets and arrays their accessor ``.ip``
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
