"""A model run on a probe, so that the training does not notice: what its layers give, and nothing else changed."""

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ipstore.errors import ParameterError

__all__ = ["Outputs", "device_of", "first_tensor", "outputs", "undisturbed"]

Outputs = dict[str, list[Any]]
"""What each module gave, by name: one entry for each time that it was called, in the order of the first calls."""


_Random = torch.Generator | np.random.Generator | random.Random
_RANDOM = {torch.Generator, np.random.Generator, random.Random}


def device_of(model: nn.Module) -> torch.device:
    """Where a model takes its inputs: the device of its first parameter or buffer.

    Raises
    ------
    ParameterError
        If a parameter or buffer has no values yet.
    """
    found = [*model.named_parameters(), *model.named_buffers()]
    for name, tensor in found:
        if tensor.is_meta:
            raise ParameterError(
                f"{name!r} of the model is on the device 'meta', without values, so the model cannot run on the probe: "
                "move it with model.to_empty(device=...) and initialise it, then record it"
            )
        if nn.parameter.is_lazy(tensor):
            raise ParameterError(
                f"{name!r} of the model gets its shape from the first batch: run the model on a batch once, then "
                "record it"
            )
    return found[0][1].device if found else torch.device("cpu")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate a model in the midst of its training, and leave no trace.

    Within, it is in eval mode, without gradients, autocast, compiled code and fused layers that pass modules by. After,
    each module's own mode, all buffers and the states of the random number generators, those that modules hold among
    them, are what they were.
    """
    attributes = [vars(module) for module in model.modules()]
    # In each module's own dictionary: to set attributes of modules is slow, and a wrapper of torch.compile has no mode.
    modes = [(own, own["training"]) for own in attributes if "training" in own]
    # Accelerate puts autocast around a model's forward, and leaves the model's own beside it.
    wrapped = [(own, own["forward"]) for own in attributes if "_original_forward" in own and "forward" in own]
    held = [(own["_buffers"], dict(own["_buffers"])) for own in attributes]
    buffers = {id(buffer): buffer for _, own in held for buffer in own.values() if buffer is not None}
    copies = [(buffer, buffer.detach().clone()) for buffer in buffers.values()]
    rewind = [_rewinder(value) for own in attributes for value in own.values() if type(value) in _RANDOM]
    tensors = [*buffers.values(), *(tensor for own in attributes for tensor in own["_parameters"].values())]
    devices = {tensor.device for tensor in tensors if tensor is not None and not tensor.is_cpu}
    kinds = {device.type for device in devices} or {"cpu"}
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  (it is the training's, not ours)
    fastpath = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        for kind in kinds:
            indices = [device.index or 0 for device in devices if device.type == kind]
            own = {"device_type": kind} if kind != "cpu" else {}
            stack.enter_context(torch.random.fork_rng(indices, **own))
        for kind in kinds | {"cpu"}:
            # Casts that were made without gradients must not be found in autocast's cache by the training.
            stack.enter_context(torch.autocast(kind, enabled=False, cache_enabled=False))
        stack.enter_context(torch.no_grad())
        if "torch._dynamo" in sys.modules:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            for own, _ in wrapped:
                own["forward"] = own["_original_forward"]
            for own, _ in modes:
                own["training"] = False
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fastpath)
            for own, mode in modes:
                own["training"] = mode
            for own, forward in wrapped:
                own["forward"] = forward
            for now, before in held:
                now.clear()
                now.update(before)
            for buffer, copy in copies:
                if not _same_bits(buffer, copy):
                    buffer.data.copy_(copy)
            for back in rewind:
                back()
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


def _rewinder(generator: _Random) -> Callable[[], Any]:
    """Give what sets a random number generator back to where it is now."""
    if isinstance(generator, torch.Generator):
        return partial(generator.set_state, generator.get_state())
    if isinstance(generator, np.random.Generator):
        return partial(setattr, generator.bit_generator, "state", generator.bit_generator.state)
    return partial(generator.setstate, generator.getstate())


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.layout != torch.strided:
        return False
    first, second = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)


def outputs(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    arguments: tuple[Sequence[Tensor], Mapping[str, Tensor]],
    take: Callable[[Any], Any],
) -> Outputs:
    """Run a model once, and give what some of its modules return.

    Parameters
    ----------
    model : Module
        `undisturbed`.
    modules : mapping of str to Module
    arguments : (sequence, mapping) of Tensor
        By position, and by name.
    take : callable
        Of each output, what to keep.

    Raises
    ------
    ParameterError
        If the model cannot run on the arguments.
    """
    found: Outputs = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found.setdefault(name, []).append(take(output))

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items() if module is not model]
    try:
        whole = model(*arguments[0], **arguments[1])
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        given = [*map(_words, arguments[0]), *(f"{name}={_words(value)}" for name, value in arguments[1].items())]
        raise ParameterError(
            f"{type(model).__name__} cannot run on the probe, {', '.join(given)}: {type(error).__name__}: {error}. "
            "Give x as the model takes it: a tensor, a tuple of arguments, or a mapping of arguments by name"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found | {name: [take(whole)] for name, module in modules.items() if module is model}


def _words(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)} on {tensor.device}"


def first_tensor(output: Any) -> Tensor | None:
    """Give the first tensor of real numbers in an output: itself, or in a tuple, list or mapping, depth first."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        for part in output:
            if (found := first_tensor(part)) is not None:
                return found
    return None
