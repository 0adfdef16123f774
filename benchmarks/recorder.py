"""Cost of the Recorder on somebody's own loop: the paper's network, a plain module under ``torch.optim.SGD``.

The network is 12-10-7-5-4-3-2, tanh, SGD 0.2; 3482 of the 4096 patterns are trained on in batches of 512, and all of
them are the probe. The loop does nothing else: it takes its batches by index from tensors in memory, the leanest there
is; with a loader, a ``DataLoader`` gives them, as in most people's loops. No test set. The contestants take turns of so
many epochs each, with the same seed; a ratio is the median over the turns of what stands beside it in its turn:

recorded
    every epoch stored at ``full`` with the moments of the gradients, from the first step until the last commit is
    durable.
recorded, loader
    the same, of the loop with a loader, against that without a recorder.
logged
    every epoch stored, without the moments of the gradients.
moments
    the optimizer is watched, and nothing is recorded: epoch by epoch in turns with a bare loop, since so small a
    difference would drown in a machine that is now fast and now slow. The ratio is that of the median epochs.
between
    the same of a Recorder that is attached, and does not record in this time.
torchlens, trace; torchlens, log
    torchlens runs the same network on the same probe in eval mode without gradients, and saves the outputs of the same
    six modules, by ``trace`` and by its recorder for training loops, ``fastlog.Recorder``. They stay in memory; nothing
    is written. It has a process of its own, since it leaves the functions of PyTorch wrapped. What it takes for an
    epoch's call is compared with what logging adds to an epoch, storing included.

The floor of recording an epoch is the network's pass over the probe without gradients, which is timed in every turn,
and its 31 x 4096 activations, 0.51 MB, copied once: 0.05 ms at 10 GB/s.

Memory is that of a process which records a layer of 4096 units on 8192 samples, 134 MB an epoch: the kernel's
high-water mark of the process (Linux), less what it held before the Recorder was made. What is stated is one batch of
the outputs that are recorded, 64 MB, two blocks of `shard_epochs` epochs, and at most one more that is being written.

Run: ``OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.recorder``
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ipstore.trainers import Recorder, tasks

WIDTHS = (12, 10, 7, 5, 4, 3)
LAYERS = ["layer1", "layer2", "layer3", "layer4", "layer5", "output"]
NEVER = 10**6
"""An epoch that no turn reaches."""
WIDE, SAMPLES = 4096, 8192


class Loop:
    """A training loop as a tutorial would write it."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        torch.manual_seed(0)
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for place, (inputs, units) in enumerate(pairwise(WIDTHS), 1):
            modules[f"dense{place}"], modules[f"layer{place}"] = nn.Linear(inputs, units), nn.Tanh()
        modules["output"] = nn.Linear(WIDTHS[-1], 2)
        self.model = nn.Sequential(modules)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.2)
        self._criterion = nn.CrossEntropyLoss()
        self._x, self._y = x, y

    def epoch(self) -> None:
        for x, y in self._batches():
            self.optimizer.zero_grad()
            self._criterion(self.model(x), y).backward()
            self.optimizer.step()

    def _batches(self) -> Iterable[Any]:
        return ((self._x[batch], self._y[batch]) for batch in torch.randperm(len(self._x)).split(512))


class LoaderLoop(Loop):
    """The same with a loader."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__(x, y)
        self._loader = DataLoader(TensorDataset(x, y), batch_size=512, shuffle=True)

    def _batches(self) -> Iterable[Any]:
        return self._loader


class Contest:
    """The contestants on one task: each gives the seconds of an epoch."""

    def __init__(self, epochs: int, folder: Path) -> None:
        task = tasks.load("rule", signed=True)
        self.x, y = torch.tensor(task.x), torch.tensor(task.y)
        mask = torch.tensor(task.split(0, 0.85))
        self._task, self._train = task, (self.x[mask], y[mask])
        self._epochs, self._store = epochs, folder / "runs.zarr"

    def bare(self, kind: type[Loop] = Loop) -> float:
        return self._time(kind(*self._train), lambda: None)

    def recorded(self, kind: type[Loop] = Loop) -> float:
        loop = kind(*self._train)
        recorder = self._recorder(loop, optimizer=loop.optimizer)
        return self._time(loop, recorder.epoch, recorder.close)

    def logged(self) -> float:
        loop = Loop(*self._train)
        recorder = self._recorder(loop)
        return self._time(loop, recorder.epoch, recorder.close)

    def moments(self) -> float:
        """By the bare loop's."""
        loop = Loop(*self._train)
        with self._recorder(loop, optimizer=loop.optimizer, every=NEVER) as recorder:
            return self._ratio(loop, recorder)

    def between(self) -> float:
        """By the bare loop's."""
        loop = Loop(*self._train)
        with self._recorder(loop, every=NEVER) as recorder:
            return self._ratio(loop, recorder)

    def _ratio(self, loop: Loop, recorder: Recorder) -> float:
        bare = Loop(*self._train)
        times: tuple[list[float], list[float]] = ([], [])
        for epoch in range(2 * self._epochs):
            began = time.perf_counter()
            if epoch % 2:
                loop.epoch()
                recorder.epoch()
            else:
                bare.epoch()
            times[epoch % 2].append(time.perf_counter() - began)
        return median(times[1]) / median(times[0])

    def probe(self) -> float:
        model = Loop(*self._train).model.eval()
        began = time.perf_counter()
        with torch.no_grad():
            for _ in range(self._epochs):
                model(self.x)
        return (time.perf_counter() - began) / self._epochs

    def _recorder(self, loop: Loop, **options: Any) -> Recorder:
        return Recorder(self._store, loop.model, self._task, "run", layers=LAYERS, overwrite=True, **options)

    def _time(
        self,
        loop: Loop,
        after: Callable[[], object],
        end: Callable[[], object] = lambda: None,
    ) -> float:
        began = time.perf_counter()
        for _ in range(self._epochs):
            loop.epoch()
            after()
        end()
        return (time.perf_counter() - began) / self._epochs


def serve_torchlens(calls: int) -> None:
    """For each line that comes in, print the seconds of a call of each kind."""
    import torchlens
    from torchlens.fastlog import Recorder as TorchlensRecorder

    torch.set_num_threads(1)
    x = torch.tensor(tasks.load("rule", signed=True).x)
    model = Loop(x[:2], x[:2]).model.eval()
    wanted = torchlens.module(LAYERS[0])
    for name in LAYERS[1:]:
        wanted = wanted | torchlens.module(name)
    for _ in sys.stdin:
        with torch.no_grad():
            began = time.perf_counter()
            for _ in range(calls):
                torchlens.trace(model, x, save=wanted)
            traced = time.perf_counter()
            with TorchlensRecorder(model, save=wanted) as recorder:
                opened = time.perf_counter()
                for _ in range(calls):
                    recorder.log(x)
                logged = time.perf_counter()
        assert len(recorder.recording) >= calls * len(LAYERS)
        seconds = {"torchlens, trace": (traced - began) / calls, "torchlens, log": (logged - opened) / calls}
        print(json.dumps(seconds), flush=True)


@contextmanager
def torchlens_process(calls: int) -> Iterator[Callable[[], dict[str, float]]]:
    """A process that is not forked or spawned by multiprocessing, which torchlens refuses."""
    command = f"from benchmarks.recorder import serve_torchlens; serve_torchlens({calls})"
    with subprocess.Popen(
        [sys.executable, "-c", command],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        def turn() -> dict[str, float]:
            print(file=asked, flush=True)
            times: dict[str, float] = json.loads(answers.readline())
            return times

        yield turn
        asked.close()


def measure(epochs: int = 640, repeats: int = 9, folder: str | None = None) -> dict[str, Any]:
    """Milliseconds of an epoch of each, and ratios."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=folder) as place, torchlens_process(max(2, epochs // 40)) as torchlens:
        contest = Contest(epochs, Path(place))
        cases: dict[str, Callable[[], float]] = {
            "bare": contest.bare,
            "recorded": contest.recorded,
            "logged": contest.logged,
            "bare, loader": partial(contest.bare, LoaderLoop),
            "recorded, loader": partial(contest.recorded, LoaderLoop),
            "probe": contest.probe,
        }
        small = {"moments": contest.moments, "between": contest.between}
        turns, parts = [], []
        for turn in range(repeats + 1):
            names = list(cases)
            order = names[turn % len(names) :] + names[: turn % len(names)]  # no one always comes after the same
            times = {name: cases[name]() for name in order} | torchlens()
            shares = {name: ratio() for name, ratio in small.items()}
            if turn:  # the first warms up
                turns.append(times)
                parts.append(shares)
    against = {"recorded": "bare", "recorded, loader": "bare, loader"}
    ratios = {name: [each[name] / each[bare] for each in turns] for name, bare in against.items()}
    ratios |= {name: [each[name] for each in parts] for name in small}
    return {
        "milliseconds": {name: median(each[name] for each in turns) * 1e3 for name in turns[0]},
        "ratio to the bare loop": {name: median(each) for name, each in ratios.items()},
        "range": {name: (min(each), max(each)) for name, each in ratios.items()},
        "added, over the bare pass": median((each["logged"] - each["bare"]) / each["probe"] for each in turns),
        "torchlens, over what logging adds": {
            name: median(each[name] / (each["logged"] - each["bare"]) for each in turns)
            for name in ("torchlens, trace", "torchlens, log")
        },
    }


_CHILD = """
import json, sys
import torch
from torch import nn
from ipstore.trainers import Recorder

def kilobytes(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what))

torch.set_num_threads(1)
torch.manual_seed(0)
wide, samples, epochs = map(int, sys.argv[2:])
model = nn.Sequential(nn.Linear(64, wide), nn.Linear(wide, 2))
x, y = torch.randn(samples, 64), torch.arange(samples) % 2
with Recorder(sys.argv[1], model, (x[:64], y[:64]), "small", layers=["0"]) as recorder:
    recorder.epoch()  # what is imported and started once
before = kilobytes("VmRSS")
with Recorder(sys.argv[1], model, (x, y), "wide", layers=["0"], epochs=epochs) as recorder:
    batch = recorder._layers.batch_size
    for _ in range(epochs):
        recorder.epoch()
    shard = recorder._recording._shard
print(json.dumps({
    "measured_bytes": (kilobytes("VmHWM") - before) * 1024,
    "epoch_bytes": samples * wide * 4,
    "batch_bytes": batch * wide * 4,
    "blocks_bytes": 2 * shard * samples * wide * 4,
}))
"""


def memory(epochs: int = 6, folder: str | None = None) -> dict[str, float]:
    """Memory that a recorder takes, and what is stated: one batch, two blocks, and one more being written."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        arguments = [f"{place}/runs.zarr", str(WIDE), str(SAMPLES), str(epochs)]
        done = subprocess.run([sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    found["stated_bytes"] = found["batch_bytes"] + 1.5 * found["blocks_bytes"]
    found["measured over stated"] = found["measured_bytes"] / found["stated_bytes"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=640, help="of a turn")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    given = parser.parse_args()
    print(json.dumps(measure(given.epochs, given.repeats, given.folder), indent=1))
    print(json.dumps(memory(folder=given.folder), indent=1))


if __name__ == "__main__":
    main()
