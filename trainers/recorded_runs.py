"""What a run is that was recorded: its plan, and whether a stored one is the same."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from ipstore.binning import Binning
from ipstore.errors import ParameterError, ResumeError
from ipstore.levels import check_level
from ipstore.plan import RunPlan
from ipstore.reader import open_published
from ipstore.schema import StaticArray
from ipstore.trainers.probe_sets import ProbeSet
from ipstore.trainers.provenance import probe_arrays, task_attrs
from ipstore.trainers.recorded_layers import RecordedLayers
from ipstore.writer import RunWriter

__all__ = ["ASSUMED_EPOCHS", "check_same", "epoch_of", "how_to_record_less", "recorded_plan"]

ASSUMED_EPOCHS = 100
"""Recordings for which there has to be room, where nobody says how many there will be."""


def recorded_plan(
    model: nn.Module,
    probe: ProbeSet,
    layers: RecordedLayers,
    config: Mapping[str, Any],
    *,
    seed: int,
    train: ArrayLike | None,
    level: str,
    binning: Binning | None,
    shard: int | None,
) -> RunPlan:
    """Plan the run of a network with one seed; the parameters are those of `ipstore.trainers.Recorder`.

    Raises
    ------
    ParameterError
        If the level or `train` is not as it must be.
    """
    if check_level(level) == "weights":
        raise ParameterError(
            "level 'weights' builds ipstore's own networks again, and no others: record at level 'full', 'half' or "
            "'codes'"
        )
    task = probe.task
    arrays = probe_arrays(task)
    if train is not None:
        mask = np.asarray(train)
        if mask.shape != (len(probe),) or mask.dtype != np.bool_:
            raise ParameterError(
                f"train must say True or False of each of the {len(probe)} samples that are recorded, but is "
                f"{mask.dtype} of shape {mask.shape}"
            )
        arrays.append(StaticArray("probe/train", ("seed", "sample"), mask[None]))
    kind = type(model)
    return RunPlan(
        layers=layers.widths,
        parameters={},
        seeds=[seed],
        probe=arrays,
        attrs={
            **task_attrs(task),
            "model": {
                "kind": "module",
                "class": f"{kind.__module__}.{kind.__qualname__}",
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "layers": layers.described,
                "left_out": layers.left_out,
            },
            "config": {**config, **probe.about},
        },
        level=check_level(level),
        binning=binning,
        shard=shard,
        loss={"long_name": "loss"},
    )


def check_same(writer: RunWriter, plan: RunPlan) -> None:
    """Refuse to go on with a run that is of something else.

    Raises
    ------
    ResumeError
        It names what differs first.
    """
    run = writer.place.name
    stored = writer.attrs
    binning = plan.binning.to_attrs() if plan.binning and plan.level == "codes" else None
    wanted = {**plan.attrs, "level": plan.level, "seeds": list(plan.seeds), "binning": binning}
    for what in ("model", "config", "level", "binning", "seeds", "part_of"):
        if differing := _differing(what, stored.get(what), json.loads(json.dumps(wanted.get(what)))):
            raise ResumeError(
                f"run {run!r} cannot be gone on with: {differing}. Give what it was begun with, or record "
                "under another name, or with overwrite=True"
            )
    probe = open_published(writer.place)["probe"]
    given = {array.path.removeprefix("probe/"): array.values for array in plan.probe}
    for name in sorted({*given, *map(str, probe.data_vars)}):
        if name not in given or name not in probe or not np.array_equal(probe[name], given[name]):
            raise ResumeError(
                f"run {run!r} cannot be gone on with: its probe/{name} is not that of this probe. Give the "
                "samples with which it was begun, in their order, or record under another name"
            )


def _differing(name: str, stored: Any, given: Any) -> str:
    """Say where two JSON values differ first; nothing if they do not."""
    if isinstance(stored, dict) and isinstance(given, dict):
        parts = (_differing(f"{name}.{key}", stored.get(key), given.get(key)) for key in {**stored, **given})
        return next(filter(None, parts), "")
    return "" if stored == given else f"its {name} is {stored!r}, and now it is {given!r}"


def epoch_of(state: Mapping[str, Any], run: str) -> int:
    """Read the epoch of what `Recorder.state_dict` gave."""
    if any(type(state.get(key)) is not int for key in ("epoch", "recorded")) or state.get("run") != run:
        raise ResumeError(
            f"the state is not of run {run!r} but {dict(state)!r}; give what this run's recorder gave as state_dict()"
        )
    epoch: int = state["epoch"]
    return epoch


def how_to_record_less(layers: Mapping[str, int], probe: ProbeSet, epochs: int | None) -> str:
    """Say what a recording consists of, and how it becomes smaller."""
    widest = sorted(layers, key=lambda name: -layers[name])[:3]
    sizes = ", ".join(f"{name} {layers[name] * len(probe) * 4 / 1e6:,.1f} MB" for name in widest)
    assumed = f", epochs= if there will be fewer than the {ASSUMED_EPOCHS} assumed" if epochs is None else ""
    return (
        f"The widest layers take, each epoch: {sizes}. Give reduce= ('mean', 'pca:64' or 'random:64'), sample=, fewer "
        f"layers=, a larger every=, level='half' or 'codes'{assumed}"
    )
