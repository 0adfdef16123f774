"""Runs in parts: presented as one, and made one."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import ipstore
from ipstore.errors import (
    CorruptionError,
    NotAStoreError,
    ParameterError,
    RunExistsError,
    RunLockedError,
    SpaceError,
    UnknownNameError,
)
from ipstore.group import read_document
from ipstore.levels import Level
from ipstore.local import LocalPlace
from ipstore.parts import named_runs
from ipstore.places import locate
from ipstore.plan import RunPlan
from ipstore.results import ResultWriter
from ipstore.schema import StaticArray
from ipstore.state import read_state
from ipstore.trainers import TrainConfig, capture, resume, tasks
from ipstore.writer import RunWriter
from tests.store.synthetic import SAMPLES, array, make_plan, write_epochs, write_run

PARTS = {"a": [20, 3], "b": [7]}


def plan_part(seeds: list[int], level: Level = "full", **changes: Any) -> RunPlan:
    plan = make_plan(level, **changes)
    mask = np.arange(len(seeds) * SAMPLES).reshape(len(seeds), SAMPLES) % (seeds[0] + 2) == 0
    train = StaticArray("probe/train", ("seed", "sample"), mask)
    return replace(plan, seeds=seeds, probe=[*plan.probe, train], attrs={**plan.attrs, "part_of": "big"})


def write_parts(store: Path, epochs: int = 11, level: Level = "full", **changes: Any) -> None:
    for name, seeds in PARTS.items():
        write_run(store, plan_part(seeds, level, **changes), epochs, run=f"big+{name}")


def add_result(run: Path, value: float = 1.0, name: str = "plane", epochs: int = 11, **provenance: Any) -> None:
    seeds = read_document(locate(run))["attributes"]["seeds"]
    curve = {"curve": xr.DataArray([value, 2 * value], dims="point")}
    told = {"estimator": "binned", "parameters": {}, "layers": ["layer1"], "labels": "soft", **provenance}
    writer = ResultWriter(locate(run), name, {"I_XT": {}}, seeds, ["layer1"], told, ["estimator"], static=curve)
    cells = np.array(seeds, float) + 100 * np.arange(epochs)[:, None]
    found = xr.Dataset({"I_XT": (("epoch", "seed", "layer"), cells[:, :, None])}, {"epoch": range(epochs)})
    writer.append(found)
    writer.close()


def assert_joint(tree: xr.DataTree, store: Path, epochs: int) -> None:
    """Every array holds, for each seed, what its part holds."""
    tree = tree.load()
    assert array(tree, "epoch").values.tolist() == list(range(epochs))
    assert array(tree, "seed").values.tolist() == tree.attrs["seeds"] == [3, 7, 20]
    for name, seeds in PARTS.items():
        part = ipstore.open(store, run=f"big+{name}").load()
        for node in part.subtree:
            for path, own in node.data_vars.items():
                ours = array(tree, f"{node.path}/{path}")
                for seed in seeds:
                    at = {"epoch": slice(epochs)} if "epoch" in own.dims else {}
                    theirs = own.isel(at)
                    cell = {"seed": seed} if "seed" in own.dims else {}
                    np.testing.assert_array_equal(ours.sel(cell), theirs.sel(cell), err_msg=f"{name} {path} {seed}")


@pytest.mark.parametrize(
    "level", ["full", *(pytest.param(level, marks=pytest.mark.long) for level in ("half", "codes", "weights"))]
)
def test_parts_open_as_one_and_merge_into_one(tmp_path: Path, level: Level) -> None:
    write_parts(tmp_path, level=level)
    joint = ipstore.open(tmp_path / "big")
    assert_joint(joint, tmp_path, 11)
    assert (joint.name, joint.attrs["status"], joint.attrs["commit"]["epochs"]) == ("big", "finished", 11)
    ipstore.merge(tmp_path, "big")
    merged = ipstore.open(tmp_path, run="big")
    assert_joint(merged, tmp_path, 11)
    assert {**merged.attrs, "commit": None} == {**joint.attrs, "commit": None}
    assert "part_of" not in merged.attrs
    assert merged.attrs["parts"]["big+b"]["seeds"] == [7]
    assert ipstore.verify(tmp_path / "big") == []
    assert {node.path: node.attrs for node in merged.children.values()} == {
        node.path: node.attrs for node in ipstore.open(tmp_path, run="big+a").children.values()
    }


def test_the_joint_is_lazy(tmp_path: Path) -> None:
    write_parts(tmp_path)
    joint = ipstore.open(tmp_path, run="big")
    assert array(joint, "activations/layer1").chunks is not None
    assert array(joint, "probe/train").chunks is not None


def test_a_store_opens_parts_under_their_joint_name(tmp_path: Path) -> None:
    write_parts(tmp_path)
    write_run(tmp_path, make_plan(), 4, run="a+b")  # a name alone makes no part
    assert named_runs(locate(tmp_path)) == {"a+b": ["a+b"], "big": ["big+a", "big+b"]}
    tree = ipstore.open(tmp_path)
    assert list(tree.children) == ["a+b", "big"]
    assert tree["big"].sizes["seed"] == 3
    assert [info.name for info in ipstore.runs(tmp_path)] == ["a+b", "big+a", "big+b"]
    ipstore.merge(tmp_path, "big")
    assert list(ipstore.open(tmp_path).children) == ["a+b", "big", "big+a", "big+b"]


def test_the_joint_has_the_epochs_that_all_parts_have(tmp_path: Path) -> None:
    write_run(tmp_path, plan_part([20, 3]), 11, run="big+a")
    write_run(tmp_path, plan_part([7]), 6, run="big+b", status="interrupted")
    joint = ipstore.open(tmp_path, run="big")
    assert_joint(joint, tmp_path, 6)
    assert (joint.attrs["status"], joint.attrs["commit"]["last_epoch"]) == ("interrupted", 5)
    with pytest.raises(ParameterError, match=r"not equally far.*'big\+a' has 11.*'big\+b' has 6.*--resume"):
        ipstore.merge(tmp_path, "big")


def test_one_part_alone_opens_under_the_joint_name(tmp_path: Path) -> None:
    write_run(tmp_path, plan_part([20, 3]), 6, run="big+a")
    assert array(ipstore.open(tmp_path, run="big"), "seed").values.tolist() == [3, 20]


def test_a_part_that_has_no_epoch_yet(tmp_path: Path) -> None:
    write_run(tmp_path, plan_part([20, 3]), 6, run="big+a")
    RunWriter.create(tmp_path, "big+b", plan_part([7]), 6).close()
    joint = ipstore.open(tmp_path, run="big")
    assert (joint.sizes["epoch"], joint.sizes["seed"], joint.attrs["commit"]["last_epoch"]) == (0, 3, None)


def other_probe(plan: RunPlan) -> RunPlan:
    x = np.zeros((SAMPLES, 3), np.float32)
    return replace(plan, probe=[StaticArray("probe/x", ("sample", "feature"), x), *plan.probe[1:]])


@pytest.mark.parametrize(
    ("plan", "what"),
    [
        (plan_part([7], "half"), r"level is 'full' in 'big\+a' and 'half' in 'big\+b'"),
        (plan_part([7, 3]), r"seeds \[3\] are in 'big\+a' and in 'big\+b'"),
        (plan_part([7], layers={"layer1": 5, "last": 2}), "layers is"),
        (other_probe(plan_part([7])), r"probe/x of 'big\+b' is not that of 'big\+a'"),
        (
            replace(
                plan_part([7]), attrs={"task": "synthetic", "part_of": "big", "config": {"epochs": 9, "rate": 0.1}}
            ),
            "config.* is",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, plan: RunPlan, what: str) -> None:
    write_run(tmp_path, plan_part([20, 3]), 4, run="big+a")
    write_run(tmp_path, plan, 4, run="big+b")
    with pytest.raises(ParameterError, match=what):
        ipstore.open(tmp_path, run="big")
    assert ipstore.open(tmp_path, run="big+b").sizes["epoch"] == 4


def test_parts_may_be_meant_to_reach_different_epochs(tmp_path: Path) -> None:
    for (name, seeds), epochs in zip(PARTS.items(), (9, 30), strict=True):
        plan = plan_part(seeds)
        config = {"epochs": epochs, "rate": 0.1}
        write_run(tmp_path, replace(plan, attrs={**plan.attrs, "config": config}), 6, run=f"big+{name}")
    assert ipstore.open(tmp_path, run="big").attrs["config"] == {"epochs": 30, "rate": 0.1}


@pytest.mark.long
def test_results_that_all_parts_have_are_joined(tmp_path: Path) -> None:
    write_parts(tmp_path)
    for name in PARTS:
        add_result(tmp_path / f"big+{name}", I_XY=0.5)
        add_result(tmp_path / f"big+{name}", name="some", epochs=5 if name == "a" else 8)
        add_result(tmp_path / f"big+{name}", name="another", value=1.0 if name == "a" else 2.0)
        add_result(tmp_path / f"big+{name}", name="other", estimator=name)
    add_result(tmp_path / "big+a", name="alone")
    joint = ipstore.open(tmp_path, run="big")
    ipstore.merge(tmp_path, "big")
    for tree in (joint, ipstore.open(tmp_path, run="big")):
        assert set(tree["results"].children) == {"plane", "some"}
        found = tree["results/plane"].to_dataset()
        assert found["I_XT"].sel(seed=7, epoch=4, layer="layer1") == 407
        assert found["seed"].values.tolist() == [3, 7, 20]
        assert found["curve"].values.tolist() == [1, 2]
        assert (found.attrs["source_run"], found.attrs["I_XY"]) == ("big", 0.5)
        some = array(tree, "results/some/I_XT").sel(layer="layer1")
        assert some.sel(epoch=4).values.tolist() == [403, 407, 420]
        assert some.sel(epoch=8).isnull().all()


@pytest.mark.long
def test_parts_of_unlike_shards_are_merged(tmp_path: Path) -> None:
    write_run(tmp_path, plan_part([20, 3], shard=8), 11, run="big+a")
    write_run(tmp_path, plan_part([7], shard=4), 11, run="big+b")
    ipstore.merge(tmp_path, "big")
    assert_joint(ipstore.open(tmp_path, run="big"), tmp_path, 11)
    assert ipstore.verify(tmp_path / "big") == []


CONFIG = TrainConfig(hidden=(5, 3), epochs=7, batch_size=1024, optimizer="adam")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of three seeds to epoch 7, and the same in two parts."""
    store, task = tmp_path_factory.mktemp("trained") / "runs.zarr", tasks.load("rule", information=0.99)
    how: dict[str, Any] = {"processes": 0, "shard_epochs": 4}
    capture(task, store, "whole", CONFIG, seeds=range(3), **how)
    capture(task, store, "big", CONFIG, seeds=[2, 0], part="b", **how)
    capture(task, store, "big", CONFIG, seeds=[1], part="a", **how)
    return store


def assert_same_arrays(one: xr.DataTree, two: xr.DataTree) -> None:
    for node in one.subtree:
        xr.testing.assert_equal(node.to_dataset(), two[node.path].to_dataset())


@pytest.mark.long
def test_a_merged_run_goes_on_as_one_that_was_never_in_parts(trained: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(trained, tmp_path / "runs.zarr"))
    ipstore.merge(store, "big", remove_parts=True)
    assert sorted(path.name for path in store.iterdir()) == ["big", "whole", "zarr.json"]
    assert_same_arrays(ipstore.open(store, run="whole"), ipstore.open(store, run="big"))
    for run in ("whole", "big"):
        resume(store, run, epochs=14, processes=0)
    assert_same_arrays(ipstore.open(store, run="whole"), ipstore.open(store, run="big"))
    states = []
    for run in ("whole", "big"):
        commit = read_document(locate(store / run))["attributes"]["commit"]
        states.append(read_state(locate(store / run), commit["state"], commit["state_crc32c"]))
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert ipstore.verify(store / "big") == []


@pytest.mark.long
def test_analyses_know_no_difference(trained: Path) -> None:
    whole, joint = (ipstore.open(trained, run=run).ip.information_plane() for run in ("whole", "big"))
    xr.testing.assert_equal(whole.compute(), joint.compute())
    split = [ipstore.open(trained, run=run).ip.information_plane(split="train").compute() for run in ("whole", "big")]
    xr.testing.assert_equal(*split)


def test_a_part_beside_a_whole_run_of_that_name_is_refused(trained: Path) -> None:
    with pytest.raises(RunExistsError, match="'whole' exists already"):
        capture(tasks.load("rule"), trained, "whole", CONFIG, part="a")
    with pytest.raises(ParameterError, match="part names"):
        capture(tasks.load("rule"), trained, "big", CONFIG, part="../a")


_MERGE = """
import sys
from ipstore.merging import merge
merge(sys.argv[1], "big", on_progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.long
@pytest.mark.parametrize("kills", [(5,), (5, 30, 20)])
def test_a_killed_merge_goes_on(tmp_path: Path, kills: Sequence[int]) -> None:
    epochs = 32 * len(kills)
    write_parts(tmp_path, epochs)
    reached, starts = 0, []
    for more in kills:
        process = subprocess.Popen([sys.executable, "-c", _MERGE, tmp_path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        starts.append(int(process.stdout.readline()))
        while reached < starts[-1] + more:
            reached = int(process.stdout.readline())
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert ipstore.open(tmp_path, run="big").attrs["commit"]["epochs"] == epochs, "the parts stand"
    assert starts == sorted(set(starts)), "each went on where the one before was"
    told: list[int] = []
    ipstore.merge(tmp_path, "big", on_progress=lambda done, total: told.append(done))
    assert told[0] >= reached
    assert told[-1] == epochs
    assert_joint(ipstore.open(tmp_path, run="big"), tmp_path, epochs)
    assert ipstore.verify(tmp_path / "big") == []
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    ipstore.merge(tmp_path, "big")  # done already
    ipstore.merge(tmp_path, "big", remove_parts=True)
    assert [info.name for info in ipstore.runs(tmp_path)] == ["big"]


@pytest.mark.long
def test_a_merge_of_parts_that_have_grown_since_begins_anew(tmp_path: Path) -> None:
    write_parts(tmp_path, 6)

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ipstore.merge(tmp_path, "big", on_progress=stop)
    for name, seeds in PARTS.items():
        writer = RunWriter.resume(tmp_path, f"big+{name}")
        write_epochs(writer, plan_part(seeds), 11)
        writer.finish("finished")
        writer.close()
    ipstore.merge(tmp_path, "big")
    assert_joint(ipstore.open(tmp_path, run="big"), tmp_path, 11)


def test_a_damaged_part_is_not_merged(tmp_path: Path) -> None:
    write_parts(tmp_path)
    layer = tmp_path / "big+a/activations/layer1"
    (layer / "c.1.0.0.0").write_bytes((layer / "c.1.1.0.0").read_bytes())  # whole, and of another seed
    with pytest.raises(CorruptionError, match=r"activations/layer1 of seed 20 in .*big\+a.*ipstore verify"):
        ipstore.merge(tmp_path, "big", remove_parts=True)
    assert [info.name for info in ipstore.runs(tmp_path)] == ["big+a", "big+b"]


def test_what_cannot_be_merged(tmp_path: Path) -> None:
    write_parts(tmp_path)
    with pytest.raises(UnknownNameError, match=r"run in parts 'bog'.*'big'"):
        ipstore.merge(tmp_path, "bog")
    with pytest.raises(ParameterError, match="run names"):
        ipstore.merge(tmp_path, "../big")
    with pytest.raises(NotAStoreError):
        ipstore.merge(tmp_path / "big+a/probe", "big")
    writer = RunWriter.resume(tmp_path, "big+b")
    with pytest.raises(RunLockedError, match=r"big\+b"):
        ipstore.merge(tmp_path, "big")
    writer.close()
    write_run(tmp_path, make_plan(), 6, run="big")
    with pytest.raises(RunExistsError, match="'big' exists already"):
        ipstore.merge(tmp_path, "big", remove_parts=True)
    assert len(ipstore.runs(tmp_path)) == 3


def test_a_merge_needs_room(tmp_path: Path) -> None:
    class Full(LocalPlace):
        def free_bytes(self) -> int:
            return 1000

    write_parts(tmp_path)
    with pytest.raises(SpaceError, match=r"merging run 'big' takes about 0\.00 GB"):
        ipstore.merge(Full(tmp_path), "big")
