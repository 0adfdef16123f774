"""The layers of a network that somebody else wrote: which of its modules are recorded, and under which names."""

import re
from collections.abc import Mapping, Sequence

from torch import nn

from ipstore.errors import ParameterError, UnknownNameError
from ipstore.schema import check_name

__all__ = ["MODEL", "choose", "matches", "named", "unwrap"]

MODEL = "model"
"""The name of what the whole model returns."""

_ACTIVATIONS = ("torch.nn.modules.activation", "transformers.activations")
"""Where activation functions that are modules are defined."""


_SPREAD = {"FullyShardedDataParallel", "FSDPModule"}


def unwrap(model: nn.Module) -> nn.Module:
    """Take off what ``torch.compile`` and data-parallel training put around a model.

    Raises
    ------
    ParameterError
        If each process holds a part of the parameters only, as under FSDP.
    """
    spread = [name or type(model).__name__ for name, module in model.named_modules() if _kinds(module) & _SPREAD]
    spread += [name for name, parameter in model.named_parameters() if "DTensor" in _kinds(parameter)]
    if spread:
        raise ParameterError(
            f"{spread[0]} of the model has its parameters spread over processes, so no process can run it by itself on "
            "the probe: record under DDP, or on one device"
        )
    while True:
        kinds = _kinds(model)
        if "OptimizedModule" in kinds:
            model = model._orig_mod  # type: ignore[assignment]
        elif kinds & {"DistributedDataParallel", "DataParallel"}:
            model = model.module  # type: ignore[assignment]
        else:
            return model


def _kinds(thing: object) -> set[str]:
    return {kind.__name__ for kind in type(thing).__mro__}


def named(model: nn.Module) -> dict[str, nn.Module]:
    """Give all modules of an unwrapped model by name: `MODEL` for itself, dotted paths for those in it.

    A module that is in several places is there once, under its first name. What ``torch.compile`` has put around a
    module is not seen. A model whose own attribute is called `MODEL` leaves the name to that.
    """
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        name = ".".join(part for part in path.split(".") if part != "_orig_mod") or MODEL
        if type(module).__name__ != "OptimizedModule" and (module is not model or MODEL not in model._modules):
            found.setdefault(name, module)
    return found


def choose(modules: Mapping[str, nn.Module], patterns: Sequence[str] | None) -> dict[str, bool]:
    """Choose the modules to record.

    Parameters
    ----------
    modules : mapping of str to Module
        As `named` gives them.
    patterns : sequence of str, optional
        Names, in which ``*`` stands for any part of a name between two dots, ``**`` for any parts, and ``?`` for a
        character. By default every module without children that has parameters or is an activation function.

    Returns
    -------
    dict of str to bool
        By name, in the order of the model: whether it was asked for by its full name.

    Raises
    ------
    UnknownNameError
        If a pattern matches no module; the message has the names.
    ParameterError
        If there is none, or a name cannot be stored.
    """
    if patterns is None:
        chosen = {name: False for name, module in modules.items() if _counts(name, module)}
        if not chosen:
            raise ParameterError(
                f"none of the model's modules ({', '.join(modules)}) has parameters of its own or is an activation "
                "function; choose with layers=[...]"
            )
    else:
        given = [patterns] if isinstance(patterns, str) else list(patterns)
        matched: dict[str, bool] = {}
        for pattern in given:
            found = [name for name in modules if matches(pattern, name)]
            if not found:
                raise UnknownNameError("module", pattern, modules)
            for name in found:
                matched[name] = matched.get(name, False) or name == pattern
        chosen = {name: matched[name] for name in modules if name in matched}
        if not chosen:
            raise ParameterError("layers=[] records nothing; leave it out to record every layer, or name some")
    for name in chosen:
        check_name("layer", name)
    return chosen


def _counts(name: str, module: nn.Module) -> bool:
    if "parametrizations" in name.split(".") or any(name != "parametrizations" for name, _ in module.named_children()):
        return False  # what a weight norm puts into a layer is no layer, and the layer remains one
    return next(module.parameters(), None) is not None or type(module).__module__ in _ACTIVATIONS


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern, as `choose` takes it, stands for a name."""
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    wild = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    return re.fullmatch("".join(wild.get(part) or re.escape(part) for part in parts), name) is not None
