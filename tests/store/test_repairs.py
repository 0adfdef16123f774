"""`repair` gives back what was written, byte for byte, or says why it cannot."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ipstore
from ipstore.analysis import analyze
from ipstore.errors import CorruptionError, RunLockedError
from ipstore.format import make_store
from ipstore.levels import LEVELS
from ipstore.repairs import Repairs, repair, sweep_store
from ipstore.trainers import TrainConfig, capture, resume
from ipstore.trainers.tasks import Task
from tests.store.synthetic import make_plan, write_run

CONFIG = TrainConfig(hidden=(4, 3), epochs=9, batch_size=8)
"""Ten epochs: two whole shards of 4, and one with 2."""


def cube() -> Task:
    x = np.array([[i >> bit & 1 for bit in range(5)] for i in range(32)], np.float32)
    p = np.array([[0.9, 0.1] if row.sum() > 2 else [0.2, 0.8] for row in x])
    return Task(x, np.full(32, 1 / 32), p, np.arange(32), population=True, name="cube")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run at each level; for copying."""
    store = tmp_path_factory.mktemp("repairs") / "store"
    for level in LEVELS:
        capture(cube(), store, level, CONFIG, seeds=[3, 5], level=level, processes=0, shard_epochs=4)
    analyze(store, "full", "binned", bins=10, name="ten")
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "store"))


def contents(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name != ".lease"
    }


def flip(file: Path, byte: int = 5) -> None:
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)


def swap(run: Path, one: str, other: str) -> None:
    a, b = (run / one).read_bytes(), (run / other).read_bytes()
    (run / one).write_bytes(b)
    (run / other).write_bytes(a)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda run: flip(run / "activations/layer2/c.1.1.0.0"),
    "a missing shard": lambda run: (run / "activations/output/c.2.0.0.0").unlink(),
    "an empty shard": lambda run: (run / "activations/layer1/c.0.0.0.0").write_bytes(b""),
    "shards of other epochs": lambda run: swap(run, "activations/layer1/c.0.0.0.0", "activations/layer1/c.1.0.0.0"),
    "shards of other seeds": lambda run: swap(run, "activations/layer1/c.0.0.0.0", "activations/layer1/c.0.1.0.0"),
    "a lost folder": lambda run: shutil.rmtree(run / "activations/layer2"),
    "lost metadata": lambda run: (run / "activations/output/zarr.json").write_text("{"),
}


@pytest.mark.parametrize("level", [*(pytest.param(each, marks=pytest.mark.long) for each in ("full", "half")), "codes"])
def test_activations_come_back_byte_for_byte(store: Path, level: str) -> None:
    before = contents(store / level)
    for name, do_damage in DAMAGES.items():
        do_damage(store / level)
        damage = ipstore.verify(store / level)
        assert damage, name
        assert repair(store / level) == Repairs([], damage, []), name
        after = contents(store / level)
        # A length along epoch that the metadata of an array have of it may have lagged; else nothing differs.
        assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} <= {
            key for key in before if key.endswith("/zarr.json")
        }, name
    assert ipstore.verify(store / level) == []


def test_a_whole_run_is_left_as_it_is(store: Path) -> None:
    for level in LEVELS:
        before = contents(store / level)
        assert repair(store / level) == Repairs([], [], [])
        assert contents(store / level) == before


def test_leftovers_are_swept(store: Path) -> None:
    run = store / "full"
    left = [
        *("activations/layer1/c.3.0.0.0", "training/loss/c.3.0.0", "state/99.safetensors", "probe/.c.0.7.tmp"),
        *(
            "results/.old.7.removed/zarr.json",
            "results/half/.lease",
            "results/half/seed/c.0",
            "results/ten/I_XT/c.1.0.0",
        ),
    ]
    for key in left:
        (run / key).parent.mkdir(parents=True, exist_ok=True)
        (run / key).write_bytes(b"left")
    shutil.copytree(run / "results/ten", run / "results/.ten.anew")
    repaired = repair(run)
    assert not repaired.damage
    assert set(left) <= set(repaired.removed)
    assert {key for key in repaired.removed if key not in left} == {
        key for key in repaired.removed if key.startswith("results/.ten.anew/")
    }
    assert not (run / "results/.ten.anew").exists()
    assert ipstore.open(run)["results/ten/I_XT"].load().notnull().all()


def test_a_repaired_run_goes_on_as_if_nothing_had_been(store: Path, whole: Path, tmp_path: Path) -> None:
    untouched = Path(shutil.copytree(whole / "codes", tmp_path / "other" / "codes").parent)
    shutil.copy(whole / "zarr.json", untouched)
    DAMAGES["a missing shard"](store / "codes")
    repair(store / "codes")
    for each in (store, untouched):
        resume(each, "codes", epochs=13, processes=0)
    chunks = [key for key in contents(untouched / "codes") if not key.endswith("zarr.json")]
    for key in chunks:
        assert (store / "codes" / key).read_bytes() == (untouched / "codes" / key).read_bytes(), key


@pytest.mark.parametrize(
    ("do_damage", "array", "why"),
    [
        (lambda run: flip(run / "training/loss/c.0.0.0"), "training/loss", "there is nothing to make it from"),
        (lambda run: flip(run / "weights/layer1/c.0.0.0"), "weights/layer1", "there is nothing to make it from"),
        (lambda run: flip(run / "results/ten/I_XT/c.0.0.0"), "results/ten/I_XT", "--again` computes it anew"),
        (lambda run: flip(next((run / "state").iterdir())), "state/", "there is nothing to make it from"),
    ],
)
def test_what_cannot_be_repaired_says_why(
    store: Path, do_damage: Callable[[Path], object], array: str, why: str
) -> None:
    do_damage(store / "full")
    repaired = repair(store / "full")
    assert not repaired.mended
    (damage,) = repaired.damage
    assert damage.array.startswith(array)
    assert damage.reason.endswith(why)


def test_activations_without_what_they_follow_from_stay_damaged(store: Path) -> None:
    run = store / "full"
    DAMAGES["a flipped bit"](run)
    flip(run / "weights/layer1/c.1.0.0")
    before = contents(run)
    repaired = repair(run)
    reasons = {damage.array: damage.reason for damage in repaired.damage}
    assert reasons.keys() == {"activations/layer2", "weights/layer1"}
    assert "it cannot be rebuilt: what it follows from is damaged as well" in reasons["activations/layer2"]
    assert contents(run) == before


def test_weights_that_are_not_the_runs_rebuild_nothing(store: Path) -> None:
    """Their checksums are right; the digest of what they give is not."""
    run = store / "full"
    swap(run, "weights/layer1/c.0.0.0", "weights/layer1/c.1.0.0")
    DAMAGES["a flipped bit"](run)
    before = contents(run)
    (damage,) = repair(run).damage
    assert "at epoch 4 the weights give other" in damage.reason
    assert contents(run) == before


def test_a_model_that_is_not_known_cannot_be_rebuilt(tmp_path: Path) -> None:
    run = write_run(tmp_path, make_plan(), 8)
    flip(run / "activations/layer1/c.1.1.0.0")
    (damage,) = repair(run).damage
    assert "it cannot be rebuilt: the run's attribute 'model'" in damage.reason


def test_a_live_run_is_refused_and_stays(store: Path) -> None:
    DAMAGES["a flipped bit"](store / "full")
    before = contents(store / "full")
    with open(store / "full" / ".lease", "w") as lease:
        lease.write("process 7 on elsewhere\n")
        lease.flush()
        fcntl.flock(lease, fcntl.LOCK_EX)
        with pytest.raises(RunLockedError, match="'full' is being written by process 7 on elsewhere; wait"):
            repair(store / "full")
        assert len(ipstore.verify(store / "full")) == 1
    assert contents(store / "full") == before


def test_a_document_that_is_lost_cannot_be_repaired(store: Path) -> None:
    document = json.loads((store / "full/zarr.json").read_bytes())
    document["attributes"]["commit"]["epochs"] = "ten"
    (store / "full/zarr.json").write_text(json.dumps(document))
    before = contents(store / "full")
    with pytest.raises(CorruptionError, match="the commit's 'epochs' must be an integer"):
        repair(store / "full")
    assert contents(store / "full") == before


def test_sweeping_while_the_store_is_made_by_two_harms_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, replace = tmp_path / "store", os.replace

    def overtaken(source: Path, target: Path) -> None:
        monkeypatch.undo()
        with monkeypatch.context() as another:
            another.setattr(os, "getpid", lambda: 1)
            make_store(store)
        assert sweep_store(store) == (source.name,)
        replace(source, target)

    monkeypatch.setattr(os, "replace", overtaken)
    make_store(store)
    assert [path.name for path in store.iterdir()] == ["zarr.json"]


def test_what_was_left_beside_the_runs_is_swept(store: Path) -> None:
    for key in (
        "half-made/.lease",
        "half-made/seed/c.0",
        "alive/.lease",
        ".gone.7.removed/zarr.json",
        "notes/read.me",
        ".zarr.json.7.tmp",
    ):
        (store / key).parent.mkdir(exist_ok=True)
        (store / key).write_bytes(b"")
    with open(store / "alive/.lease") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        assert sweep_store(store) == (".zarr.json.7.tmp", ".gone.7.removed", "half-made")
    assert sorted(path.name for path in store.iterdir()) == sorted([*LEVELS, "alive", "notes", "zarr.json"])
