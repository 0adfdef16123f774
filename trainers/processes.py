"""Seeds shared out over processes: each trains its own and hands its blocks over through shared memory.

A worker is a fresh interpreter with one thread for its arithmetic. Its two blocks lie in memory without a name,
which the kernel frees with the last process that has it, however that ends. Over a socket pair go only small
messages: a worker says ``block``, ``epoch``, ``paused``, ``done`` or ``failed``; it is told ``free``, ``pause`` or
``stop``. To stop, all workers pause and say how far they are, then all go on to where the furthest is.
"""

import mmap
import os
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.binning import Binning
from ipstore.block import Block, block_bytes
from ipstore.errors import WorkerError
from ipstore.levels import Level
from ipstore.schema import GrowingArray
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.interrupts import Interrupts
from ipstore.trainers.tasks.base import Task

__all__ = ["Job", "share_out", "worker_blocks", "worker_main"]

_SLOTS = 2  # one block is trained into while the other is written
_NEWS_SECONDS = 0.2

# Two threads on matrices this small are slower than one; two processes are not.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_COMMAND = "import sys; from ipstore.trainers.processes import worker_main; worker_main(*map(int, sys.argv[1:]))"


@dataclass(frozen=True)
class Job:
    """What to train and capture; see `ipstore.trainers.blocks.train_blocks`.

    Parameters
    ----------
    task : Task
    config : TrainConfig
    seeds : sequence of int
        Of the whole run, or of one worker.
    places : slice
        Where these seeds lie along the run's ``seed``.
    state : mapping of str to array
        To continue from, each (seed, ...); empty to begin.
    epochs : sequence of int
    start : int
    arrays : sequence of GrowingArray
    shard_epochs : int
    level : {"full", "half", "codes", "weights"}
    binning : Binning or None
    device : str
    """

    task: Task
    config: TrainConfig
    seeds: Sequence[int]
    places: slice
    state: Mapping[str, NDArray[Any]]
    epochs: Sequence[int]
    start: int
    arrays: Sequence[GrowingArray]
    shard_epochs: int
    level: Level
    binning: Binning | None
    device: str

    def blocks(self, room: Callable[[], Block], stop_at: Callable[[int], int]) -> Iterator[Block]:
        """Train in this process."""
        from ipstore.trainers.blocks import train_blocks
        from ipstore.trainers.ensemble import Ensemble

        ensemble = Ensemble(self.task, self.config, self.seeds, self.device)
        if self.state:
            ensemble.load_state(self.state, self.epochs[self.start - 1])
        return train_blocks(
            ensemble, self.epochs, self.start, room, self.shard_epochs, self.level, self.binning, stop_at
        )


def share_out(job: Job, processes: int) -> list[Job]:
    """Divide the seeds of a job into runs of neighbours, as even as can be."""
    jobs = []
    for part in np.array_split(np.arange(len(job.seeds)), min(processes, len(job.seeds))):
        first, last = int(part[0]), int(part[-1]) + 1
        state = {name: values[first:last] for name, values in job.state.items()}
        values = {**vars(job), "seeds": job.seeds[first:last], "places": slice(first, last), "state": state}
        jobs.append(Job(**values))
    return jobs


def worker_blocks(jobs: Sequence[Job], interrupts: Interrupts, on_epoch: Callable[[int], None]) -> Iterator[Block]:
    """Train each job in a process of its own; give out their blocks as they come.

    Parameters
    ----------
    jobs : sequence of Job
    interrupts : Interrupts
        When it asks, all workers stop at the same epoch.
    on_epoch : callable
        Told how many captures the slowest worker has made.

    Yields
    ------
    Block

    Raises
    ------
    WorkerError
        If a worker fails or is killed; the others are ended.
    """
    workers = [_Worker(job) for job in jobs]
    running = list(workers)
    pausing = stopping = False
    try:
        while running:
            sources = [worker.connection for worker in running]
            ready = wait(sources if pausing else [*sources, interrupts.fileno()])
            if interrupts.requested and not pausing:
                pausing = True
                for worker in running:
                    worker.send("pause")
            for worker in [worker for worker in running if worker.connection in ready]:
                kind, value = worker.receive()
                if kind == "block":
                    yield worker.take(*value)
                    continue
                worker.reached = value
                worker.paused |= kind != "epoch"
                if kind == "done":
                    running.remove(worker)
                on_epoch(min(worker.reached for worker in workers))
            if pausing and not stopping and all(worker.paused for worker in workers):
                stopping = True
                for worker in running:
                    worker.send("stop", max(worker.reached for worker in workers))
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """The parent's end of a worker."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.reached = job.start
        self.paused = False
        self._lock = threading.Lock()  # blocks are freed by the thread that writes them
        size = block_bytes(job.arrays, job.shard_epochs, len(job.seeds))
        descriptors = [_shared_memory(size) for _ in range(_SLOTS)]
        self.connection, theirs = Pipe()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1"), "PYTHONPATH": path}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, str(theirs.fileno()), *map(str, descriptors)],
            pass_fds=(theirs.fileno(), *descriptors),
            env=environment,
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C at a terminal reaches the parent alone, which then asks for a stop
        )
        theirs.close()
        self._blocks = [
            Block.allocate(job.arrays, job.shard_epochs, job.places, memory)
            for memory in (_map(descriptor, size) for descriptor in descriptors)
        ]
        self.send(job)

    def send(self, *message: Any) -> None:
        with self._lock, suppress(BrokenPipeError):  # a worker that has ended: `receive` says how
            if not self.connection.closed:  # its last block may be written after it was let go
                self.connection.send(message)

    def receive(self) -> tuple[str, Any]:
        try:
            kind, value = self.connection.recv()
        except (EOFError, ConnectionResetError):
            code = self.process.wait()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise WorkerError(f"{self._whom()} {how}, before it was done") from None
        if kind == "failed":
            raise WorkerError(f"{self._whom()} failed:\n{value}")
        return kind, value

    def take(self, slot: int, start: int, epochs: list[int], state: Mapping[str, NDArray[Any]]) -> Block:
        block = self._blocks[slot]
        release = partial(self.send, "free", slot)
        return Block(block.arrays, block.seeds, start, epochs, state, release=release)

    def end(self) -> None:
        with self._lock:
            self.connection.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()

    def _whom(self) -> str:
        return f"the process training seeds {self.job.seeds[0]} to {self.job.seeds[-1]}"


class _Room:
    """The worker's end: free blocks, and the parent's wishes."""

    def __init__(self, connection: Connection, blocks: Sequence[Block], start: int) -> None:
        self._connection = connection
        self._blocks = blocks
        self._free = list(range(len(blocks)))
        self._index = start
        self.stop = sys.maxsize
        self._waiting = False
        self._told = monotonic()

    def stop_at(self, index: int) -> int:
        """Answer `train_blocks`; called before each capture."""
        self._index = index
        if monotonic() - self._told > _NEWS_SECONDS:
            self._told = monotonic()
            self._connection.send(("epoch", index))
        while self._waiting or self._connection.poll():
            self._listen(index)
        return self.stop

    def take(self) -> Block:
        """Give a free block; wait for one where there is none."""
        while not self._free:
            self._listen(self._index + 1)  # what `train_blocks` is about to capture will be captured
        return self._blocks[self._free.pop(0)]

    def hand_over(self, block: Block) -> None:
        slot = next(slot for slot, own in enumerate(self._blocks) if own is block)
        self._connection.send(("block", (slot, block.start, block.epochs, dict(block.state))))

    def _listen(self, reached: int) -> None:
        kind, *value = self._connection.recv()
        if kind == "free":
            self._free.append(value[0])
        elif kind == "stop":
            self.stop, self._waiting = value[0], False
        else:
            self._waiting = True
            self._connection.send(("paused", reached))


def worker_main(connection_descriptor: int, *memory_descriptors: int) -> None:
    """Be a worker: train the job that the parent sends, until it is done or the parent is gone."""
    connection = Connection(connection_descriptor)
    (job,) = connection.recv()
    size = block_bytes(job.arrays, job.shard_epochs, len(job.seeds))
    memories = [_map(descriptor, size) for descriptor in memory_descriptors]
    blocks = [Block.allocate(job.arrays, job.shard_epochs, job.places, memory) for memory in memories]
    room = _Room(connection, blocks, job.start)
    try:
        for block in job.blocks(room.take, room.stop_at):
            room.hand_over(block)
        connection.send(("done", min(len(job.epochs), room.stop)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(1)  # the parent is gone
    except Exception:
        connection.send(("failed", traceback.format_exc()))
        sys.exit(1)


def _shared_memory(size: int) -> int:
    """Open memory that has no name; the descriptor can be handed to another process."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ipstore")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def _map(descriptor: int, size: int) -> memoryview:
    memory = mmap.mmap(descriptor, size)
    os.close(descriptor)
    return memoryview(memory)
