"""Cost of streaming: training with every epoch stored, against the same loop that drops the activations.

A worker process trains 20 networks of the paper's shape (SGD 0.2, batch 512) and computes every layer's activations
on all 4096 patterns after each epoch into shared memory, as the level keeps them; this process takes the blocks. One
contestant writes them, with checksums and digests, and commits; its time counts from the first block until the last
commit is durable. The second hands the memory back unread; its time counts from the first block to the last. A third
shows the floor: it writes the activations as they are into one file, past the page cache where they lie on page
borders, and calls fsync after each block.

At ``full`` 10.2 MB an epoch go to the disk while the next are trained: 0.8 GB/s where an epoch takes 13 ms. Where the
disk takes longer for them than the training, no writer can keep up.

Run: ``python -m benchmarks.capture``
"""

import argparse
import json
import mmap
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from ipstore.block import Block, block_bytes
from ipstore.levels import Level
from ipstore.plan import RunPlan
from ipstore.trainers import tasks
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.interrupts import Interrupts
from ipstore.trainers.processes import Job, worker_blocks
from ipstore.trainers.streaming import plan_run
from ipstore.trainers.tasks import Task
from ipstore.writer import BackgroundWriter, RunWriter

SEEDS = range(20)


def blocks(task: Task, config: TrainConfig, plan: RunPlan, interrupts: Interrupts) -> Iterator[Block]:
    """Blocks of one worker, as they come."""
    job = Job(
        task=task,
        config=config,
        seeds=plan.seeds,
        places=slice(0, len(plan.seeds)),
        state={},
        epochs=range(config.epochs + 1),
        start=0,
        arrays=plan.arrays,
        shard_epochs=plan.shard_epochs,
        level=plan.level,
        binning=plan.binning,
        device="cpu",
    )
    return worker_blocks([job], interrupts, lambda reached: None)


def dropped(task: Task, config: TrainConfig, plan: RunPlan) -> float:
    """Seconds of the loop that keeps nothing."""
    began = 0.0
    with Interrupts() as interrupts:
        for block in blocks(task, config, plan, interrupts):
            began = began or time.perf_counter()
            block.release()
            ended = time.perf_counter()
    return ended - began


def plain(task: Task, config: TrainConfig, plan: RunPlan, path: Path) -> float:
    """Seconds of the loop whose activations go into one file."""
    began = 0.0
    memory = mmap.mmap(-1, block_bytes(plan.arrays, plan.shard_epochs, len(plan.seeds)))  # on page borders
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_DIRECT", 0))
    with Interrupts() as interrupts:
        for block in blocks(task, config, plan, interrupts):
            began = began or time.perf_counter()
            used = 0
            for name, values in block.arrays.items():
                if name.startswith("activations/"):
                    piece = values[: len(block.epochs)].reshape(-1).view("u1").data
                    memory[used : used + piece.nbytes] = piece
                    used += piece.nbytes
            block.release()
            written = memoryview(memory)[: used // mmap.PAGESIZE * mmap.PAGESIZE]
            while written:
                written = written[os.write(descriptor, written) :]
            os.fsync(descriptor)
    ended = time.perf_counter()
    os.close(descriptor)
    path.unlink()
    return ended - began


def streamed(task: Task, config: TrainConfig, plan: RunPlan, store: Path) -> float:
    """Seconds of the loop that stores everything, until it is durable."""
    writer = RunWriter.create(store, "run", plan, config.epochs + 1, overwrite=True)
    background = BackgroundWriter(writer, lambda: None)
    began = 0.0
    with Interrupts() as interrupts:
        for block in blocks(task, config, plan, interrupts):
            began = began or time.perf_counter()
            background.put(block)
    background.close()
    writer.finish("finished")
    ended = time.perf_counter()
    writer.close()
    return ended - began


def measure(epochs: int = 640, repeats: int = 5, folder: str | None = None, level: Level = "full") -> dict[str, float]:
    """Milliseconds per epoch of both loops, and their ratio, as medians over interleaved repeats."""
    task = tasks.load("rule", signed=True)
    config = TrainConfig(epochs=epochs)
    plan = plan_run(task, config, SEEDS, level)
    turns = []
    with tempfile.TemporaryDirectory(dir=folder) as store:
        for _ in range(repeats):
            turns.append(
                (
                    streamed(task, config, plan, Path(store) / "runs.zarr"),
                    dropped(task, config, plan),
                    plain(task, config, plan, Path(store) / "plain"),
                )
            )
    counted = (epochs - plan.shard_epochs) / 1e3
    return {
        "epochs": epochs,
        "megabytes_per_epoch": sum(array.epoch_bytes for array in plan.arrays) / 1e6,
        "streamed_ms_per_epoch": median(s for s, _, _ in turns) / counted,
        "dropped_ms_per_epoch": median(d for _, d, _ in turns) / counted,
        "plain_ms_per_epoch": median(p for _, _, p in turns) / counted,
        "ratio": median(s / d for s, d, _ in turns),
        "ratio_min": min(s / d for s, d, _ in turns),
        "ratio_max": max(s / d for s, d, _ in turns),
        "plain_ratio": median(p / d for _, d, p in turns),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--level", choices=("full", "half", "codes"), default="full")
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    given = parser.parse_args()
    print(json.dumps(measure(given.epochs, given.repeats, given.folder, given.level), indent=1))


if __name__ == "__main__":
    main()
