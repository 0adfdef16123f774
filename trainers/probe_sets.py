"""The samples on which a network is recorded: what it is run on, and the joint distribution that they stand for."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ipstore.errors import ParameterError
from ipstore.trainers.tasks.base import Task

__all__ = ["Inputs", "ProbeSet", "probe_set"]

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""What a model takes: one argument, several by position, or several by name."""


@dataclass(frozen=True)
class ProbeSet:
    """A probe, checked.

    Attributes
    ----------
    names : tuple of str
        Of the inputs, where the model takes them by name; else empty.
    inputs : tuple of Tensor
        Each (sample, ...).
    task : Task
        The samples with their p(x, y); inputs of any shape are its features, flattened.
    about : mapping
        What was done to make it, as JSON: ``sample``, ``label_bins``, ``classes``.
    """

    names: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    task: Task
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.task.x)

    def batches(self, size: int, device: torch.device) -> Iterator[tuple[slice, tuple[Tensor, ...], dict[str, Tensor]]]:
        """Give the probe in pieces, on a device: where each lies, and the arguments by position and by name."""
        for start in range(0, len(self), size):
            place = slice(start, min(start + size, len(self)))
            moved = tuple(tensor[place].to(device) for tensor in self.inputs)
            yield place, () if self.names else moved, dict(zip(self.names, moved, strict=False))


def probe_set(probe: object, *, sample: int | None = None, label_bins: int = 10) -> ProbeSet:
    """Make a probe of what a user has.

    Parameters
    ----------
    probe : Task, or (x, y)
        `x` is what the model takes: a tensor or array, a tuple of these, or a mapping by name. `y` (sample,) holds
        classes, or continuous labels; or it is p(y|x) (sample, class).
    sample : int, optional
        Record so many of the samples, drawn without replacement, the same at every time.
    label_bins : int
        Quantile bins of continuous labels.

    Returns
    -------
    ProbeSet
        p(y|x) is that counted over the samples, unless it was given: the share of each class among equal inputs.

    Raises
    ------
    ParameterError
        If shapes disagree, a value is not finite, or there is one class only.
    """
    if isinstance(probe, Task):
        (names, inputs), y = _inputs(probe.x), np.asarray(probe.p_y_given_x)
    elif isinstance(probe, Sequence) and len(probe) == 2:
        (names, inputs), y = _inputs(probe[0]), _array(probe[1])
    else:
        length = f" of {len(probe)}" if isinstance(probe, tuple | list) else ""
        raise ParameterError(
            "probe must be (x, y), or a task as ipstore.trainers.tasks.load gives it, but got "
            f"{type(probe).__name__}{length}; x of several arguments is a tuple or a mapping itself"
        )
    lengths = {len(tensor) for tensor in inputs} | {len(y) if y.ndim else 0}
    if len(lengths) != 1 or 0 in lengths:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise ParameterError(f"the probe's x and y must have as many samples but have shapes {shapes} and {y.shape}")
    (count,) = lengths
    about: dict[str, Any] = {}
    chosen = np.arange(count)
    if sample is not None:
        if type(sample) is not int or not 1 < sample <= count:
            raise ParameterError(f"sample must be 2 to {count}, the number of samples of the probe, but got {sample!r}")
        chosen = np.sort(np.random.Generator(np.random.Philox(key=0)).choice(count, sample, replace=False))
        about["sample"] = {"drawn": sample, "of": count}
    inputs = tuple(tensor[chosen].detach().cpu() for tensor in inputs)
    y = y[chosen]
    if isinstance(probe, Task):
        p_x, p_y_given_x, x_id = probe.p_x[chosen], y, probe.x_id[chosen]
    else:
        p_x, x_id = np.full(len(y), 1 / len(y)), _identities(inputs)
        p_y_given_x, told = _labels(y, x_id, label_bins)
        about |= told
    task = Task(
        np.concatenate([_features(tensor) for tensor in inputs], axis=1),
        p_x / p_x.sum(),
        p_y_given_x,
        x_id,
        population=isinstance(probe, Task) and probe.population and sample is None,
        name=probe.name if isinstance(probe, Task) else "",
        params=probe.params if isinstance(probe, Task) else {},
    )
    return ProbeSet(names, inputs, task, about)


def _inputs(x: Any) -> tuple[tuple[str, ...], tuple[Tensor, ...]]:
    names = tuple(x) if isinstance(x, Mapping) else ()
    several = isinstance(x, Mapping | tuple | list)
    given = list(x.values()) if isinstance(x, Mapping) else list(x) if several else [x]
    tensors = tuple(tensor if isinstance(tensor, Tensor) else _tensor(tensor) for tensor in given)
    for tensor in tensors:
        if tensor.ndim == 0 or tensor.is_meta:
            raise ParameterError(
                f"the probe's x must be (sample, ...) with values but is {tuple(tensor.shape)} on {tensor.device}"
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ParameterError("the probe's x holds NaN or infinite values; give finite ones")
    if not tensors:
        raise ParameterError("the probe's x has no input")
    return names, tensors


def _tensor(values: Any) -> Tensor:
    try:
        return torch.from_numpy(np.array(values))
    except (TypeError, ValueError) as error:
        what = f"{type(values).__name__} of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
        raise ParameterError(f"the probe's x must be tensors or arrays of numbers but got {what}") from error


def _array(values: Any) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _features(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.reshape(len(tensor), -1).float().numpy()


def _identities(inputs: Sequence[Tensor]) -> NDArray[np.int64]:
    """Give equal inputs equal numbers, (sample,)."""
    rows = [tensor.contiguous().reshape(len(tensor), -1).view(torch.uint8).numpy() for tensor in inputs]
    seen: dict[bytes, int] = {}
    digests = (hashlib.blake2b(b"".join(row[at].tobytes() for row in rows)).digest() for at in range(len(rows[0])))
    return np.array([seen.setdefault(digest, len(seen)) for digest in digests], np.int64)


def _labels(y: NDArray[Any], x_id: NDArray[np.int64], bins: int) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Give p(y|x) (sample, class), and what its classes are."""
    if y.ndim == 2 and y.shape[1] > 1:
        return np.asarray(y, np.float64), {}
    y = y.reshape(-1) if y.ndim == 2 else y
    if y.ndim != 1:
        raise ParameterError(f"the probe's y must be (sample,), or p(y|x) (sample, class), but has shape {y.shape}")
    about: dict[str, Any] = {}
    if y.dtype.kind == "f":
        if not np.isfinite(y).all():
            raise ParameterError("the probe's y holds NaN or infinite values; give finite ones")
        if (y != np.round(y)).any() and (y != y[0]).any():
            y, edges = _quantiles(y, bins)
            about["label_bins"] = {"rule": "quantile", "edges": edges}
    classes, index = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ParameterError(f"the probe's labels are all {classes[0]!s}: I(T;Y) needs at least two classes")
    if not about:
        about["classes"] = classes.tolist()
    counts = np.zeros((x_id.max() + 1, len(classes)))
    np.add.at(counts, (x_id, index), 1.0)
    return (counts / counts.sum(1, keepdims=True))[x_id], about


def _quantiles(y: ArrayLike, bins: int) -> tuple[NDArray[np.int64], list[float]]:
    """Bin continuous labels by their quantiles; equal labels stay together."""
    if type(bins) is not int or bins < 2:
        raise ParameterError(f"label_bins must be at least 2 but got {bins!r}")
    values = np.asarray(y, np.float64)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right"), edges.tolist()
