"""Making a damaged run whole again, as far as what is left of it tells."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.binning import Binning
from ipstore.block import digest
from ipstore.errors import CorruptionError, RunLockedError, UnknownNameError, UnreachableError
from ipstore.group import GrowingGroup, encoded, read_document, remove_group
from ipstore.integrity import Damage, Finding, Holdings, examine, joined
from ipstore.levels import encode
from ipstore.places import DOCUMENT, LEASE, Location, Place, locate
from ipstore.rebuild import rebuilder

__all__ = ["Repairs", "repair", "sweep_store"]


@dataclass(frozen=True)
class Repairs:
    """What became of a run that was repaired.

    Attributes
    ----------
    removed : sequence of str
        Files that were left by writers that were killed, and are no more.
    mended : sequence of Damage
        What was damaged, and is whole.
    damage : sequence of Damage
        What is damaged still; the reasons say why it could not be mended. Empty if the run is whole.
    """

    removed: Sequence[str] = ()
    mended: Sequence[Damage] = ()
    damage: Sequence[Damage] = ()


def repair(run: Location, progress: Callable[[int, int], None] = lambda done, total: None) -> Repairs:
    """Verify a run, mend what can be mended, and verify it again.

    What lies beyond the last commit goes, and so do leftovers of writers that were killed. The metadata that arrays
    have of themselves are written anew from the run's document. Activations are computed again from the weights, and
    are stored where they agree with the digest that was taken at capture; nothing else ever is.

    Parameters
    ----------
    run : path or URL
        ``"<store>/<run>"``.
    progress : callable
        Called with the number of chunk files read, and of all.

    Returns
    -------
    Repairs

    Raises
    ------
    RunLockedError
        If a process is writing the run.
    StoreNotFoundError, NotAStoreError, FormatVersionError, CorruptionError
        If there is no such run, or its own document cannot be read: there is no other to mend it from.
    """
    place = locate(run)
    read_document(place, "run")
    before = place.sizes()
    group = GrowingGroup.resume(place)  # which sweeps
    try:
        _sweep_results(place / "results", place.sizes("results"))
        removed = sorted(before.keys() - place.sizes().keys())
        found = list(examine(place, progress))
        why = {_where(finding): reason for finding, reason in _mended(group, found) if reason}
        left = list(examine(place)) if found else []
    finally:
        group.close()
    still = [finding.damage(place) for finding in left]
    explained = [
        replace(damage, reason=f"{damage.reason}; {why[_where(finding)]}") if _where(finding) in why else damage
        for finding, damage in zip(left, still, strict=True)
    ]
    mended = [damage for damage in (finding.damage(place) for finding in found) if damage not in still]
    return Repairs(removed, joined(mended), joined(explained))


def sweep_store(store: Location) -> tuple[str, ...]:
    """Remove what killed processes have left beside the runs of a store: runs half made or removed, half a document.

    Parameters
    ----------
    store : path or URL

    Returns
    -------
    tuple of str
        Names of what was removed.
    """
    place = locate(store)
    sizes = place.sizes()
    halves = sorted(key for key in sizes if key.startswith(f".{DOCUMENT}.") and DOCUMENT in sizes)
    place.delete(halves)
    return *halves, *_sweep_beside(place, sizes)


def _sweep_beside(place: Place, keys: Iterable[str]) -> Iterator[str]:
    """Remove groups that are none: without a document but with a lease that nobody holds, or out of sight."""
    there = set(keys)
    for name in sorted({key.partition("/")[0] for key in there if "/" in key}):
        beside = place / name
        if name.startswith(".") and name.endswith(".removed"):
            with suppress(FileNotFoundError):  # its own process is at it still
                beside.remove()
        elif f"{name}/{LEASE}" not in there or f"{name}/{DOCUMENT}" in there:
            continue
        else:
            try:
                lease = beside.lease()
            except RunLockedError:
                continue  # it is just being made
            try:
                if beside.exists(DOCUMENT):
                    continue
                beside.remove()
            finally:
                lease.release()
        yield name


def _sweep_results(results: Place, keys: Iterable[str]) -> None:
    """Sweep the results of a run; one that an analysis is writing now is left alone."""
    inside = {key.partition("/")[2] for key in keys}
    list(_sweep_beside(results, inside))
    for name in sorted({key.partition("/")[0] for key in inside}):
        if f"{name}/{DOCUMENT}" not in inside:
            continue
        try:
            if name.startswith("."):  # begun anew, aside, by an analysis that was killed
                remove_group(results / name)
            else:
                GrowingGroup.resume(results / name).close()
        except (RunLockedError, CorruptionError, FileNotFoundError):
            continue


def _mended(group: GrowingGroup, findings: Iterable[Finding]) -> Iterator[tuple[Finding, str]]:
    """Mend each; give why it could not be, or nothing."""
    by_shard: dict[tuple[str, int, int], list[Finding]] = {}
    for finding in findings:
        holds = finding.group
        if holds and finding.path.endswith(f"/{DOCUMENT}"):
            node = holds.nodes[finding.path.removesuffix(f"/{DOCUMENT}")]
            holds.place.put(finding.path, encoded(node))
            yield finding, ""
        elif finding.path.startswith("activations/") and not finding.below and holds and finding.region:
            number = finding.region[0].start // group.shard_epochs(finding.path)
            shard = finding.path, number, finding.region[1].start
            by_shard.setdefault(shard, []).append(finding)
        elif finding.below:
            yield finding, "`ipstore analyze --again` computes it anew"
        else:
            yield finding, "there is nothing to make it from"
    for (path, number, seed), found in by_shard.items():
        holds = found[0].group
        assert holds is not None
        start = number * group.shard_epochs(path)
        epochs = slice(start, min(start + group.shard_epochs(path), group.epochs))
        try:
            values = _block(holds, path, epochs, seed, [each.region[0] for each in found if each.region])
        except (CorruptionError, UnknownNameError) as error:
            reason = f"it cannot be rebuilt: {error}"
        else:
            group.write(path, start, values, slice(seed, seed + 1))
            group.flush()
            reason = ""
        yield from ((each, reason) for each in found)


def _block(holds: Holdings, path: str, epochs: slice, seed: int, damaged: list[slice]) -> NDArray[Any]:
    """Give the values of a shard (epoch, 1, sample, unit): what is left, and what is damaged computed again.

    Raises
    ------
    CorruptionError
        If what the values follow from is damaged as well, or gives others than were captured.
    UnknownNameError
        If the model is none that this version can rebuild.
    """
    layer = path.partition("/")[2]
    array, attrs = holds.arrays[path], holds.attrs
    digests, computed = _computed(holds, layer, epochs, seed)
    values = np.empty((epochs.stop - epochs.start, 1, *array.shape[2:]), array.dtype)
    if computed.shape != values.shape:
        raise CorruptionError(f"the model gives {computed.shape[2:]} (sample, unit), not {values.shape[2:]}")
    binning = attrs.get("binning")
    with np.errstate(over="ignore"):  # at level half, as when they were captured
        encode(computed, values, Binning.from_attrs(binning) if binning else None)
    bad = {place for part in damaged for place in range(part.start, part.stop)}
    for place in range(epochs.start, epochs.stop):
        at = place - epochs.start
        if place not in bad:
            values[at] = np.asarray(array[place : place + 1, seed : seed + 1])[0]
        elif digest(values[at, 0]) != digests[at]:
            raise CorruptionError(
                f"at epoch {holds.labels['epoch'][place]} the weights give other last bits than were captured, as "
                "another processor or library does, or are not those of the run"
            )
    return values


def _computed(holds: Holdings, layer: str, epochs: slice, seed: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Give the digests of a layer's activations (epoch,), and the activations (epoch, 1, sample, unit) from weights."""
    model = rebuilder(holds.attrs)
    names = [each.name for each in model.layers]
    cells = epochs, slice(seed, seed + 1)
    try:
        digests = np.asarray(holds.arrays["digest/crc32c"][cells])[:, 0, names.index(layer)]
        x = np.asarray(holds.arrays["probe/x"][...])
        weights = {
            name: np.asarray(holds.arrays[f"weights/{name}"][cells])
            for name in names[: names.index(layer) + 1]
            if f"weights/{name}" in holds.arrays
        }
    except UnreachableError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise CorruptionError(f"what it follows from is damaged as well ({error})") from error
    return digests, model.activations(weights, x, [layer])[layer]


def _where(finding: Finding) -> tuple[str, str]:
    return f"{finding.below}{finding.path}", str(finding.region)
