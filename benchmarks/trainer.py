"""Speed of the ensemble trainer against a Python loop over ordinary PyTorch networks, in the same run.

The work: 50 seeds of the paper's network (12-10-7-5-4-3-2, tanh, SGD 0.2), 3482 training samples each. The
baseline trains one `torch.nn.Sequential` per seed with `torch.optim.SGD` and `CrossEntropyLoss`, from batches
shuffled by `torch.randperm`, with no gradient moments and no probe; the ensemble's epochs include the
gradient moments. Each figure is the median over interleaved repeats, every process with one thread.

The floor: a network's epoch is 263 weights x 6 x 3482 = 5.5 Mflop, 0.1 ms at the 50 Gflop/s that one core
reaches on products this narrow, and 29 x 3482 tanh, 0.04 ms; the elementwise passes move about 3 MB through
the second-level cache, 0.05 ms. What lies above 0.2 ms per network and epoch is function calls and cache
misses.

Run: ``OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.trainer [--batch-size 512 128] [--repeats
7]``
"""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median

import torch

from ipstore.trainers.config import TrainConfig
from ipstore.trainers.ensemble import Ensemble
from ipstore.trainers.tasks import Task, load

SEEDS = 50


def module_loop(task: Task, config: TrainConfig, seeds: range) -> Callable[[], None]:
    """One epoch of the baseline: every network in turn, its loop as a tutorial would write it."""
    x, y = torch.tensor(task.x), torch.tensor(task.y)
    runs = []
    for seed in seeds:
        torch.manual_seed(seed)
        widths = [x.shape[1], *config.hidden]
        layers: list[torch.nn.Module] = []
        for inputs, units in zip(widths, widths[1:], strict=False):
            layers += [torch.nn.Linear(inputs, units), torch.nn.Tanh()]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], task.p_y_given_x.shape[1]))
        mask = torch.tensor(task.split(seed, config.train_fraction))
        runs.append((model, torch.optim.SGD(model.parameters(), config.learning_rate), x[mask], y[mask]))
    criterion = torch.nn.CrossEntropyLoss()

    def epoch() -> None:
        for model, optimiser, x_train, y_train in runs:
            order = torch.randperm(len(x_train))
            for batch in order.split(config.batch_size or len(order)):
                optimiser.zero_grad()
                criterion(model(x_train[batch]), y_train[batch]).backward()
                optimiser.step()

    return epoch


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


_ensemble: Ensemble


def _start(config: TrainConfig, seeds: range, turn: object) -> None:
    """Give each worker its half of the seeds, and warm it up."""
    global _ensemble
    torch.set_num_threads(1)
    with turn.get_lock():  # type: ignore[attr-defined]  # multiprocessing.Value
        part = turn.value  # type: ignore[attr-defined]
        turn.value += 1  # type: ignore[attr-defined]
    half = len(seeds) // 2
    _ensemble = Ensemble(load("rule", signed=True), config, seeds[part * half : (part + 1) * half])
    _ensemble.train_epoch()
