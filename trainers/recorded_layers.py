"""The layers that a recorder records: found by running the model, run again at every epoch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ipstore.errors import ParameterError, UnknownNameError
from ipstore.trainers.modules import choose, matches, named
from ipstore.trainers.probe_sets import ProbeSet
from ipstore.trainers.probing import device_of, first_tensor, outputs, undisturbed
from ipstore.trainers.reductions import Reduction, make_reduction, parse_rule

__all__ = ["RecordedLayers", "Rules"]

Rules = str | Mapping[str, str]
"""A rule of reduction for all layers, or rules by pattern."""

_BATCH_BYTES = 64_000_000
"""Of outputs that are recorded, at once."""


@dataclass(frozen=True)
class _Layer:
    """One call of a module."""

    module: str
    call: int
    kind: str
    reduction: Reduction


class RecordedLayers:
    """What is recorded of a model.

    Parameters
    ----------
    model : Module
        Unwrapped.
    probe : ProbeSet
    patterns : sequence of str or None
        See `ipstore.trainers.modules.choose`.
    rules : str or mapping of str to str
        See `ipstore.trainers.Recorder`.
    batch_size : int, optional

    Attributes
    ----------
    widths : dict of str to int
        Recorded units of each layer, in the order in which the model calls them.
    left_out : dict of str to str
        Modules that were matched and are not recorded, and why.
    batch_size : int
    """

    def __init__(
        self,
        model: nn.Module,
        probe: ProbeSet,
        patterns: Sequence[str] | None,
        rules: Rules,
        batch_size: int | None = None,
    ) -> None:
        self._model, self._probe, self._patterns = model, probe, patterns
        modules = self._modules = named(model)
        self._known = set(modules)
        chosen = choose(modules, patterns)
        _check_rules(rules, modules)
        shapes, self.left_out = _shapes(model, probe, {name: modules[name] for name in chosen})
        self._refuse(chosen, shapes)
        self._layers: dict[str, _Layer] = {}
        for name, calls in shapes.items():
            for call, shape in enumerate(calls):
                layer = name if call == 0 else f"{name}+{call + 1}"
                place, kind = len(self._layers), type(modules[name])
                reduction = make_reduction(layer, modules[name], shape, _rule(rules, name), place, len(probe))
                self._layers[layer] = _Layer(name, call, f"{kind.__module__}.{kind.__qualname__}", reduction)
        self.widths = {name: layer.reduction.units for name, layer in self._layers.items()}
        sample_bytes = 4 * sum(int(np.prod(layer.reduction.shape)) for layer in self._layers.values())
        self.batch_size = batch_size or max(1, min(len(probe), _BATCH_BYTES // max(1, sample_bytes)))

    def _refuse(self, chosen: Mapping[str, bool], found: Mapping[str, Any]) -> None:
        """Refuse what was asked for and cannot be recorded."""
        wanted = [name for name, by_name in chosen.items() if by_name and name not in found]
        empty = [pattern for pattern in self._patterns or ["**"] if not any(matches(pattern, name) for name in found)]
        if wanted or empty:
            left = {name: self.left_out[name] for name in wanted} if wanted else self.left_out
            what = ", ".join(map(repr, wanted)) if wanted else f"any layer of {', '.join(map(repr, empty))}"
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left.items())
            raise ParameterError(f"cannot record {what}. {reasons}. Choose other layers")

    @property
    def described(self) -> dict[str, dict[str, Any]]:
        """What each layer is, as JSON."""
        return {
            name: {
                "module": layer.module,
                "class": layer.kind,
                "shape": list(layer.reduction.shape),
                "reduce": layer.reduction.rule,
            }
            for name, layer in self._layers.items()
        }

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """Give the parameters of each layer, those of modules within included."""
        return {name: list(self._modules[layer.module].parameters()) for name, layer in self._layers.items()}

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Give what the reductions found on the first recorded epoch, each array (seed, ...)."""
        return {
            f"{name}/{part}": array[None]
            for name, layer in self._layers.items()
            if layer.reduction.rule.startswith("pca")
            for part, array in layer.reduction.arrays.items()
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on with reductions as `state` gave them."""
        for key, array in state.items():
            name, _, part = key.rpartition("/")
            self._layers[name].reduction.arrays[part] = np.asarray(array[0])

    def added(self) -> list[str]:
        """Name modules that match the patterns and had come into the model by the last `capture`, told once."""
        new = self._modules.keys() - self._known
        self._known |= new
        return [name for name in choose(self._modules, self._patterns) if name in new] if new else []

    def capture(self, put: Callable[[str, slice, Tensor], None]) -> None:
        """Run the model on the probe.

        Parameters
        ----------
        put : callable
            Called with each layer, the samples, and their reduced output (sample, unit).

        Raises
        ------
        ParameterError
            If the model cannot run on the probe any more, or gives other shapes than it did.
        """
        self._modules = self._found()
        unfitted = [name for name, layer in self._layers.items() if layer.reduction.needs_fit]
        if unfitted:
            gathered: dict[str, list[Tensor]] = {name: [] for name in unfitted}
            self._run(lambda name, place, output: gathered[name].append(output.cpu()), unfitted)
            for name, pieces in gathered.items():
                whole = torch.cat(pieces)
                if not bool(whole.isfinite().all()):
                    raise ParameterError(
                        f"layer {name!r} gives NaN or infinite values when recording begins, so there are no "
                        "components for 'pca': mend the network, or reduce by 'mean' or 'random:K'"
                    )
                self._layers[name].reduction.fit(whole)
        self._run(lambda name, place, output: put(name, place, self._layers[name].reduction(output)), self._layers)

    def _run(self, see: Callable[[str, slice, Tensor], None], names: Sequence[str] | Mapping[str, Any]) -> None:
        wanted = {self._layers[name].module: self._modules[self._layers[name].module] for name in names}
        device = device_of(self._model)
        with undisturbed(self._model):
            for place, args, kwargs in self._probe.batches(self.batch_size, device):
                found = outputs(self._model, wanted, (args, kwargs), first_tensor)
                for name in names:
                    layer = self._layers[name]
                    calls = found.get(layer.module, [])
                    output = calls[layer.call] if layer.call < len(calls) else None
                    expected = (place.stop - place.start, *layer.reduction.shape)
                    if output is None or tuple(output.shape) != expected:
                        given = "nothing" if output is None else tuple(output.shape)
                        raise ParameterError(
                            f"layer {name!r} gave {expected} when recording began and gives {given} now; a run's "
                            "layers stay as they are: record what has changed as another run"
                        )
                    see(name, place, output)
                del found, calls, output  # the next batch takes their place

    def _found(self) -> dict[str, nn.Module]:
        modules = named(self._model)
        for layer in self._layers.values():
            if layer.module not in modules:
                raise ParameterError(
                    f"module {layer.module!r} is recorded, and is not in the model any more; a run's layers stay as "
                    "they are: record what has changed as another run"
                )
        return modules


def _shapes(
    model: nn.Module, probe: ProbeSet, modules: Mapping[str, nn.Module]
) -> tuple[dict[str, list[tuple[int, ...]]], dict[str, str]]:
    """Find out what modules give for one sample, at each call; and why others give nothing that can be recorded."""
    tried = []
    device = device_of(model)
    sizes = (2, 3) if len(probe) > 2 else (2,)  # a first dimension that is the sample's follows the number of these
    for size in sizes:
        with undisturbed(model):
            _, args, kwargs = next(probe.batches(size, device))
            tried.append(outputs(model, modules, (args, kwargs), _described))
    shapes: dict[str, list[tuple[int, ...]]] = {}
    left_out: dict[str, str] = {}
    for name in [*tried[0], *(name for name in modules if name not in tried[0])]:
        calls = [each.get(name, []) for each in tried]
        if not calls[0]:
            left_out[name] = "the model does not call it"
        elif any(len(other) != len(calls[0]) for other in calls):
            left_out[name] = "how often the model calls it depends on the samples"
        elif texts := [given for each in calls for given in each if isinstance(given, str)]:
            left_out[name] = f"it gives {texts[0]}, and no tensor of real numbers"
        elif any(
            given[:1] != (size,) or given[1:] != first[1:]
            for size, each in zip(sizes, calls, strict=True)
            for given, first in zip(each, calls[0], strict=True)
        ):
            given = " and ".join(str(each[0]) for each in calls)
            left_out[name] = (
                f"it gives {given} for {' and '.join(map(str, sizes))} samples: the first dimension must be that of "
                "the samples, and the others stay as they are"
            )
        else:
            shapes[name] = [given[1:] for given in calls[0]]
    return shapes, left_out


def _described(output: Any) -> tuple[int, ...] | str:
    tensor = first_tensor(output)
    if tensor is not None:
        return tuple(tensor.shape)
    kind = type(output).__name__
    return f"{kind} of {str(output.dtype).removeprefix('torch.')}" if isinstance(output, Tensor) else kind


def _check_rules(rules: Rules, modules: Mapping[str, nn.Module]) -> None:
    for rule in rules.values() if isinstance(rules, Mapping) else [rules]:
        parse_rule(rule)
    for pattern in rules if isinstance(rules, Mapping) else ():
        if not any(matches(pattern, name) for name in modules):
            raise UnknownNameError("module", pattern, modules)


def _rule(rules: Rules, name: str) -> str:
    if isinstance(rules, str):
        return rules
    return next((rule for pattern, rule in rules.items() if matches(pattern, name)), "flatten")
