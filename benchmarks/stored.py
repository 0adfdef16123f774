"""Runs of any length from one block of real activations, for benchmarks that are not about training."""

from collections.abc import Iterator
from pathlib import Path

from ipstore.block import Block
from ipstore.plan import RunPlan
from ipstore.trainers import TrainConfig, tasks
from ipstore.trainers.blocks import train_blocks
from ipstore.trainers.ensemble import Ensemble
from ipstore.trainers.streaming import plan_run
from ipstore.writer import RunWriter

SEEDS = range(20)


def real_block() -> tuple[RunPlan, Block]:
    """One shard of the first epochs of 20 networks of the paper's shape, at level ``full``."""
    task, config = tasks.load("rule", signed=True), TrainConfig()
    plan = plan_run(task, config, SEEDS)
    block = Block.allocate(plan.arrays, plan.shard_epochs, slice(0, len(SEEDS)))
    ensemble = Ensemble(task, config, SEEDS)
    epochs = range(plan.shard_epochs)
    return plan, next(
        train_blocks(ensemble, epochs, 0, lambda: block, len(epochs), "full", None, lambda _: len(epochs))
    )


def repeated(block: Block, times: int) -> Iterator[Block]:
    """The block again and again, as if training had gone on."""
    length = len(block.epochs)
    for turn in range(times):
        block.start = turn * length
        block.epochs = list(range(block.start, block.start + length))
        yield block


def write_run(store: Path, run: str, plan: RunPlan, block: Block, times: int) -> None:
    """Write a run of so many shards, durably."""
    writer = RunWriter.create(store, run, plan, times * len(block.epochs), overwrite=True)
    for turn in repeated(block, times):
        writer.write(turn)
    writer.finish("finished")
    writer.close()
