"""Cost of streaming: training with every epoch stored, against the same loop that drops the activations.

A worker process trains 20 networks of the paper's shape (SGD 0.2, batch 512) and computes every layer's activations
on all 4096 patterns after each epoch into shared memory, as the level keeps them; this process takes the blocks. One
contestant writes them, with checksums and digests, and commits; its time counts from the first block until the last
commit is durable. The other hands the memory back unread; its time counts from the first block to the last.

The floor: at ``full`` 10.2 MB an epoch go to the disk while the next are trained. Where the disk takes longer for
them than the training, no writer can keep up: 0.8 GB/s are needed for each 13 ms that an epoch takes.

Run: ``python benchmarks/capture.py``
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from ipstore.block import Block
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
    pairs = []
    with tempfile.TemporaryDirectory(dir=folder) as store:
        for _ in range(repeats):
            pairs.append((streamed(task, config, plan, Path(store)), dropped(task, config, plan)))
    counted = (epochs - plan.shard_epochs) / 1e3
    return {
        "epochs": epochs,
        "megabytes_per_epoch": sum(array.epoch_bytes for array in plan.arrays) / 1e6,
        "streamed_ms_per_epoch": median(s for s, _ in pairs) / counted,
        "dropped_ms_per_epoch": median(d for _, d in pairs) / counted,
        "ratio": median(s / d for s, d in pairs),
        "ratio_min": min(s / d for s, d in pairs),
        "ratio_max": max(s / d for s, d in pairs),
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
