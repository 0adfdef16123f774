"""Cost of streaming: training with every epoch stored at ``full``, against the same loop that drops the activations.

Both loops train 20 networks of the paper's shape (SGD 0.2, batch 512) and compute every layer's activations on all
4096 patterns after each epoch, in one thread. One hands them to the background writer, which compresses, checksums
and commits them beside the training; the time counts until the last commit is durable. The other writes them into
the same memory over and over.

The floor of streaming is 10.2 MB an epoch through the compressor, on the other core: the loop is slowed by what that
takes of caches and memory bandwidth alone.

Run: ``OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/capture.py``
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from ipstore.block import Block
from ipstore.plan import RunPlan
from ipstore.trainers import tasks
from ipstore.trainers.blocks import train_blocks
from ipstore.trainers.capture import plan_run
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.ensemble import Ensemble
from ipstore.trainers.tasks import Task
from ipstore.writer import BackgroundWriter, RunWriter

SEEDS = range(20)


def _blocks(plan: RunPlan) -> list[Block]:
    """Two blocks whose memory is in place, so that neither loop pays for its first touch."""
    blocks = [Block.allocate(plan.arrays, plan.shard_epochs, slice(0, len(SEEDS))) for _ in range(2)]
    for block in blocks:
        for values in block.arrays.values():
            values.fill(0)
    return blocks


def dropped(task: Task, config: TrainConfig, plan: RunPlan) -> float:
    """Seconds of the loop that keeps nothing."""
    ensemble = Ensemble(task, config, SEEDS)
    blocks = _blocks(plan)
    began = time.perf_counter()
    turns = 0

    def room() -> Block:
        nonlocal turns
        turns += 1
        return blocks[turns % 2]

    for _ in train_blocks(
        ensemble, range(config.epochs + 1), 0, room, plan.shard_epochs, "full", None, lambda index: index + 1
    ):
        pass
    return time.perf_counter() - began


def streamed(task: Task, config: TrainConfig, plan: RunPlan, store: Path) -> float:
    """Seconds of the loop that stores everything, until it is durable."""
    from queue import SimpleQueue

    ensemble = Ensemble(task, config, SEEDS)
    writer = RunWriter.create(store, "run", plan, config.epochs + 1, overwrite=True)
    free: SimpleQueue[Block] = SimpleQueue()
    for block in _blocks(plan):
        block.release = lambda block=block: free.put(block)
        free.put(block)
    began = time.perf_counter()
    background = BackgroundWriter(writer, lambda: None)
    for block in train_blocks(
        ensemble, range(config.epochs + 1), 0, free.get, plan.shard_epochs, "full", None, lambda index: index + 1
    ):
        background.put(block)
    background.close()
    writer.finish("finished")
    took = time.perf_counter() - began
    writer.close()
    return took


def measure(epochs: int = 192, repeats: int = 5, folder: str | None = None) -> dict[str, float]:
    """Seconds of both loops, and their ratio, as medians over interleaved repeats."""
    torch.set_num_threads(1)
    task = tasks.load("rule", signed=True)
    config = TrainConfig(epochs=epochs)
    plan = plan_run(task, config, SEEDS)
    pairs = []
    with tempfile.TemporaryDirectory(dir=folder) as store:
        for _ in range(repeats):
            pairs.append((streamed(task, config, plan, Path(store)), dropped(task, config, plan)))
    return {
        "epochs": epochs,
        "streamed_ms_per_epoch": median(s for s, _ in pairs) / epochs * 1e3,
        "dropped_ms_per_epoch": median(d for _, d in pairs) / epochs * 1e3,
        "ratio": median(s / d for s, d in pairs),
        "ratio_min": min(s / d for s, d in pairs),
        "ratio_max": max(s / d for s, d in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    given = parser.parse_args()
    print(json.dumps(measure(given.epochs, given.repeats, given.folder), indent=1))


if __name__ == "__main__":
    main()
