"""Whether two trainings ended the same, to the bit."""

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

__all__ = ["assert_same_tensors", "generators"]


def generators() -> tuple[bytes, bytes, object]:
    """Give the states of the generators of PyTorch, NumPy and Python."""
    return (
        torch.get_rng_state().numpy().tobytes(),
        np.random.get_state()[1].tobytes(),  # type: ignore[index]  # noqa: NPY002
        random.getstate(),
    )


def assert_same_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Fail unless both hold the same names, types and bytes."""
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype
        assert tensor.numpy().tobytes() == second[name].numpy().tobytes(), name
