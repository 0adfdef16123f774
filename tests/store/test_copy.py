"""Runs on their way between places: whole, checked, continued, and never half in sight."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import ipstore
from ipstore.errors import (
    CorruptionError,
    NotAStoreError,
    ParameterError,
    RunExistsError,
    RunLockedError,
    SpaceError,
    StoreNotFoundError,
    StoreWriteError,
    UnknownNameError,
)
from ipstore.local import LocalPlace
from ipstore.places import locate
from ipstore.writer import RunWriter
from tests.store.synthetic import array, assert_holds, make_block, make_plan, write_epochs, write_run
from tests.store.test_parts import add_result, plan_part, write_parts

PLAN = make_plan()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A store with a run of ten epochs, the last two of them in a shard that is not full."""
    store = tmp_path / "source"
    write_run(store, PLAN, 10, status="interrupted")
    return store


def go_on(store: Path, epochs: int) -> None:
    writer = RunWriter.resume(store, "run")
    write_epochs(writer, PLAN, epochs)
    writer.finish("finished")
    writer.close()


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run but the documents of single arrays, which differ in their spaces."""
    files = {path.relative_to(run).as_posix(): path for path in run.rglob("*") if path.is_file()}
    return {key: path.read_bytes() for key, path in files.items() if not key.endswith("/zarr.json")}


def break_off_after(count: int) -> Callable[[int, int], None]:
    """Interrupt a copy when so many objects are there."""

    def tell(done: int, total: int) -> None:
        if done >= count:
            raise KeyboardInterrupt

    return tell


def test_a_copy_is_the_run_byte_for_byte(source: Path, tmp_path: Path) -> None:
    (copied,) = ipstore.copy(source, tmp_path / "target")
    assert contents(tmp_path / "target/run") == contents(source / "run")
    assert (copied.run, copied.epochs, copied.sent, copied.objects) == ("run", 10, 52, 52)
    assert_holds(ipstore.open(tmp_path / "target/run"), PLAN, 10)
    assert_holds(xr.open_datatree(tmp_path / "target/run", engine="zarr"), PLAN, 10)
    assert ipstore.verify(tmp_path / "target/run") == []
    (again,) = ipstore.copy(source, tmp_path / "target")
    assert (again.sent, again.objects) == (0, 52)


def test_readers_of_one_array_see_the_copy(source: Path, tmp_path: Path) -> None:
    ipstore.copy(source, tmp_path / "target")
    go_on(source, 13)
    ipstore.copy(source, tmp_path / "target")
    for planned in PLAN.arrays:
        ours, theirs = (store / "run" / planned.path for store in (source, tmp_path / "target"))
        assert json.loads((theirs / "zarr.json").read_bytes()) == json.loads((ours / "zarr.json").read_bytes())
        np.testing.assert_array_equal(zarr.open_array(theirs, mode="r")[...], zarr.open_array(ours, mode="r")[...])


def test_a_run_that_has_grown_is_continued(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    ipstore.copy(source, target)
    before = {path: path.stat().st_ino for path in target.rglob("c.*") if path.is_file()}
    go_on(source, 17)
    (copied,) = ipstore.copy(source, target)
    assert contents(target / "run") == contents(source / "run")
    assert_holds(ipstore.open(target, run="run"), PLAN, 17)
    again = {path for path, inode in before.items() if path.stat().st_ino != inode}
    assert {path.name.split(".")[1] for path in again if path.parent.name != "epoch"} == {"2"}, "the one not full"
    assert copied.sent < copied.objects
    go_on(target, 25)  # with the resume state that came along
    assert_holds(ipstore.open(target, run="run"), PLAN, 25)


@pytest.mark.parametrize("count", [0, 30])
def test_a_copy_that_was_broken_off_is_not_seen_and_goes_on(source: Path, tmp_path: Path, count: int) -> None:
    target = tmp_path / "target"
    with pytest.raises(KeyboardInterrupt):
        ipstore.copy(source, target, on_progress=break_off_after(count))
    assert ipstore.runs(target) == []
    (copied,) = ipstore.copy(source, target)
    assert copied.sent <= copied.objects - count + 1  # the resume state is always sent
    assert contents(target / "run") == contents(source / "run")


def test_what_a_broken_copy_has_sent_is_looked_at_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(KeyboardInterrupt):
        ipstore.copy(source, target, on_progress=break_off_after(52))
    for file in ("activations/layer1/c.0.1.0.0", "training/loss/c.1.0.0"):
        damaged = bytearray((target / "run" / file).read_bytes())
        damaged[50] ^= 4
        (target / "run" / file).write_bytes(damaged)
    ipstore.copy(source, target)
    assert contents(target / "run") == contents(source / "run")


@pytest.mark.long
def test_a_source_that_grew_while_a_copy_was_broken_off(source: Path, tmp_path: Path) -> None:
    """A shard that was not full has the same size and a right checksum, and is another by now."""
    target = tmp_path / "target"
    for epochs in (11, 14, 15):
        with pytest.raises(KeyboardInterrupt):
            ipstore.copy(source, target, on_progress=break_off_after(40))
        go_on(source, epochs)
    ipstore.copy(source, target)
    assert contents(target / "run") == contents(source / "run")
    for epochs in (17, 18, 19):
        go_on(source, epochs)
        with pytest.raises(KeyboardInterrupt):
            ipstore.copy(source, target, on_progress=break_off_after(80))
        assert_holds(ipstore.open(target, run="run"), PLAN, 15)
        assert ipstore.verify(target / "run") == []
    ipstore.copy(source, target)
    assert contents(target / "run") == contents(source / "run")


_COPY = """
import sys
from ipstore.copying import copy
copy(sys.argv[1], sys.argv[2], on_progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.parametrize("kills", [(90,), pytest.param((30, 100, 150, 50), marks=pytest.mark.long)])
def test_a_killed_copy_goes_on(tmp_path: Path, kills: Sequence[int]) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    write_run(source, PLAN, 24 * len(kills))
    reached, starts = 0, []
    for more in kills:
        process = subprocess.Popen([sys.executable, "-c", _COPY, source, target], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        starts.append(int(process.stdout.readline()))
        while reached < starts[-1] + more:
            reached = int(process.stdout.readline())
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert ipstore.runs(target) == []
    (copied,) = ipstore.copy(source, target)
    assert copied.sent <= copied.objects - reached + 1
    assert contents(target / "run") == contents(source / "run")
    assert ipstore.verify(target / "run") == []


def test_a_live_run_is_copied_at_its_last_commit(source: Path, tmp_path: Path) -> None:
    writer = RunWriter.resume(source, "run")
    writer.attrs["status"] = "running"
    for seeds in (slice(0, 2), slice(2, 3)):
        writer.write(make_block(PLAN, 10, 2, seeds))
    writer.write(make_block(PLAN, 12, 4, slice(0, 2)))  # of a shard that is not committed
    (copied,) = ipstore.copy(source, tmp_path / "target")
    assert copied.epochs == 12
    assert_holds(ipstore.open(tmp_path / "target/run"), PLAN, 12)
    assert not (tmp_path / "target/run/activations/layer1/c.3.0.0.0").exists()
    assert [ipstore.runs(store)[0].status for store in (source, tmp_path / "target")] == ["live", "stopped"]
    writer.write(make_block(PLAN, 12, 4, slice(2, 3)))
    writer.finish("finished")
    writer.close()
    ipstore.copy(source, tmp_path / "target")
    assert_holds(ipstore.open(tmp_path / "target/run"), PLAN, 16)


def test_another_run_of_that_name_is_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    write_run(target, make_plan("half"), 4)
    with pytest.raises(RunExistsError, match="another than"):
        ipstore.copy(source, target)
    assert_holds(ipstore.open(target, run="run"), make_plan("half"), 4)


def test_a_target_that_is_ahead_is_refused(source: Path, tmp_path: Path) -> None:
    ipstore.copy(source, tmp_path / "target")
    go_on(tmp_path / "target", 12)
    with pytest.raises(RunExistsError, match=r"is ahead of .*12 captured epochs, here 10.*the other way"):
        ipstore.copy(source, tmp_path / "target")
    ipstore.copy(tmp_path / "target", source)
    assert_holds(ipstore.open(source, run="run"), PLAN, 12)


def test_a_target_that_went_another_way_is_refused(source: Path, tmp_path: Path) -> None:
    ipstore.copy(source, tmp_path / "target")
    writer = RunWriter.resume(tmp_path / "target", "run")
    block = make_block(PLAN, 10, 2)
    block.arrays["activations/layer1"][0, 0, 0] += 1
    writer.write(block)
    writer.finish("interrupted")
    writer.close()
    go_on(source, 16)
    with pytest.raises(RunExistsError, match="digests differ"):
        ipstore.copy(source, tmp_path / "target")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("activations/layer1/c.1.2.0.0", "a bit"),
        ("activations/output/c.0.0.0.0", "the end"),
        ("training/loss/c.0.0.0", "a bit"),
        ("probe/x/c.0.0", "all"),
    ],
)
def test_a_damaged_source_is_not_copied(source: Path, tmp_path: Path, file: str, damage: str) -> None:
    path = source / "run" / file
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[20] ^= 1
    path.write_bytes({"a bit": bytes(flipped), "the end": whole[:-1], "all": b""}[damage])
    with pytest.raises(CorruptionError, match=r"missing or damaged.*ipstore verify"):
        ipstore.copy(source, tmp_path / "target")
    path.unlink()
    with pytest.raises(CorruptionError, match=r"missing or damaged"):
        ipstore.copy(source, tmp_path / "target")
    assert ipstore.runs(tmp_path / "target") == []
    path.write_bytes(whole)
    ipstore.copy(source, tmp_path / "target")
    assert contents(tmp_path / "target/run") == contents(source / "run")


def test_a_damaged_resume_state_is_not_copied(source: Path, tmp_path: Path) -> None:
    (state,) = (source / "run/state").iterdir()
    state.write_bytes(b"nothing")
    with pytest.raises(CorruptionError, match="from which the run would continue"):
        ipstore.copy(source, tmp_path / "target")


class Forgetful(LocalPlace):
    """A disk that does not keep what it is given."""

    def put_chunk(self, key: str, content: memoryview, *, over: bool) -> None:
        changed = bytearray(content)
        changed[-1] ^= 1
        super().put_chunk(key, memoryview(changed), over=over)


class Full(LocalPlace):
    """A disk without room."""

    def free_bytes(self) -> int:
        return 1000


class Failing(LocalPlace):
    """A disk that takes no more."""

    def put_chunk(self, key: str, content: memoryview, *, over: bool) -> None:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("disk", "error", "what"),
    [
        (Forgetful, StoreWriteError, "comes back other than it was written"),
        (Full, SpaceError, r"GB more at .*GB are free"),
        (Failing, StoreWriteError, r"Input/output error; the same command goes on"),
    ],
)
def test_a_target_that_fails(
    source: Path, tmp_path: Path, disk: type[LocalPlace], error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=what):
        ipstore.copy(source, disk(tmp_path / "target"))
    assert ipstore.runs(tmp_path / "target") == []
    ipstore.copy(source, tmp_path / "target")
    assert contents(tmp_path / "target/run") == contents(source / "run")


def test_results_come_along_and_grow(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    add_result(source / "run", epochs=4)
    add_result(source / "run", name="other", epochs=4)
    (copied,) = ipstore.copy(source, target)
    assert copied.results == ("other", "plane")
    add_result(source / "run", name="new", epochs=10)
    shutil.rmtree(target / "run/results/other")
    add_result(target / "run", name="other", epochs=8, value=3.0)
    (copied,) = ipstore.copy(source, target)
    assert (copied.results, copied.kept) == (("new", "plane"), ("other",))
    ours, theirs = (ipstore.open(store, run="run") for store in (source, target))
    xr.testing.assert_identical(ours["results/new"].to_dataset().load(), theirs["results/new"].to_dataset().load())
    assert array(theirs, "results/other/curve").values.tolist() == [3, 6]
    assert ipstore.verify(target / "run") == []


def test_one_run_or_all_parts_of_one(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_run(source, PLAN, 4)
    write_parts(source, 4)
    assert [copied.run for copied in ipstore.copy(source / "run", tmp_path / "one")] == ["run"]
    assert [copied.run for copied in ipstore.copy(source, tmp_path / "parts", run="big")] == ["big+a", "big+b"]
    assert [copied.run for copied in ipstore.copy(source, tmp_path / "all")] == ["big+a", "big+b", "run"]
    for name in ("a", "b"):  # from where they were trained to one store
        ipstore.copy(source / f"big+{name}", tmp_path / "together")
    assert ipstore.open(tmp_path / "together", run="big").sizes["seed"] == 3


def test_what_cannot_be_copied(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError):
        ipstore.copy(tmp_path / "nothing", tmp_path / "target")
    with pytest.raises(UnknownNameError, match="there is no run 'rum'"):
        ipstore.copy(source / "rum", tmp_path / "target")
    with pytest.raises(ParameterError, match="run names"):
        ipstore.copy(source, tmp_path / "target", run="../run")
    with pytest.raises(ParameterError, match="one store"):
        ipstore.copy(source / "run", source)
    with pytest.raises(ParameterError, match="is a run; give its store"):
        ipstore.copy(source, source / "run")
    assert not (tmp_path / "target").exists()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/todo").write_text("buy milk")
    with pytest.raises(NotAStoreError):
        ipstore.copy(source, tmp_path / "notes")
    ipstore.copy(source, tmp_path / "target")
    (tmp_path / "target/run/zarr.json").unlink()
    (tmp_path / "target/run/.lease").unlink()
    with pytest.raises(NotAStoreError, match="files of something else"):
        ipstore.copy(source, tmp_path / "target")


def test_a_target_that_is_being_written_is_refused(source: Path, tmp_path: Path) -> None:
    ipstore.copy(source, tmp_path / "target")
    writer = RunWriter.resume(tmp_path / "target", "run")
    with pytest.raises(RunLockedError, match=f"process {os.getpid()}"):
        ipstore.copy(source, tmp_path / "target")
    writer.close()


@pytest.mark.long
def test_to_an_object_store_within_it_and_back(source: Path, tmp_path: Path, s3: str) -> None:
    add_result(source / "run", epochs=10)
    first, second = f"{s3}/first", f"{s3}/second"
    ipstore.copy(source, first)
    go_on(source, 17)
    assert ipstore.copy(source, first)[0].sent < ipstore.copy(source, second)[0].sent
    shutil.rmtree(tmp_path / "source")
    write_run(source, make_plan("half"), 4)
    with pytest.raises(RunExistsError):
        ipstore.copy(source, first)
    ipstore.copy(f"{first}/run", second)
    for store in (second, tmp_path / "back"):
        ipstore.copy(first, store)
        tree = ipstore.open(store, run="run")
        assert_holds(tree, PLAN, 17)
        assert tree["results/plane"].sizes == {"epoch": 17, "seed": 3, "layer": 1, "point": 2}
        assert ipstore.verify(locate(store) / "run") == []
    assert not [key for key in locate(first).sizes() if key.endswith(".copying")]


@pytest.mark.long
def test_a_copy_to_an_object_store_that_was_broken_off(source: Path, s3: str) -> None:
    target = s3
    with pytest.raises(KeyboardInterrupt):
        ipstore.copy(source, target, on_progress=break_off_after(20))
    assert ipstore.runs(target) == []
    (copied,) = ipstore.copy(source, target)
    assert copied.sent <= copied.objects - 19
    assert_holds(ipstore.open(target, run="run"), PLAN, 10)


@pytest.mark.long
def test_parts_in_an_object_store(tmp_path: Path, s3: str) -> None:
    store = s3
    for name, seeds in {"a": [5, 2], "b": [4]}.items():
        write_run(tmp_path / name, plan_part(seeds), 6, run=f"big+{name}")
        ipstore.copy(tmp_path / name, store)
    joint = ipstore.open(store, run="big").load()
    ipstore.merge(store, "big", remove_parts=True)
    assert [info.name for info in ipstore.runs(store)] == ["big"]
    for node in joint.subtree:
        xr.testing.assert_equal(node.to_dataset(), ipstore.open(store, run="big")[node.path].to_dataset())
    assert ipstore.verify(f"{store}/big") == []
