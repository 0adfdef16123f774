"""A run in parts: its seeds trained on several machines, each into a run of its own, seen as one along ``seed``.

The parts of ``big`` are runs such as ``big+a``, whose attribute ``part_of`` says ``big``. They are written, continued
and analysed like any other run. Where no run of the joint name stands, that name opens them together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr

from ipstore.errors import ParameterError
from ipstore.group import read_document
from ipstore.places import DOCUMENT, Place
from ipstore.schema import check_name

__all__ = [
    "check_fit",
    "check_probes",
    "holders",
    "join",
    "join_results",
    "joint_attrs",
    "joint_result",
    "named_runs",
    "part_name",
    "stored_parts",
]

_SAME = ("format_version", "task", "task_params", "labels", "probe", "model", "config", "level", "binning", "layers")
"""Attributes of a run that its parts have in common."""

_RESULT_OWN: dict[str, Callable[[Iterator[Any]], Any]] = {
    "commit": lambda commits: max(commits, key=lambda commit: commit["time"]),
    "created_at": max,
    "ipstore_version": next,
    "run_created_at": min,
    "source_run": min,
}
"""Attributes that each part's result has of its own, and what becomes of them."""

_MEANS = {"I_XY", "H_X", "H_Y"}
"""Those that are means over seeds where a result is of a split; else they differ in rounding, if at all."""


def part_name(run: str, part: str) -> str:
    """Name the run that holds a part of `run`.

    Raises
    ------
    ParameterError
        If one of the names is not allowed.
    """
    check_name("part", part)
    return check_name("run", f"{check_name('run', run)}+{part}")


def holders(store: Place, run: str) -> list[str]:
    """Name the runs that hold what is opened as `run`: itself, or its parts; none where there is neither."""
    check_name("run", run)
    return [run] if (store / run).exists(DOCUMENT) else stored_parts(store, run)


def stored_parts(store: Place, run: str) -> list[str]:
    """Name the parts of `run`, whether or not a run of that name stands beside them."""
    names = [name for name in store.groups() if name.startswith(f"{run}+")]
    return [name for name, joint in zip(names, _joints(store, names), strict=True) if joint == run]


def named_runs(store: Place) -> dict[str, list[str]]:
    """Give the names under which a store's networks are opened, each with the runs that hold them.

    Returns
    -------
    dict of str to list of str
        A run holds its own; parts are under the name of what they are parts of, unless a run of that name stands.
    """
    names = store.groups()
    suspects = [name for name in names if "+" in name]
    joints = dict(zip(suspects, _joints(store, suspects), strict=True))
    found: dict[str, list[str]] = {}
    for name in names:
        joint = joints.get(name)
        found.setdefault(name if joint is None or joint in names else joint, []).append(name)
    return dict(sorted(found.items()))


def _joints(store: Place, names: Sequence[str]) -> list[str | None]:
    """Give what each run is a part of."""

    def joint(name: str) -> str | None:
        stated = read_document(store / name)["attributes"].get("part_of")
        return stated if isinstance(stated, str) and name.startswith(f"{stated}+") else None

    with ThreadPoolExecutor(store.writers) as pool:
        return list(pool.map(joint, names))


def check_fit(run: str, parts: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse parts that are not of one run.

    Parameters
    ----------
    run : str
        The joint name.
    parts : mapping of str to mapping
        Attributes of each.

    Raises
    ------
    ParameterError
        The message names what differs, and in which parts.
    """
    first, *others = parts
    stated = {name: dict(_flat(attrs)) for name, attrs in parts.items()}
    for other in others:
        for key in {**stated[first], **stated[other]}:
            one, two = stated[first].get(key), stated[other].get(key)
            if one != two:
                raise _misfit(run, f"{key} is {one!r} in {first!r} and {two!r} in {other!r}")
    for one, two in combinations(parts, 2):
        if both := sorted(set(parts[one]["seeds"]) & set(parts[two]["seeds"])):
            raise _misfit(run, f"seeds {both} are in {one!r} and in {two!r}")


def _flat(attrs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give what must agree, one by one; not how many epochs a part is to reach, since each may be extended."""
    for key in _SAME:
        value = attrs.get(key)
        if isinstance(value, Mapping):
            yield from (
                (f"{key}.{inner}", each) for inner, each in value.items() if (key, inner) != ("config", "epochs")
            )
        else:
            yield key, value


def check_probes(run: str, probes: Mapping[str, xr.Dataset]) -> None:
    """Refuse parts that were captured on different inputs; all but ``train`` must be the same.

    Raises
    ------
    ParameterError
    """
    first, *others = probes
    own = {name for name, array in probes[first].data_vars.items() if "seed" in array.dims}
    shared = probes[first].drop_vars(own).load()
    for other in others:
        theirs = probes[other].drop_vars(own, errors="ignore")
        for name in {**shared.data_vars, **theirs.data_vars}:
            if name not in shared or name not in theirs or not np.array_equal(shared[name], theirs[name]):
                raise _misfit(run, f"probe/{name} of {other!r} is not that of {first!r}")


def _misfit(run: str, what: str) -> ParameterError:
    return ParameterError(
        f"the parts of run {run!r} do not fit together: {what}. Open each by its own name, or capture anew the one "
        "that is wrong"
    )


def joint_attrs(run: str, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Make the attributes of a run of those of its parts; ``parts`` among them says which these were.

    Parameters
    ----------
    run : str
    parts : mapping of str to mapping
    """
    first = next(iter(parts.values()))
    states = {attrs["status"] for attrs in parts.values()}
    attrs = {key: value for key, value in first.items() if key not in ("part_of", "commit")}
    if "epochs" in attrs.get("config", ()):
        attrs["config"] = attrs["config"] | {"epochs": max(each["config"]["epochs"] for each in parts.values())}
    return {
        **attrs,
        "status": next((state for state in ("running", "interrupted") if state in states), "finished"),
        "created_at": min(each["created_at"] for each in parts.values()),
        "seeds": sorted(seed for each in parts.values() for seed in each["seeds"]),
        "diverged": {seed: epoch for each in parts.values() for seed, epoch in each["diverged"].items()},
        "parts": {
            name: {key: each[key] for key in ("seeds", "created_at", "versions") if key in each}
            | {"last_epoch": each["commit"].get("last_epoch")}
            for name, each in parts.items()
        },
    }


def joint_result(run: str, parts: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """Make the attributes of a result of those that its parts have; none where these are of different things.

    Parameters
    ----------
    run : str
        The joint name.
    parts : sequence of mapping
    seeds : sequence of int
        How many each has.
    """
    told = [{key: value for key, value in each.items() if key not in {*_RESULT_OWN, *_MEANS}} for each in parts]
    if any(each != told[0] for each in told):
        return {}
    own = {key: of(each[key] for each in parts) for key, of in _RESULT_OWN.items() if key in parts[0]}
    mean = {key: float(np.average([each[key] for each in parts], weights=seeds)) for key in _MEANS if key in parts[0]}
    return {**told[0], **own, **mean, "source_run": run}


def join_results(run: str, parts: Sequence[xr.Dataset]) -> xr.Dataset | None:
    """Present a result that every part has as one, lazily; None where they are of different things.

    Parameters
    ----------
    run : str
        The joint name.
    parts : sequence of Dataset over (..., epoch, seed, layer)

    Returns
    -------
    xarray.Dataset
        At the epochs that all have, seeds ascending.
    """
    attrs = joint_result(run, [each.attrs for each in parts], [each.sizes["seed"] for each in parts])
    standing = [each.drop_dims(["epoch", "seed"]) for each in parts]
    if not attrs or not all(each.equals(standing[0]) for each in standing):
        return None
    joined = _along_seed(parts)
    joined.attrs = attrs
    return joined


def join(run: str, parts: Mapping[str, xr.DataTree]) -> xr.DataTree:
    """Present the parts of a run as one, lazily.

    Parameters
    ----------
    run : str
        The joint name.
    parts : mapping of str to DataTree
        Each with its results.

    Returns
    -------
    xarray.DataTree
        Seeds ascend; epochs are those that every part has. A result is there if every part has the same.

    Raises
    ------
    ParameterError
        If the parts do not fit together.
    """
    stated: dict[str, Any] = {name: tree.attrs for name, tree in parts.items()}
    check_fit(run, stated)
    check_probes(run, {name: tree["probe"].to_dataset() for name, tree in parts.items()})
    attrs = joint_attrs(run, stated)
    nodes: dict[str, xr.Dataset] = {}
    first, *others = parts.values()
    for node in first.subtree:
        if any(node.path not in [each.path for each in other.subtree] for other in others):
            continue  # a result that some part lacks
        together = [tree[node.path].to_dataset() for tree in parts.values()]
        if node.path.startswith("/results/"):
            if (result := join_results(run, together)) is not None:
                nodes[node.path] = result
        else:
            nodes[node.path] = _along_seed(together)
    commits = [each["commit"] for each in stated.values()]
    epochs = nodes["/"]["epoch"].to_numpy()
    attrs["commit"] = {
        "sequence": sum(commit["sequence"] for commit in commits),
        "epochs": len(epochs),
        "last_epoch": int(epochs[-1]) if len(epochs) else None,
        "time": max(commit["time"] for commit in commits),
    }
    nodes["/"].attrs = attrs
    return xr.DataTree.from_dict(nodes, name=run)


def _along_seed(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Put datasets together along ``seed``, ascending, at the epochs that all have; the rest is that of the first."""
    common = reduce(np.intersect1d, [each["epoch"].to_numpy() for each in parts])
    some = []
    for each in parts:
        places = np.flatnonzero(np.isin(each["epoch"], common))
        gapless = len(places) and places[-1] - places[0] == len(places) - 1
        some.append(each.isel(epoch=slice(places[0], places[-1] + 1) if gapless else places))
    joined: xr.Dataset = xr.concat(
        some,
        "seed",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )
    order = np.argsort(joined["seed"].to_numpy())
    return joined if np.array_equal(order, np.arange(len(order))) else joined.isel(seed=order)
