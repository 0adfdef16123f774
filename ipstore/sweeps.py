"""A sweep: one training at every combination of some of its settings, each a run of its own.

Every run says of which sweep it is one, along which axes that lies, and where on these the run stands (attribute
``sweep``): whoever finds one run of a sweep knows all the others, also those that are not there yet.
"""

import math
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from ipstore.binning import Binning
from ipstore.errors import ParameterError
from ipstore.schema import check_name

__all__ = ["Sweep", "Value", "as_text", "sweep_of"]

Value = str | int | float | None | tuple[int, ...]
"""A setting: a word, a number, widths of hidden layers, or None (a batch of all samples)."""

_AXIS = re.compile(r"[a-z][a-z_]{0,31}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MOST_RUNS = 4096


def as_text(value: Value) -> str:
    """Write a value as run names and the command line have it: ``0.05``, ``tanh``, ``10-7-5``, ``none``, ``full``.

    Parameters
    ----------
    value : str, int, float, tuple of int or None
        Of widths ``()`` is ``none``; None is ``full``, a batch of all samples.

    Returns
    -------
    str
    """
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return "full" if value is None else str(value)


@dataclass(frozen=True)
class Sweep:
    """Which runs a sweep has.

    Parameters
    ----------
    name : str
    axes : mapping of str to tuple
        The values of each setting that varies, each once.
    binning : Binning, optional
        Of the codes of all runs; by default each run has that of its activation.
    shard_epochs : int, optional
        Epochs per shard of all runs; by default each has what `ipstore.schema.shard_epochs` gives.

    Raises
    ------
    ParameterError
        If there is no axis, an axis has no value or one twice, there are more than 4096 runs, or a name or a value is
        not allowed.
    """

    name: str
    axes: Mapping[str, tuple[Value, ...]]
    binning: Binning | None = None
    shard_epochs: int | None = None

    def __post_init__(self) -> None:
        check_name("sweep", self.name)
        if not self.axes:
            raise ParameterError(f"sweep {self.name!r} has no axis; give one setting or more several values")
        for axis, values in self.axes.items():
            if not _AXIS.fullmatch(axis):
                raise ParameterError(f"axes of a sweep are named by small letters and _, but got {axis!r}")
            texts = [as_text(_from_json(_to_json(value))) for value in values]
            if not texts:
                raise ParameterError(f"axis {axis!r} of sweep {self.name!r} has no value; give one or more")
            if again := [text for place, text in enumerate(texts) if text in texts[:place]]:
                raise ParameterError(
                    f"axis {axis!r} of sweep {self.name!r} has the value {again[0]} twice; give each once"
                )
        if (count := math.prod(map(len, self.axes.values()))) > _MOST_RUNS:
            raise ParameterError(f"sweep {self.name!r} would have {count} runs, and none has more than {_MOST_RUNS}")
        longest = {axis: max(values, key=lambda value: len(as_text(value))) for axis, values in self.axes.items()}
        self.run(longest)

    def points(self) -> Iterator[dict[str, Value]]:
        """Give every combination of the values, the last axis changing fastest."""
        for values in product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def runs(self) -> dict[str, dict[str, Value]]:
        """Give every run's name, with where it stands."""
        return {self.run(at): at for at in self.points()}

    def run(self, at: Mapping[str, Value]) -> str:
        """Name the run at a combination: ``<sweep>-<axis>=<value>-<axis>=<value>``.

        Raises
        ------
        ParameterError
            If that is not a name a run can have.
        """
        return check_name("run", "-".join([self.name, *(f"{axis}={as_text(at[axis])}" for axis in self.axes)]))

    def to_attrs(self, at: Mapping[str, Value]) -> dict[str, Any]:
        """Give the attribute ``sweep`` of the run at a combination, as JSON values."""
        asked = {
            "binning": self.binning and self.binning.to_attrs(),
            "shard_epochs": self.shard_epochs,
        }
        return {
            "name": self.name,
            "axes": {axis: [_to_json(value) for value in values] for axis, values in self.axes.items()},
            "at": {axis: _to_json(at[axis]) for axis in self.axes},
            **{key: value for key, value in asked.items() if value is not None},
        }

    @classmethod
    def from_attrs(cls, attrs: Any) -> tuple["Sweep", dict[str, Value]]:
        """Read what `to_attrs` gave.

        Parameters
        ----------
        attrs
            Anything, as it was read.

        Returns
        -------
        (Sweep, dict)
            The sweep, and where on its axes the run stands.

        Raises
        ------
        ParameterError
            If it describes no sweep.
        """
        match attrs:
            case {"name": str(name), "axes": dict(axes), "at": dict(at), **asked}:
                pass
            case _:
                raise ParameterError("a sweep has a name, axes, and says where on these the run stands ('at')")
        if not all(isinstance(values, list) for values in axes.values()):
            raise ParameterError("each axis of a sweep lists its values")
        binning, shard = _binning(asked.get("binning")), asked.get("shard_epochs")
        if shard is not None and (type(shard) is not int or not 1 <= shard < 2**31):
            raise ParameterError(
                f"shard_epochs of a sweep must be an integer of at least 1 but is {reprlib.repr(shard)}"
            )
        sweep = cls(
            name,
            {axis: tuple(map(_from_json, values)) for axis, values in axes.items()},
            binning,
            shard,
        )
        if at.keys() != axes.keys() or any(at[axis] not in values for axis, values in axes.items()):
            raise ParameterError(f"the run stands at {reprlib.repr(at)}, which is no combination of the sweep's values")
        return sweep, {axis: values[axes[axis].index(at[axis])] for axis, values in sweep.axes.items()}


def sweep_of(run: str, attrs: Mapping[Any, Any]) -> tuple[Sweep, dict[str, Value]] | None:
    """Say of which sweep a run is one, and where on its axes it stands.

    Parameters
    ----------
    run : str
        Its name.
    attrs : mapping
        Its attributes.

    Returns
    -------
    (Sweep, dict) or None
        None if it is of none, as a copy under another name is not.
    """
    if "sweep" not in attrs:
        return None
    sweep, at = Sweep.from_attrs(attrs["sweep"])
    return (sweep, at) if sweep.run(at) == run else None


def _binning(attrs: Any) -> Binning | None:
    match attrs:
        case None:
            return None
        case {"rule": "equal", "bins": int(bins), "range": [int() | float() as low, int() | float() as high]}:
            return Binning(bins, (float(low), float(high)))
    raise ParameterError(f"the binning of a sweep is equal bins with a range, but is {reprlib.repr(attrs)}")


def _to_json(value: Value) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _from_json(value: Any) -> Value:
    match value:
        case None:
            return None
        case str() if _WORD.fullmatch(value):
            return value
        case bool():
            pass
        case int() | float() if isinstance(value, float) or abs(value) < 2**63:
            return value
        case [*widths] if len(widths) <= 64 and all(type(width) is int and 0 < width < 2**31 for width in widths):
            return tuple(widths)
    raise ParameterError(
        f"a value of a sweep is a word, a number, a list of widths or null, but got {reprlib.repr(value)}"
    )
