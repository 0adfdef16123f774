"""What marks a folder as a store, and which runs it holds. `docs/format.md` is the specification."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipstore.durable import replace_json, sync_directory
from ipstore.errors import FormatVersionError, NotAStoreError, ParameterError, StoreNotFoundError, UnknownNameError

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "check_store",
    "check_version",
    "find_run",
    "local_path",
    "make_store",
    "run_names",
]

FORMAT = "ipstore"
FORMAT_VERSION = 1

_CONVENTION = {
    "name": "ipstore",
    "description": "Activations of neural networks over training, one Zarr group per run, published whole.",
    "uuid": "3d1f7a52-6c0e-4b7f-9d55-0c1a5a6e1703",
    "version": str(FORMAT_VERSION),
}


def local_path(store: str | os.PathLike[str]) -> Path:
    """Take the path of a store, and refuse a URL.

    Raises
    ------
    ParameterError
    """
    text = os.fspath(store)
    if "://" in text:
        raise ParameterError(f"stores are folders of this machine or its mounts; {text!r} is a URL")
    return Path(text)


def check_version(attrs: Mapping[str, Any], where: Path) -> None:
    """Refuse what is no ipstore group, or newer than this version reads.

    Raises
    ------
    NotAStoreError, FormatVersionError
    """
    version = attrs.get("format_version")
    if attrs.get("format") != FORMAT or not isinstance(version, int):
        raise NotAStoreError(f"{str(where)!r} is a Zarr group, but not one that ipstore wrote")
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{str(where)!r} is in format {version}, and this ipstore reads up to format {FORMAT_VERSION}: "
            "install a newer ipstore"
        )


def check_store(store: Path) -> None:
    """Refuse a path that holds no store this version reads.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    if not store.exists():
        raise StoreNotFoundError(f"there is no store at {str(store)!r}")
    try:
        attrs = json.loads((store / "zarr.json").read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, PermissionError):
            raise
        raise NotAStoreError(
            f"{str(store)!r} is not an ipstore store; to begin one, give a path that is free or an empty folder"
        ) from None
    check_version(attrs if isinstance(attrs, dict) else {}, store)


def make_store(store: Path) -> None:
    """Create the store at a path that is free or an empty folder; a store that exists stays as it is.

    Raises
    ------
    NotAStoreError, FormatVersionError
        If something else is there.
    """
    if store.exists() and (not store.is_dir() or any(store.iterdir())):
        check_store(store)
        return
    store.mkdir(parents=True, exist_ok=True)
    attrs = {"format": FORMAT, "format_version": FORMAT_VERSION, "zarr_conventions": [_CONVENTION]}
    replace_json(store / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attrs})
    sync_directory(store.parent)


def run_names(store: Path) -> list[str]:
    """Names of the runs in a store, sorted."""
    return sorted(path.parent.name for path in store.glob("[!.]*/zarr.json"))


def find_run(store: Path, run: str) -> Path:
    """Give the folder of a run.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    UnknownNameError
        If the store holds no such run.
    """
    check_store(store)
    names = run_names(store)
    if run not in names:
        raise UnknownNameError("run", run, names)
    return store / run
