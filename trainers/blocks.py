"""From a network in training to blocks for the writer."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ipstore.binning import MISSING, Binning, thresholds
from ipstore.block import Block, digest
from ipstore.errors import ParameterError
from ipstore.levels import Level, encode
from ipstore.trainers.ensemble import Ensemble, GradientMoments

__all__ = ["captured_epochs", "train_blocks"]


def train_blocks(
    ensemble: Ensemble,
    epochs: Sequence[int],
    start: int,
    room: Callable[[], Block],
    shard_epochs: int,
    level: Level,
    binning: Binning | None,
    stop_at: Callable[[int], int],
) -> Iterator[Block]:
    """Train, capture the chosen epochs, and give out a block whenever a shard of them is full.

    Parameters
    ----------
    ensemble : Ensemble
        At or before ``epochs[start]``.
    epochs : sequence of int
        Completed epochs at which the run is captured, ascending.
    start : int
        Index in `epochs` of the first to capture now.
    room : callable
        Gives a block to fill; may wait for one.
    shard_epochs : int
    level : {"full", "half", "codes", "weights"}
    binning : Binning or None
        The rule of the codes.
    stop_at : callable
        Asked before each capture, with its index: the index before which to stop.

    Yields
    ------
    Block
        Whole shards, save that the first may begin and the last may end within one.
    """
    probe = _Probe(ensemble, level, binning)
    block: Block | None = None
    for index in range(start, len(epochs)):
        if index >= stop_at(index):
            break
        moments = None
        while ensemble.epoch < epochs[index]:
            moments = ensemble.train_epoch()
        if block is None:
            block = room()
            block.start, block.epochs = index, []
        probe.capture(block, moments)
        if (index + 1) % shard_epochs == 0:
            yield probe.complete(block)
            block = None
    if block is not None:
        yield probe.complete(block)


class _Probe:
    """Writes what the ensemble is now into the next entry of a block."""

    def __init__(self, ensemble: Ensemble, level: Level, binning: Binning | None) -> None:
        self._ensemble = ensemble
        self._level = level
        self._binning = binning
        self._device = ensemble.device
        seeds, samples = len(ensemble.seeds), len(ensemble.task.x)
        # At level full on the CPU activations are computed where they are stored from; otherwise they pass by here.
        self._direct = level == "full" and self._device.type == "cpu"
        self._passing = (
            {}
            if self._direct
            else {
                layer: torch.empty((seeds, samples, units), device=self._device)
                for layer, units in ensemble.widths.items()
            }
        )

    def capture(self, block: Block, moments: GradientMoments | None) -> None:
        at = len(block.epochs)
        arrays = {path: torch.from_numpy(values[at]) for path, values in block.arrays.items() if path != _DIGEST}
        if self._direct:
            metrics = self._ensemble.probe({layer: arrays[f"activations/{layer}"] for layer in self._ensemble.layers})
        else:
            metrics = self._ensemble.probe(self._passing)
            self._store(block, at)
        block.epochs.append(self._ensemble.epoch)
        for layer, parameters in self._ensemble.parameters().items():
            arrays[f"weights/{layer}"].copy_(parameters, non_blocking=True)
        arrays["training/loss"].copy_(metrics.loss, non_blocking=True)
        arrays["training/accuracy"].copy_(metrics.accuracy, non_blocking=True)
        arrays["training/weight_norm"].copy_(self._ensemble.weight_norms(), non_blocking=True)
        for name in ("mean_norm", "std_norm"):
            values = arrays[f"training/grad_{name}"]
            values.fill_(torch.nan) if moments is None else values.copy_(getattr(moments, name), non_blocking=True)

    def complete(self, block: Block) -> Block:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the copies into the block's pinned memory have arrived
        block.state = self._ensemble.state()
        return block

    def _store(self, block: Block, at: int) -> None:
        for place, (layer, values) in enumerate(self._passing.items()):
            if self._level == "weights":
                cells = values.cpu().numpy()
                block.arrays[_DIGEST][at, :, place] = [digest(cell) for cell in cells]
                continue
            stored = block.arrays[f"activations/{layer}"][at]
            if self._device.type == "cpu":
                encode(values.numpy(), stored, self._binning)
            else:
                torch.from_numpy(stored).copy_(self._on_device(values), non_blocking=True)

    def _on_device(self, values: torch.Tensor) -> torch.Tensor:
        """Make what the level keeps where the activations are: the same codes as `ipstore.binning` gives."""
        if self._level == "half":
            return values.half()
        if self._level == "full" or self._binning is None:
            return values
        edges = torch.from_numpy(thresholds(self._binning.edges, np.float32)).to(self._device)
        codes = torch.bucketize(values, edges[1:-1], right=True).to(torch.uint8)
        return torch.where(values.isnan(), MISSING, codes)


_DIGEST = "digest/crc32c"


def captured_epochs(epochs: int, every: int = 1, log_spaced: int | None = None) -> list[int]:
    """Choose the epochs at which a run is captured: always 0 and the last, and between them as asked.

    Parameters
    ----------
    epochs : int
        Epochs to train.
    every : int
        Distance between captures.
    log_spaced : int, optional
        Number of captures, evenly spaced on a logarithmic scale, in place of `every`; fewer where they would fall
        on the same epoch.

    Returns
    -------
    list of int

    Raises
    ------
    ParameterError
    """
    if every < 1:
        raise ParameterError(f"every must be 1 or more but got {every}")
    if log_spaced is None:
        return sorted({*range(0, epochs + 1, every), epochs})
    if log_spaced < 2 or every != 1:
        raise ParameterError(
            f"log_spaced must be 2 or more, and every left at 1, but got log_spaced={log_spaced}, every={every}"
        )
    spaced = np.geomspace(1, max(1, epochs), log_spaced - 1).round().astype(int)
    return sorted({0, epochs, *spaced[spaced <= epochs].tolist()})
