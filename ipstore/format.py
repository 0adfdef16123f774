"""What marks a folder as a store, and which runs it holds. `docs/format.md` is the specification."""

import json
from typing import Any

from ipstore.documents import decode
from ipstore.errors import FormatVersionError, NotAStoreError, StoreNotFoundError, UnknownNameError
from ipstore.places import DOCUMENT, Location, Place, locate
from ipstore.schema import check_name

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "check_store",
    "check_version",
    "find_run",
    "make_store",
    "split_run",
]

FORMAT = "ipstore"
FORMAT_VERSION = 1

_CONVENTION = {
    "name": "ipstore",
    "description": "Activations of neural networks over training, one Zarr group per run, published whole.",
    "uuid": "3d1f7a52-6c0e-4b7f-9d55-0c1a5a6e1703",
    "version": str(FORMAT_VERSION),
}


def check_version(attrs: Any, where: Place) -> None:
    """Refuse what is no ipstore group, or newer than this version reads.

    Parameters
    ----------
    attrs
        Of its document; anything, as it was read.
    where : Place

    Raises
    ------
    NotAStoreError, FormatVersionError
    """
    known = attrs if isinstance(attrs, dict) else {}
    version = known.get("format_version")
    if known.get("format") != FORMAT or type(version) is not int or version < 1:
        raise NotAStoreError(f"{str(where)!r} is a Zarr group, but not one that ipstore wrote")
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{str(where)!r} is in format {version}, and this ipstore reads up to format {FORMAT_VERSION}: "
            "install a newer ipstore"
        )


def check_store(store: Place) -> None:
    """Refuse a place that holds no store this version reads.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    """
    try:
        attrs = decode(store.read(DOCUMENT)).get("attributes")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        if not store.is_taken():
            raise StoreNotFoundError(f"there is no store at {str(store)!r}") from None
        raise NotAStoreError(
            f"{str(store)!r} is not an ipstore store; to begin one, give a path that is free or an empty folder"
        ) from None
    check_version(attrs, store)


def make_store(where: Location) -> None:
    """Create the store at a place that is free or an empty folder; a store that exists stays as it is.

    Raises
    ------
    NotAStoreError, FormatVersionError
        If something else is there.
    """
    store = locate(where)
    if store.is_taken():
        check_store(store)
        return
    store.begin()
    attrs = {"format": FORMAT, "format_version": FORMAT_VERSION, "zarr_conventions": [_CONVENTION]}
    document = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attrs}, indent=1).encode()
    try:
        store.put(DOCUMENT, document)
    except FileNotFoundError:
        if not store.exists(DOCUMENT):  # else another made the store, and its sweeping took ours for a leftover
            raise


def find_run(store: Location, run: str) -> Place:
    """Give the place of a run.

    Raises
    ------
    StoreNotFoundError, NotAStoreError, FormatVersionError
    UnknownNameError
        If the store holds no such run.
    """
    place = locate(store)
    check_store(place)
    if not (place / check_name("run", run)).exists(DOCUMENT):
        raise UnknownNameError("run", run, place.groups())
    return place / run


def split_run(store: Location) -> tuple[Place, str | None]:
    """Take ``STORE`` or ``STORE/RUN`` apart.

    Returns
    -------
    (Place, str or None)
        The store, and the run where the path names one.
    """
    place = locate(store)
    parent = place.parent
    if place.name and parent.exists(DOCUMENT) and (parent.parent == parent or not parent.parent.exists(DOCUMENT)):
        return parent, place.name
    return place, None
