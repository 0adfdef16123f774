"""A capture is the same however it is run, and survives whatever stops it."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import ipstore
from ipstore.binning import Binning
from ipstore.errors import ParameterError, ResumeError, RunExistsError, StoreWriteError, UnknownNameError, WorkerError
from ipstore.trainers import tasks
from ipstore.trainers.blocks import captured_epochs
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.ensemble import Ensemble
from ipstore.trainers.streaming import DivergedWarning, Progress, capture, resume
from tests.store.synthetic import array

TASK = tasks.load("rule", signed=True)
CONFIG = TrainConfig(hidden=(5, 3), epochs=10, batch_size=1024)
SEEDS = (3, 0, 8)


def run(store: Path, name: str, config: TrainConfig = CONFIG, **options: Any) -> xr.DataTree:
    return capture(TASK, store, name, config, **{"seeds": SEEDS, "shard_epochs": 4, "processes": 0, **options})


def assert_same(first: xr.DataTree, second: xr.DataTree, seeds: slice = slice(None)) -> None:
    """Every stored bit is equal."""
    paths = [f"{node.path}/{name}" for node in first.subtree for name in node.data_vars]
    assert paths == [f"{node.path}/{name}" for node in second.subtree for name in node.data_vars]
    for path in paths:
        a, b = array(first, path), array(second, path)
        a = a.isel(seed=seeds) if "seed" in a.dims else a
        assert a.values.tobytes() == b.values.tobytes(), path


def assert_counts_up(told: list[Progress]) -> None:
    """Progress is told of a run of ten epochs, in order and to its end."""
    captured = [progress.captured for progress in told]
    assert captured == sorted(captured)
    assert {progress.total for progress in told} == {11}
    assert told[-1].captured >= 10


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    return run(tmp_path_factory.mktemp("reference"), "run")


def test_a_run_says_what_it_is(reference: xr.DataTree) -> None:
    attrs = reference.attrs
    assert attrs["status"] == "finished"
    assert attrs["task"] == "rule"
    assert attrs["task_params"] == {"signed": True}
    assert attrs["model"] == {"kind": "mlp", "widths": [12, 5, 3, 2], "activation": "tanh", "output": "softmax"}
    assert (
        TrainConfig.from_dict({k: v for k, v in attrs["config"].items() if k not in ("every", "log_spaced")}) == CONFIG
    )
    assert array(reference, "epoch").values.tolist() == list(range(11))
    assert array(reference, "seed").values.tolist() == list(SEEDS)
    assert set(attrs["versions"]) == {"ipstore", "python", "numpy", "torch", "zarr"}
    np.testing.assert_array_equal(array(reference, "probe/x"), TASK.x)
    np.testing.assert_array_equal(array(reference, "probe/p_y_given_x"), TASK.p_y_given_x)


def test_what_is_stored_is_what_the_ensemble_computes(reference: xr.DataTree) -> None:
    """The stored parameters, pushed through a forward pass written out here, give the stored activations."""
    weights = {
        name: array(reference, f"weights/{name}").isel(epoch=-1).values for name in ("layer1", "layer2", "output")
    }
    for place, seed in enumerate(SEEDS):
        t = TASK.x.astype(np.float64)
        for name, units in zip(weights, (5, 3, 2), strict=True):
            flat = weights[name][place].astype(np.float64)
            weight, bias = flat[:-units].reshape(units, -1), flat[-units:]
            z = t @ weight.T + bias
            t = np.tanh(z) if name != "output" else np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            stored = array(reference, f"activations/{name}").sel(seed=seed).isel(epoch=-1)
            np.testing.assert_allclose(stored, t, atol=2e-6)
        train = TASK.split(seed, CONFIG.train_fraction)
        for split, members in (("train", train), ("test", ~train)):
            loss = -np.log(t[members, TASK.y[members]]).mean()
            accuracy = (t[members].argmax(axis=1) == TASK.y[members]).mean()
            assert array(reference, "training/loss").sel(seed=seed, split=split)[-1] == pytest.approx(loss, rel=1e-5)
            assert array(reference, "training/accuracy").sel(seed=seed, split=split)[-1] == pytest.approx(
                accuracy, abs=1e-6
            )


def test_gradient_moments_begin_with_training(reference: xr.DataTree) -> None:
    for name in ("grad_mean_norm", "grad_std_norm"):
        moments = array(reference, f"training/{name}")
        assert moments.isel(epoch=0).isnull().all()
        assert (moments.isel(epoch=slice(1, None)) > 0).all()


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.long)])
def test_processes_change_no_bit(reference: xr.DataTree, tmp_path: Path, processes: int) -> None:
    told: list[Progress] = []
    assert_same(reference, run(tmp_path, "run", processes=processes, on_progress=told.append))
    assert_counts_up(told)


def test_other_seeds_change_no_bit(reference: xr.DataTree, tmp_path: Path) -> None:
    assert_same(reference, run(tmp_path, "run", seeds=SEEDS[1:2]), slice(1, 2))


@pytest.mark.parametrize(
    ("optimizer", "stop", "processes"),
    [
        *[("sgd", 3, 0), ("sgd", 4, 0), ("sgd", 6, 0), ("adam", 4, 0), ("adam", 6, 0)],
        *[
            pytest.param(*each, 2, marks=pytest.mark.long)
            for each in (("sgd", 3), ("sgd", 6), ("adam", 3), ("adam", 6))
        ],
    ],
)
def test_extending_a_run_changes_no_bit(tmp_path: Path, optimizer: Any, stop: int, processes: int) -> None:
    config = TrainConfig(hidden=(5, 3), epochs=10, batch_size=1024, optimizer=optimizer, learning_rate=0.01)
    whole = run(tmp_path, "whole", config)
    short = TrainConfig.from_dict({**config.to_dict(), "epochs": stop})
    run(tmp_path, "parts", short)
    parts = resume(tmp_path, "parts", epochs=10, processes=processes)
    assert_same(whole, parts)
    assert parts.attrs["config"]["epochs"] == 10
    assert not ipstore.verify(tmp_path / "parts")


def test_resuming_reads_no_activations(tmp_path: Path) -> None:
    """A run may be larger than the memory, so what is stored of it must not be needed to go on."""
    run(tmp_path, "run")
    for chunk in (tmp_path / "run/activations").glob("*/c.0.*"):
        chunk.unlink()
    assert resume(tmp_path, "run", epochs=14, processes=0).sizes["epoch"] == 15


def test_levels(reference: xr.DataTree, tmp_path: Path) -> None:
    half = run(tmp_path, "half", level="half")
    codes = run(tmp_path, "codes", level="codes")
    weights = run(tmp_path, "weights", level="weights")
    edges = np.linspace(-1, 1, 31)
    for layer in ("layer1", "layer2", "output"):
        full = array(reference, f"activations/{layer}").values
        np.testing.assert_array_equal(array(half, f"activations/{layer}"), full.astype(np.float16))
        np.testing.assert_array_equal(array(codes, f"activations/{layer}"), np.digitize(full, edges[1:-1]))
        assert array(codes, f"activations/{layer}").attrs["binning"] == {"rule": "equal", "bins": 30, "range": [-1, 1]}
    np.testing.assert_array_equal(array(weights, "weights/output"), array(reference, "weights/output"))
    np.testing.assert_array_equal(array(weights, "digest/crc32c"), array(reference, "digest/crc32c"))
    assert not (tmp_path / "weights" / "activations").exists()
    for name in reference["activations"].dataset:  # computed from the weights, when they are read
        np.testing.assert_array_equal(array(weights, f"activations/{name}"), array(reference, f"activations/{name}"))


def test_codes_need_a_range(tmp_path: Path) -> None:
    relu = TrainConfig(hidden=(4,), activation="relu", epochs=2)
    with pytest.raises(ParameterError, match="relu activations have no bound"):
        run(tmp_path, "run", relu, level="codes")
    assert not tmp_path.joinpath("run").exists()
    stored = run(tmp_path, "run", relu, level="codes", binning=Binning(10, (0, 5)))
    assert array(stored, "activations/layer1").values.max() <= 9


def test_thinned_epochs_are_those_of_the_whole_run(reference: xr.DataTree, tmp_path: Path) -> None:
    thinned = run(tmp_path, "run", every=3)
    assert array(thinned, "epoch").values.tolist() == [0, 3, 6, 9, 10]
    for path in ("activations/layer2", "training/loss", "training/grad_std_norm"):
        np.testing.assert_array_equal(thinned[path], reference[path].sel(epoch=array(thinned, "epoch")))


def test_captured_epochs() -> None:
    assert captured_epochs(5) == [0, 1, 2, 3, 4, 5]
    assert captured_epochs(0) == [0]
    assert captured_epochs(10, every=4) == [0, 4, 8, 10]
    spaced = captured_epochs(10_000, log_spaced=30)
    assert (spaced[0], spaced[-1]) == (0, 10_000)
    assert len(spaced) <= 30
    ratios = np.diff(np.log(spaced[12:]))
    assert ratios.max() / ratios.min() < 1.2
    for wrong in ({"every": 0}, {"log_spaced": 1}, {"log_spaced": 5, "every": 2}):
        with pytest.raises(ParameterError):
            captured_epochs(10, **wrong)


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.long)])
def test_a_diverging_seed_is_kept_marked_and_named(tmp_path: Path, processes: int) -> None:
    config = TrainConfig(hidden=(5, 3), activation="linear", epochs=6, batch_size=256, learning_rate=3e19)
    with pytest.warns(DivergedWarning, match=r"3 of 3 seeds is not finite: 3 \(from epoch \d+\)"):
        tree = run(tmp_path, "run", config, processes=processes)
    assert set(tree.attrs["diverged"]) == {"3", "0", "8"}
    assert tree.sizes["epoch"] == 7
    assert not ipstore.verify(tmp_path / "run")


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    told: list[Progress] = []
    run(tmp_path, "run", on_progress=told.append)
    assert_counts_up(told)


_INTERRUPTED = """
import sys
from ipstore.trainers import tasks
from ipstore.trainers.streaming import capture
from ipstore.trainers.config import TrainConfig

def tell(progress):
    print(progress.captured, progress.committed, flush=True)

config = TrainConfig(hidden=(5, 3), epochs=100_000, batch_size=1024)
capture(tasks.load("rule", signed=True), sys.argv[1], "run", config, seeds=(3, 0, 8), shard_epochs=4,
        processes=int(sys.argv[2]), level="weights", on_progress=tell)
"""


def _start(store: Path, processes: int) -> "subprocess.Popen[str]":
    """A long capture in a process of its own, without a main guard; returns once it has committed something."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_INTERRUPTED), str(store), str(processes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line.split()[1]) > 0:
            return child
    raise AssertionError(child.communicate()[1])


@pytest.mark.long  # Ctrl-C is sent to the command line by its own test
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("processes", [0, 2])
def test_a_signal_commits_what_is_whole(tmp_path: Path, processes: int, number: signal.Signals) -> None:
    child = _start(tmp_path, processes)
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    interrupted = ipstore.open(tmp_path, run="run")
    assert interrupted.attrs["status"] == "interrupted"
    stop = int(array(interrupted, "epoch")[-1])
    assert stop > 0
    continued = resume(tmp_path, "run", epochs=stop + 5, processes=0)
    whole = run(tmp_path, "whole", TrainConfig(hidden=(5, 3), epochs=stop + 5, batch_size=1024), level="weights")
    assert_same(whole, continued)


@pytest.mark.long
@pytest.mark.parametrize("processes", [0, 2])
def test_a_killed_capture_resumes_bit_for_bit(tmp_path: Path, processes: int) -> None:
    child = _start(tmp_path, processes)
    child.kill()
    child.communicate(timeout=60)
    assert ipstore.runs(tmp_path)[0].status == "stopped"
    stop = int(array(ipstore.open(tmp_path, run="run"), "epoch")[-1])
    continued = resume(tmp_path, "run", epochs=stop + 6, processes=0)
    whole = run(tmp_path, "whole", TrainConfig(hidden=(5, 3), epochs=stop + 6, batch_size=1024), level="weights")
    assert_same(whole, continued)


class _Killer:
    """Kills one of this process's workers once something is committed."""

    def __call__(self, progress: Progress) -> None:
        if progress.committed and not self.killed:
            import psutil

            workers = [child for child in psutil.Process().children() if "worker_main" in " ".join(child.cmdline())]
            workers[0].kill()
            self.killed = True

    killed = False


def test_a_killed_worker_is_named_and_costs_no_commit(tmp_path: Path) -> None:
    config = TrainConfig(hidden=(5, 3), epochs=100_000, batch_size=1024)
    with pytest.raises(WorkerError, match=r"training seeds \d to \d was killed by signal 9"):
        run(tmp_path, "run", config, processes=2, level="weights", on_progress=_Killer())
    tree = ipstore.open(tmp_path, run="run")
    assert tree.attrs["status"] == "interrupted"
    assert tree.sizes["epoch"] > 0
    resume(tmp_path, "run", epochs=int(array(tree, "epoch")[-1]) + 1, processes=0)


def test_a_store_that_fails_stops_the_training(tmp_path: Path) -> None:
    def seal(progress: Progress) -> None:
        if progress.committed == 4:  # the folder of one layer's chunks becomes a file
            layer = tmp_path / "run/activations/layer1"
            if layer.is_dir():
                layer.rename(tmp_path / "moved")
                layer.write_text("in the way")

    with pytest.raises(StoreWriteError, match=r"committed, to epoch 3"):
        run(tmp_path, "run", TrainConfig(hidden=(5, 3), epochs=10_000), on_progress=seal)
    (tmp_path / "run/activations/layer1").unlink()
    (tmp_path / "moved").rename(tmp_path / "run/activations/layer1")
    assert resume(tmp_path, "run", epochs=9, processes=0).sizes["epoch"] == 10


class TestRefusals:
    def test_a_run_that_exists(self, tmp_path: Path) -> None:
        run(tmp_path, "run", level="weights")
        with pytest.raises(RunExistsError):
            run(tmp_path, "run")
        assert run(tmp_path, "run", overwrite=True).attrs["level"] == "full"

    def test_fewer_epochs_than_stored(self, tmp_path: Path) -> None:
        run(tmp_path, "run", level="weights")
        with pytest.raises(ResumeError, match="stored to epoch 10, so it cannot end at 4"):
            resume(tmp_path, "run", epochs=4)
        assert resume(tmp_path, "run", processes=0).sizes["epoch"] == 11

    def test_values_out_of_range(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownNameError, match=r"capture level 'ful'. Did you mean 'full'"):
            run(tmp_path, "run", level="ful")
        with pytest.raises(ParameterError, match=r"processes must be 0 .* but got -1"):
            run(tmp_path, "run", processes=-1)
        with pytest.raises(ParameterError, match="seeds"):
            run(tmp_path, "run", seeds=(1, 1))
        with pytest.raises(ParameterError, match="seeds"):
            run(tmp_path, "run", seeds=())
        assert list(tmp_path.iterdir()) == []

    def test_a_device_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match="cannot train on device 'cuda:99'"):
            run(tmp_path, "run", device="cuda:99")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.cuda
def test_a_gpu_runs_the_same_code(reference: xr.DataTree, tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    tree = run(tmp_path, "run", device="cuda", processes=None)
    np.testing.assert_allclose(array(tree, "activations/output"), array(reference, "activations/output"), atol=1e-3)
    codes = run(tmp_path, "codes", device="cuda", processes=None, level="codes")
    edges = np.linspace(-1, 1, 31)[1:-1]
    for layer in ("layer1", "layer2", "output"):
        np.testing.assert_array_equal(
            array(codes, f"activations/{layer}"), np.digitize(array(tree, f"activations/{layer}").values, edges)
        )


def test_the_ensemble_is_the_one_of_the_trainer(reference: xr.DataTree) -> None:
    ensemble = Ensemble(TASK, CONFIG, SEEDS)
    for _ in range(CONFIG.epochs):
        ensemble.train_epoch()
    for layer, parameters in ensemble.parameters().items():
        np.testing.assert_array_equal(parameters, array(reference, f"weights/{layer}").isel(epoch=-1))
