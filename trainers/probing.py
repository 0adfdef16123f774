"""A model run on a probe, so that the training does not notice: what its layers give, and nothing else changed."""

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ipstore.errors import ParameterError
from ipstore.trainers.modules import MODEL

__all__ = ["Outputs", "device_of", "first_tensor", "outputs", "undisturbed"]

Outputs = dict[str, list[Any]]
"""What each module gave, by name: one entry for each time that it was called, in the order of the first calls."""


def device_of(model: nn.Module) -> torch.device:
    """Where a model takes its inputs: the device of its first parameter or buffer."""
    for tensors in (model.parameters(), model.buffers()):
        for tensor in tensors:
            if tensor.is_meta:
                raise ParameterError("the model's parameters are on the device 'meta', without values: nothing can run")
            return tensor.device
    return torch.device("cpu")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate a model in the midst of its training, and leave no trace.

    Within, it is in eval mode, without gradients, autocast, compiled code and fused layers that pass modules by. After,
    each module's own mode, all buffers and the states of the random number generators are what they were.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer._version, buffer.detach().clone())
        for module, _ in modes
        for name, buffer in module.named_buffers(recurse=False)
    ]
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type != "cpu"}
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
            for module, _ in modes:
                module.training = False
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fastpath)
            for module, mode in modes:
                module.training = mode
            for module, name, buffer, version, before in buffers:
                module._buffers[name] = buffer
                if buffer._version != version:
                    buffer.copy_(before)
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


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

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items() if name != MODEL]
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
    if MODEL in modules:
        found[MODEL] = [take(whole)]
    return found


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
