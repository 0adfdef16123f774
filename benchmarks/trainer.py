"""Speed of the ensemble trainer against a Python loop over ordinary PyTorch networks, in the same run.

The work: 50 seeds of the paper's network (12-10-7-5-4-3-2, tanh, SGD 0.2), 3482 training samples each. The
baseline trains one `torch.nn.Sequential` per seed with `torch.optim.SGD` and `CrossEntropyLoss`, on batches
shuffled by `torch.randperm`, without gradient moments; the ensemble's epochs include them. A ratio is the
median over repeats, in each of which all contestants take their turn. Every process has one thread.

The floor: a network's epoch is 263 weights x 6 x 3482 = 5.5 Mflop, 0.11 ms at the 50 Gflop/s that one core
reaches on products ten rows high, and 29 x 3482 tanh at 0.4 ns, 0.04 ms; the elementwise passes go over some
3 MB in the caches, 0.05 ms. What lies above 0.2 ms per network and epoch is function calls, batch orders and
cache misses.

Run: ``OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/trainer.py``
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median

import torch

from ipstore.trainers.config import TrainConfig
from ipstore.trainers.ensemble import Ensemble
from ipstore.trainers.tasks import Task, load

SEEDS = 50
DEMO_SEEDS = 20
EPOCHS = 5
"""Of the ensembles in one turn; the baseline takes long enough with one."""


def module_loop(task: Task, config: TrainConfig, seeds: range) -> Callable[[], None]:
    """One epoch of the baseline: every network in turn, its loop as a tutorial would write it."""
    x, y = torch.tensor(task.x), torch.tensor(task.y)
    runs = []
    for seed in seeds:
        torch.manual_seed(seed)
        widths = [x.shape[1], *config.hidden]
        layers: list[torch.nn.Module] = []
        for inputs, units in pairwise(widths):
            layers += [torch.nn.Linear(inputs, units), torch.nn.Tanh()]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], task.p_y_given_x.shape[1]))
        mask = torch.tensor(task.split(seed, config.train_fraction))
        optimiser = torch.optim.SGD(model.parameters(), config.learning_rate)
        runs.append((model, optimiser, x[mask], y[mask]))
    criterion = torch.nn.CrossEntropyLoss()

    def epoch() -> None:
        for model, optimiser, x_train, y_train in runs:
            order = torch.randperm(len(x_train))
            for batch in order.split(config.batch_size or len(order)):
                optimiser.zero_grad()
                criterion(model(x_train[batch]), y_train[batch]).backward()
                optimiser.step()

    return epoch


def train(ensemble: Ensemble) -> None:
    for _ in range(EPOCHS):
        ensemble.train_epoch()


def worker(connection: Connection, config: TrainConfig, seeds: range) -> None:
    """Train whenever told to; end when told not to."""
    torch.set_num_threads(1)
    ensemble = Ensemble(load("rule", signed=True), config, seeds)
    train(ensemble)
    connection.send("ready")
    while connection.recv():
        train(ensemble)
        connection.send("done")


@contextmanager
def two_processes(config: TrainConfig) -> Iterator[Callable[[], None]]:
    """Half of the seeds in each of two spawned processes, which train at the same time."""
    context = get_context("spawn")
    ours, processes = [], []
    for seeds in (range(SEEDS // 2), range(SEEDS // 2, SEEDS)):
        here, there = context.Pipe()
        processes.append(context.Process(target=worker, args=(there, config, seeds)))
        processes[-1].start()
        ours.append(here)

    def turn() -> None:
        for connection in ours:
            connection.send(True)
        for connection in ours:
            connection.recv()

    for connection in ours:
        connection.recv()
    yield turn
    for connection, process in zip(ours, processes, strict=True):
        connection.send(False)
        process.join()


def milliseconds(function: Callable[[], object], epochs: int = 1) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) / epochs * 1e3


def ratios(batch_size: int, repeats: int) -> dict[str, float]:
    """Milliseconds per epoch of all seeds, and how many times faster than the loop over modules.

    ``train_20_seeds`` and ``probe_20_seeds`` are the demo's: an epoch, and a probe of all 4096 patterns.
    """
    torch.set_num_threads(1)
    task, config = load("rule", signed=True), TrainConfig(batch_size=batch_size)
    ensemble, demo = Ensemble(task, config, range(SEEDS)), Ensemble(task, config, range(DEMO_SEEDS))
    out = {name: torch.empty(DEMO_SEEDS, len(task.x), width) for name, width in demo.widths.items()}
    loop = module_loop(task, config, range(SEEDS))
    with two_processes(config) as pair:
        contestants: dict[str, tuple[Callable[[], object], int]] = {
            "module_loop": (loop, 1),
            "ensemble": (lambda: train(ensemble), EPOCHS),
            "two_processes": (pair, EPOCHS),
            "train_20_seeds": (lambda: train(demo), EPOCHS),
            "probe_20_seeds": (lambda: demo.probe(out), 1),
        }
        turns = [
            {name: milliseconds(*contestant) for name, contestant in contestants.items()} for _ in range(repeats + 1)
        ][1:]  # the first warms up
    found = {f"{name}_ms": median(turn[name] for turn in turns) for name in contestants}
    for name in ("ensemble", "two_processes"):
        found[f"{name}_ratio"] = median(turn["module_loop"] / turn[name] for turn in turns)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Ensemble trainer against a loop over modules.")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[512, 128])
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    for batch_size in arguments.batch_size:
        found = {name: round(value, 2) for name, value in ratios(batch_size, arguments.repeats).items()}
        print(json.dumps({"batch_size": batch_size, **found}, indent=2))


if __name__ == "__main__":
    main()
