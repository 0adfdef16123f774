"""One network's recordings on their way into a store: entries are filled, shards of them written in the background."""

import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.block import Block, block_bytes
from ipstore.errors import ParameterError, SpaceError
from ipstore.plan import RunPlan
from ipstore.writer import BackgroundWriter, RunWriter, Status

__all__ = ["Recording", "shard_of"]

_COMMIT_SECONDS = 60.0
"""Slow training commits after this long, however few epochs a shard has by then."""
_BLOCKS = 2  # one is filled while the other is written
_BLOCK_BYTES = 256_000_000


def shard_of(plan: RunPlan) -> int:
    """Epochs per shard: what `RunPlan` says, or fewer where so many would take more than 256 MB.

    Raises
    ------
    SpaceError
        If the blocks of this size would not fit into the machine's memory, or one epoch of a layer into a chunk.
    """
    epoch = block_bytes(plan.arrays, 1, 1)
    shard = plan.shard or max(1, min(plan.shard_epochs, _BLOCK_BYTES // epoch))
    needed = _BLOCKS * block_bytes(plan.arrays, shard, 1)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise SpaceError(
            f"one epoch takes {epoch / 1e9:,.2f} GB, and recording needs {needed / 1e9:,.2f} GB of memory where this "
            f"machine has {memory / 1e9:,.2f} GB"
        )
    for array in plan.arrays:
        try:
            array.chunks(shard)
        except ParameterError as error:
            raise SpaceError(str(error)) from error
    return shard


class Recording:
    """The stream of one network's recordings.

    Parameters
    ----------
    writer : RunWriter
        Of a run with one seed; closed by `close`.
    plan : RunPlan
    """

    def __init__(self, writer: RunWriter, plan: RunPlan) -> None:
        self._writer = writer
        self._shard = writer.shard_epochs
        self._captured = writer.epochs
        self._committed = monotonic()
        self._free: queue.SimpleQueue[Block] = queue.SimpleQueue()
        self._block: Block | None = None
        for _ in range(_BLOCKS):
            block = Block.allocate(plan.arrays, self._shard, slice(0, 1))
            block.release = partial(self._free.put, block)
            self._free.put(block)
        self._background = BackgroundWriter(writer, self._note_commit)
        self._failure: BaseException | None = None

    def entry(self) -> dict[str, NDArray[Any]]:
        """Give the arrays of the next entry, each without epoch and seed; they count once `add` is called.

        Raises
        ------
        StoreWriteError
            What the writing of earlier entries met.
        """
        self._check()
        if self._block is None:
            self._block = self._free.get()
            self._block.start, self._block.epochs = self._captured, []
            self._block.failed = np.zeros((self._shard, 1), np.bool_)
        at = len(self._block.epochs)
        return {path: values[at, 0] for path, values in self._block.arrays.items()}

    def add(self, epoch: int, failed: bool, state: dict[str, NDArray[Any]]) -> None:
        """Take the entry as filled.

        Parameters
        ----------
        epoch : int
        failed : bool
            Whether the network has come to nothing.
        state : dict of str to array
            What is needed to go on, each (seed, ...).
        """
        block = self._block
        assert block is not None
        assert block.failed is not None
        block.failed[len(block.epochs)] = failed
        block.epochs.append(epoch)
        block.state = state
        self._captured += 1
        if self._captured % self._shard == 0:
            with self._failing():
                self._hand_over()
        elif monotonic() - self._committed > _COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Commit every entry, now.

        Raises
        ------
        StoreWriteError
        """
        self._check()
        self._settle("running")
        self._background = BackgroundWriter(self._writer, self._note_commit)

    def close(self, status: Status) -> None:
        """Commit every entry, say how the recording ended, and let others write the run.

        Once the writing has failed, and that was raised, it can only let go.

        Raises
        ------
        StoreWriteError
        """
        try:
            if self._failure is None:
                self._settle(status)
            else:
                self._background.close()
        finally:
            self._writer.close()

    def _check(self) -> None:
        """Raise what the writing has met, now or before: nothing can follow what was lost."""
        if self._failure is not None:
            raise self._failure
        with self._failing():
            self._background.check()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._failure = error
            raise

    def _settle(self, status: Status) -> None:
        with self._failing():
            try:
                self._hand_over()
            finally:
                self._background.close()
            self._writer.finish(status)
        self._note_commit()

    def _hand_over(self) -> None:
        block, self._block = self._block, None
        if block is not None and block.epochs:
            block.failed = block.failed[: len(block.epochs)] if block.failed is not None else None
            self._background.put(block)
        elif block is not None:
            block.release()

    def _note_commit(self) -> None:
        self._committed = monotonic()
