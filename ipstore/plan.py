"""What a run will hold, before its first epoch: its arrays, its probe, its size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ipstore.binning import Binning
from ipstore.errors import ParameterError, SpaceError
from ipstore.levels import EXPECTED_RATIO, LEVELS, Level, stored_dtype
from ipstore.schema import EPOCHS, GrowingArray, StaticArray, check_name, shard_epochs

__all__ = ["SPLITS", "RunPlan", "largest_level", "require_space"]

SPLITS = ("train", "test")
"""Labels along the dimension ``split``."""

_SMALL_ARRAY_BYTES = 2**16


@dataclass(frozen=True)
class RunPlan:
    """The shape of a run.

    Parameters
    ----------
    layers : mapping of str to int
        Units of each layer, in network order.
    parameters : mapping of str to int
        Number of parameters of each layer.
    seeds : sequence of int
        One network each.
    probe : sequence of StaticArray
        Arrays below ``probe/``: ``x (sample, feature)``, ``y (sample)``, ``p_x (sample)``,
        ``p_y_given_x (sample, class)``, ``x_id (sample)``.
    attrs : mapping
        JSON attributes of the run: task, model, config, versions.
    level : {"full", "half", "codes", "weights"}
    binning : Binning, optional
        The rule of the codes; needed at level ``codes``.
    shard : int, optional
        Epochs per shard; by default what `ipstore.schema.shard_epochs` gives.
    loss : mapping of str to str
        What the loss is: its attributes ``long_name`` and ``units``.
    """

    layers: Mapping[str, int]
    parameters: Mapping[str, int]
    seeds: Sequence[int]
    probe: Sequence[StaticArray]
    attrs: Mapping[str, Any]
    level: Level = "full"
    binning: Binning | None = None
    shard: int | None = None
    loss: Mapping[str, str] = field(default_factory=lambda: {"long_name": "cross-entropy", "units": "nats"})

    def __post_init__(self) -> None:
        for layer in self.layers:
            check_name("layer", layer)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ParameterError(f"seeds must be at least one, each once, but got {list(self.seeds)}")
        if self.level == "codes" and self.binning is None:
            raise ParameterError("level 'codes' needs a binning, such as Binning(bins=30, range=(-1, 1))")
        if self.shard is not None and self.shard < 1:
            raise ParameterError(f"a shard holds 1 epoch or more but got {self.shard}")

    @property
    def samples(self) -> int:
        """Number of probe samples."""
        return next(len(array.values) for array in self.probe if array.path == "probe/x")

    @cached_property
    def arrays(self) -> tuple[GrowingArray, ...]:
        """Every array that grows."""
        seeds, layers = len(self.seeds), len(self.layers)
        made = [EPOCHS]
        if self.level != "weights":
            attrs = {"binning": self.binning.to_attrs()} if self.level == "codes" and self.binning else {}
            made += [
                GrowingArray(
                    f"activations/{layer}",
                    ("seed", "sample", f"{layer}_unit"),
                    (seeds, self.samples, units),
                    stored_dtype(self.level),
                    per_seed=True,
                    attrs=attrs,
                )
                for layer, units in self.layers.items()
            ]
        made += [
            GrowingArray(
                f"weights/{layer}",
                ("seed", f"{layer}_param"),
                (seeds, count),
                "float32",
                per_seed=count * 4 > _SMALL_ARRAY_BYTES,
            )
            for layer, count in self.parameters.items()
        ]
        per_split = (("seed", "split"), (seeds, len(SPLITS)), "float32")
        per_layer = (("seed", "layer"), (seeds, layers), "float32")
        made += [
            GrowingArray("training/loss", *per_split, attrs=self.loss),
            GrowingArray("training/accuracy", *per_split, attrs={"units": "1"}),
            GrowingArray("training/grad_mean_norm", *per_layer, attrs={"long_name": "norm of the mean gradient"}),
            GrowingArray("training/grad_std_norm", *per_layer, attrs={"long_name": "norm of the gradient's std"}),
            GrowingArray("training/weight_norm", *per_layer, attrs={"long_name": "norm of the parameters"}),
            GrowingArray("digest/crc32c", ("seed", "layer"), (seeds, layers), "uint32"),
        ]
        return tuple(made)

    @property
    def coordinates(self) -> tuple[StaticArray, ...]:
        """Labels along ``seed``, ``layer`` and ``split``."""
        layer = np.array(list(self.layers), np.dtypes.StringDType())
        split = np.array(SPLITS, np.dtypes.StringDType())
        return (
            StaticArray("seed", ("seed",), np.array(self.seeds, np.int64)),
            StaticArray("training/layer", ("layer",), layer),
            StaticArray("training/split", ("split",), split),
            StaticArray("digest/layer", ("layer",), layer),
        )

    @property
    def shard_epochs(self) -> int:
        """Epochs per shard."""
        return self.shard or shard_epochs(self.arrays)

    def stored_bytes(self, epochs: int) -> int:
        """Bytes that so many captured epochs are expected to take on the disk."""
        ratio = EXPECTED_RATIO[self.level]
        per_epoch = sum(
            array.epoch_bytes * (ratio if array.path.startswith("activations/") else 1) for array in self.arrays
        )
        return int(per_epoch * epochs) + sum(array.values.nbytes for array in self.probe)


def largest_level(plan: RunPlan, epochs: int, budget: int) -> Level | None:
    """Find the first level, from ``full`` down, at which a run is expected to fit.

    Parameters
    ----------
    plan : RunPlan
        With a binning, if ``codes`` is to be considered.
    epochs : int
        Captured epochs.
    budget : int
        Bytes.

    Returns
    -------
    str or None
        None if not even ``weights`` fits.
    """
    for level in LEVELS:
        if level == "codes" and plan.binning is None:
            continue
        if replace(plan, level=level).stored_bytes(epochs) <= budget:
            return level
    return None


def require_space(plan: RunPlan, epochs: int, free: int) -> None:
    """Refuse a run that would not fit.

    Parameters
    ----------
    plan : RunPlan
    epochs : int
        Captured epochs.
    free : int
        Bytes.

    Raises
    ------
    SpaceError
        The message names the largest level that would fit.
    """
    needed = plan.stored_bytes(epochs)
    if needed <= free:
        return
    fitting = largest_level(plan, epochs, free)
    advice = (
        f"level {fitting!r} would take {replace(plan, level=fitting).stored_bytes(epochs) / 1e9:,.2f} GB"
        if fitting
        else "no level would fit: capture fewer epochs or seeds"
    )
    raise SpaceError(
        f"{epochs} epochs of {len(plan.seeds)} seeds at level {plan.level!r} take about {needed / 1e9:,.2f} GB, and "
        f"{free / 1e9:,.2f} GB are free; {advice}"
    )
