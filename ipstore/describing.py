"""What a store says of its runs, as plain values: what commands print as JSON, and a server answers."""

import json
import math
from typing import TYPE_CHECKING, Any

from ipstore.wording import task_text

if TYPE_CHECKING:
    from ipstore.places import Place
    from ipstore.reader import RunInfo

__all__ = ["as_json", "described", "listed"]


def as_json(document: Any) -> str:
    """Write a document as JSON; what is not a number becomes null."""
    return json.dumps(_plain(document), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def listed(info: "RunInfo") -> dict[str, Any]:
    """Give what a list of runs says of one."""
    commit = info.attrs["commit"]
    return {
        "run": info.name,
        "status": info.status,
        "task": task_text(info.attrs["task"], info.attrs.get("task_params", {})),
        "level": info.attrs["level"],
        "epochs": commit.get("last_epoch"),
        "captured_epochs": commit["epochs"],
        "seeds": info.attrs["seeds"],
        "diverged": {int(seed): epoch for seed, epoch in info.attrs["diverged"].items()},
        "results": list(info.results),
        "stored_bytes": info.stored_bytes,
        **{key: info.attrs[key] for key in ("part_of", "sweep") if key in info.attrs},
    }


def described(place: "Place", info: "RunInfo") -> dict[str, Any]:
    """Give all that there is to say of a run.

    Parameters
    ----------
    place : Place
        Of the run.
    info : RunInfo
    """
    from ipstore.group import read_document

    provenance = {name: read_document(place / "results" / name, "result")["attributes"] for name in info.results}
    attrs = {key: value for key, value in info.attrs.items() if key not in ("status", "diverged", "seeds")}
    by_group: dict[str, int] = {}
    sizes = place.sizes()
    for key, count in sorted(sizes.items()):
        group, inside, _ = key.partition("/")
        if inside:
            by_group[group] = by_group.get(group, 0) + count
    return {
        **listed(info),
        **attrs,
        "task": task_text(info.attrs["task"], info.attrs.get("task_params", {})),
        "files": len(sizes),
        "stored_bytes": sum(sizes.values()),
        "bytes": by_group,
        "results": provenance,
        **({"activations": _rebuilt(place)} if info.attrs["level"] == "weights" else {}),
    }


def _rebuilt(place: "Place") -> str:
    """Say how the activations of a run that stored its weights alone come out here."""
    from ipstore.errors import CorruptionError
    from ipstore.reader import open_published
    from ipstore.virtual import rebuilt_within

    tree = open_published(place)
    if "not_rebuilt" in tree.attrs:
        return f"cannot be rebuilt: {tree.attrs['not_rebuilt']}"
    if not tree.sizes["epoch"]:
        return "rebuilt from the weights when they are read"
    try:
        tolerance = rebuilt_within(tree)
    except CorruptionError as error:
        return str(error)
    return f"rebuilt from the weights when they are read, {f'within {tolerance:.0e}' if tolerance else 'exactly'}"
