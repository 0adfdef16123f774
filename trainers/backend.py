"""The arrays that an ensemble computes with: NumPy on the CPU, PyTorch on a device, one code for both.

The two libraries share names and ``out=`` for all that is needed here (matmul, multiply, tanh, ...). On the
CPU NumPy is the faster by far at this size: 0.4 ns per tanh where ``torch.tanh`` takes 2.6, and batched
products of matrices of ten rows take a half to a fifth of the time (NumPy 2.4 with OpenBLAS against PyTorch
2.13 with MKL, on an AMD EPYC with AVX-512). Tensors and arrays share memory, so nothing is copied in between.

Nor may a seed's numbers depend on the ensemble around it. NumPy multiplies matrices seed by seed, each by the
same kernel wherever it lies, and `ipstore.mlp.computing` keeps BLAS to one thread (processes are what uses more
cores). ``torch.bmm`` on a CPU does not: MKL chooses by the alignment of each matrix, and the last bits differ.
``torch.sigmoid`` and fused operations such as ``addcmul`` have vector and scalar code that round differently, and
where a value lies decides which computes it. What is used here beside matmul and sums is one operation at a time.
"""

from types import ModuleType
from typing import Any

import numpy as np
import torch

from ipstore.errors import ParameterError
from ipstore.mlp import Array

__all__ = ["Array", "Backend"]


class Backend:
    """Where arrays live and who computes with them.

    Parameters
    ----------
    device : str
        "cpu", or a device of PyTorch such as "cuda" or "cuda:1".
    dtype : {"float32", "float64"}

    Raises
    ------
    ParameterError
        If PyTorch does not know the device, or this machine does not have it.
    """

    xp: ModuleType

    def __init__(self, device: str, dtype: str) -> None:
        try:
            self.device = torch.device(device)
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # builds without CUDA raise AssertionError
            raise ParameterError(f"cannot train on device {device!r}: {error}") from error
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.on_cpu = self.device.type == "cpu"
        self.xp = np if self.on_cpu else torch

    def array(self, values: Any) -> Array:
        """Copy floating-point values to the device."""
        return self._own(torch.tensor(values, dtype=self.dtype, device=self.device))

    def index(self, values: Any) -> Array:
        """Move int64 indices to the device, without waiting for it."""
        return values if self.on_cpu else torch.from_numpy(values).to(self.device, non_blocking=True)

    def zeros(self, *shape: int) -> Array:
        """Allocate zeros."""
        return self._own(torch.zeros(shape, dtype=self.dtype, device=self.device))

    def tensor(self, array: Array) -> torch.Tensor:
        """See an array as a tensor, sharing memory."""
        return torch.from_numpy(array) if self.on_cpu else array

    def take_rows(self, table: Array, index: Array, out: Array) -> None:
        """``out[..., :] = table[index[...], :]``."""
        if self.on_cpu:
            np.take(table, index, axis=0, out=out, mode="clip")  # mode "raise" would buffer the output
        else:
            torch.index_select(table, 0, index.reshape(-1), out=out.view(-1, out.shape[-1]))

    def _own(self, tensor: torch.Tensor) -> Array:
        return tensor.numpy() if self.on_cpu else tensor
