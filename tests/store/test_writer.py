"""What goes in comes out, at every level, in every order, and across a resume."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ipstore
from ipstore.errors import (
    FormatVersionError,
    NotAStoreError,
    ParameterError,
    RunExistsError,
    RunLockedError,
    SpaceError,
    StoreNotFoundError,
    StoreWriteError,
    UnknownNameError,
)
from ipstore.levels import LEVELS, Level
from ipstore.plan import RunPlan
from ipstore.writer import BackgroundWriter, RunWriter
from tests.store.synthetic import assert_holds, make_block, make_plan, write_epochs, write_run


@pytest.fixture(params=[level for level in LEVELS if level != "weights"])
def level(request: pytest.FixtureRequest) -> Level:
    chosen: Level = request.param
    return chosen


@pytest.mark.parametrize("epochs", [1, 4, 5, 11])
def test_a_run_holds_what_was_written(tmp_path: Path, level: Level, epochs: int) -> None:
    plan = make_plan(level)
    write_run(tmp_path / "store", plan, epochs)
    assert_holds(ipstore.open(tmp_path / "store", run="run"), plan, epochs)


def test_plain_xarray_opens_a_run(tmp_path: Path, level: Level) -> None:
    plan = make_plan(level)
    folder = write_run(tmp_path / "store", plan, 6)
    tree = xr.open_datatree(folder, engine="zarr")
    assert_holds(tree, plan, 6)
    assert tree["activations/layer1"].dims == ("epoch", "seed", "sample", "layer1_unit")
    assert tree["training/loss"].sel(seed=10, split="test").dims == ("epoch",)


def test_level_weights_keeps_no_activations(tmp_path: Path) -> None:
    plan = make_plan("weights")
    write_run(tmp_path / "store", plan, 6)
    tree = ipstore.open(tmp_path / "store", run="run")
    assert "activations" not in tree.children
    assert "attribute 'model' must describe its network" in tree.attrs["not_rebuilt"]
    assert tree["weights/layer1"].shape == (6, 3, 20)


def test_seeds_may_come_in_any_order(tmp_path: Path) -> None:
    plan = make_plan()
    writer = RunWriter.create(tmp_path, "run", plan, 12)
    fast, slow = slice(0, 2), slice(2, 3)
    committed = [
        writer.write(make_block(plan, start, count, seeds))
        for start, count, seeds in [
            (0, 4, fast),
            (4, 4, fast),
            (0, 4, slow),
            (8, 3, fast),
            (4, 4, slow),
            (8, 3, slow),
        ]
    ]
    assert committed == [False, False, True, False, True, False]
    writer.finish("finished")
    writer.close()
    assert_holds(ipstore.open(tmp_path, run="run"), plan, 11)


def test_a_reader_sees_only_whole_commits(tmp_path: Path) -> None:
    plan = make_plan()
    writer = RunWriter.create(tmp_path, "run", plan, 12)
    writer.write(make_block(plan, 0, 4))
    before = ipstore.open(tmp_path, run="run")
    writer.write(make_block(plan, 4, 4, slice(0, 2)))
    assert_holds(ipstore.open(tmp_path, run="run"), plan, 4)
    writer.write(make_block(plan, 4, 4, slice(2, 3)))
    assert_holds(before, plan, 4)
    assert_holds(ipstore.open(tmp_path, run="run"), plan, 8)
    writer.close()


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_resume_continues_where_the_commit_stands(tmp_path: Path, level: Level, stop: int) -> None:
    plan = make_plan(level)
    write_run(tmp_path, plan, stop, status="interrupted")
    writer = RunWriter.resume(tmp_path, "run")
    assert (writer.epochs, writer.last_epoch) == (stop, stop - 1)
    np.testing.assert_array_equal(writer.state()["parameters"], [[seed, stop] for seed in range(3)])
    write_epochs(writer, plan, 10)
    writer.finish("finished")
    writer.close()
    assert_holds(ipstore.open(tmp_path, run="run"), plan, 10)
    assert not ipstore.verify(tmp_path / "run")


def test_what_was_not_committed_is_swept(tmp_path: Path) -> None:
    plan = make_plan()
    writer = RunWriter.create(tmp_path, "run", plan, 12)
    writer.write(make_block(plan, 0, 4))
    writer.write(make_block(plan, 4, 4, slice(0, 1)))
    writer.close()
    assert list((tmp_path / "run/activations/layer1").glob("c.1.*"))
    writer = RunWriter.resume(tmp_path, "run")
    assert writer.epochs == 4
    assert not list((tmp_path / "run/activations/layer1").glob("c.1.*"))
    writer.finish("interrupted")
    writer.close()
    assert_holds(ipstore.open(tmp_path, run="run"), plan, 4)


def test_a_reader_of_the_old_snapshot_survives_the_rewrite_of_its_last_shard(tmp_path: Path) -> None:
    plan = make_plan()
    write_run(tmp_path, plan, 6, status="interrupted")
    old = ipstore.open(tmp_path, run="run")
    writer = RunWriter.resume(tmp_path, "run")
    write_epochs(writer, plan, 8)
    writer.close()
    assert_holds(old, plan, 6)


def test_divergence_is_recorded_at_its_first_epoch(tmp_path: Path) -> None:
    plan = make_plan()
    writer = RunWriter.create(tmp_path, "run", plan, 8)
    for start in (0, 4):
        block = make_block(plan, start, 4)
        block.arrays["training/loss"][:, 1, 0] = [np.nan if start + entry >= 3 else 1 for entry in range(4)]
        writer.write(block)
    writer.close()
    assert ipstore.open(tmp_path, run="run").attrs["diverged"] == {"10": 3}


def test_all_nan_is_stored_like_any_value(tmp_path: Path) -> None:
    plan = make_plan()
    block = make_block(plan, 0, 4)
    for values in block.arrays.values():
        if values.dtype.kind == "f":
            values[:] = np.nan
    writer = RunWriter.create(tmp_path, "run", plan, 4)
    writer.write(block)
    writer.close()
    assert not ipstore.verify(tmp_path / "run")


def test_a_commit_that_fails_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan()
    writer = RunWriter.create(tmp_path, "run", plan, 12)
    writer.write(make_block(plan, 0, 4))
    with monkeypatch.context() as patched:
        patched.setattr("ipstore.local.replace_file", _full)
        with pytest.raises(StoreWriteError, match="committed, to epoch 3"):
            writer.write(make_block(plan, 4, 4))
    assert (writer.epochs, writer.last_epoch) == (4, 3)
    writer.close()
    assert_holds(ipstore.open(tmp_path, run="run"), plan, 4)


def test_what_fails_after_a_commit_does_not_undo_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders may be forbidden just when a commit has been published: it is acknowledged, and what is left is swept."""
    plan = make_plan()
    writer = RunWriter.create(tmp_path, "run", plan, 12)
    for start in (0, 4):
        block = make_block(plan, start, 4)
        block.state = {"state": np.zeros((len(plan.seeds), 2), np.float32)}
        with monkeypatch.context() as patched:
            patched.setattr("ipstore.local.LocalPlace.delete", _full)
            patched.setattr("ipstore.group.GrowingGroup._mirror", _full)
            assert writer.write(block)
    assert len(list((tmp_path / "run" / "state").iterdir())) == 2
    writer.close()
    assert_holds(ipstore.open(tmp_path, run="run"), plan, 8)
    RunWriter.resume(tmp_path, "run").close()
    assert [file.name for file in (tmp_path / "run" / "state").iterdir()] == ["2.safetensors"]
    assert ipstore.verify(tmp_path / "run") == []


def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_what_a_killed_creation_left_is_removed_by_the_next(tmp_path: Path) -> None:
    write_run(tmp_path, make_plan(), 2)
    (tmp_path / "run" / "zarr.json").unlink()  # as if it had not come so far
    (tmp_path / ".run.2.removed" / "epoch").mkdir(parents=True)
    assert ipstore.runs(tmp_path) == []
    write_run(tmp_path, make_plan(seeds=1), 1)
    assert_holds(ipstore.open(tmp_path, run="run"), make_plan(seeds=1), 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "zarr.json"]
    assert not list((tmp_path / "run" / "activations").rglob("c.0.1.*"))


class TestRefusals:
    def test_overwriting_what_is_no_run(self, tmp_path: Path) -> None:
        write_run(tmp_path, make_plan(), 2, run="other")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "thesis.tex").write_text("years of work")
        with pytest.raises(NotAStoreError, match=r"thesis.tex.*another name"):
            RunWriter.create(tmp_path, "run", make_plan(), 2, overwrite=True)
        assert (tmp_path / "run" / "thesis.tex").read_text() == "years of work"

    def test_an_existing_run(self, tmp_path: Path) -> None:
        plan = make_plan()
        write_run(tmp_path, plan, 2)
        with pytest.raises(RunExistsError, match=r"--resume.*resume=True.*--overwrite"):
            RunWriter.create(tmp_path, "run", plan, 2)
        assert_holds(ipstore.open(tmp_path, run="run"), plan, 2)

    def test_overwrite_replaces_it(self, tmp_path: Path) -> None:
        plan = make_plan()
        write_run(tmp_path, plan, 6)
        writer = RunWriter.create(tmp_path, "run", plan, 3, overwrite=True)
        write_epochs(writer, plan, 3)
        writer.finish("finished")
        writer.close()
        assert_holds(ipstore.open(tmp_path, run="run"), plan, 3)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_a_second_writer(self, tmp_path: Path) -> None:
        plan = make_plan()
        first = RunWriter.create(tmp_path, "run", plan, 8)
        with pytest.raises(RunLockedError, match=f"process {os.getpid()}"):
            RunWriter.resume(tmp_path, "run")
        with pytest.raises(RunLockedError):
            RunWriter.create(tmp_path, "run", plan, 8, overwrite=True)
        write_epochs(first, plan, 8)
        first.close()
        assert_holds(ipstore.open(tmp_path, run="run"), plan, 8)

    def test_a_second_process(self, tmp_path: Path) -> None:
        plan = make_plan()
        first = RunWriter.create(tmp_path, "run", plan, 8)
        script = f"from ipstore.writer import RunWriter; RunWriter.resume({str(tmp_path)!r}, 'run')"
        second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "RunLockedError" in second.stderr
        first.close()
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

    def test_too_little_space_names_the_level_that_fits(self, tmp_path: Path) -> None:
        plan = make_plan("full")
        epochs = shutil.disk_usage(tmp_path).free // (plan.stored_bytes(10**6) // 10**6)
        with pytest.raises(SpaceError, match="level 'half' would take"):
            RunWriter.create(tmp_path, "run", plan, epochs * 11 // 10)
        with pytest.raises(SpaceError, match="no level would fit"):
            RunWriter.create(tmp_path, "run", plan, 1000 * epochs)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("name", ["", "..", "a/b", "/abs", ".hidden", "zarr.json", "a\0b", "x" * 129, "c", "a\n"])
    def test_names_that_could_leave_the_store(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ParameterError, match="run names"):
            RunWriter.create(tmp_path / "store", name, make_plan(), 2)
        with pytest.raises(ParameterError, match="layer names"):
            make_plan(layers={name: 3})

    def test_a_folder_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("not a store")
        for path in (tmp_path, tmp_path / "letter.txt"):
            with pytest.raises(NotAStoreError, match="not an ipstore store"):
                RunWriter.create(path, "run", make_plan(), 2)
            with pytest.raises(NotAStoreError):
                ipstore.open(path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["letter.txt"]

    def test_a_newer_format(self, tmp_path: Path) -> None:
        write_run(tmp_path, make_plan(), 2)
        root = tmp_path / "zarr.json"
        root.write_text(root.read_text().replace('"format_version": 1', '"format_version": 2'))
        for action in (lambda: ipstore.open(tmp_path), lambda: RunWriter.resume(tmp_path, "run")):
            with pytest.raises(FormatVersionError, match=r"format 2.*up to format 1"):
                action()

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(StoreNotFoundError, match="no store at"):
            ipstore.open(tmp_path / "nowhere")
        write_run(tmp_path / "store", make_plan(), 2)
        with pytest.raises(UnknownNameError, match=r"'rum'.*Did you mean 'run'"):
            ipstore.open(tmp_path / "store", run="rum")
        with pytest.raises(StoreNotFoundError):
            RunWriter.resume(tmp_path / "store", "rum")

    def test_a_url(self) -> None:
        with pytest.raises(ParameterError, match=r"s3://, gs://, az://, https://, http://, but got ftp://"):
            ipstore.open("ftp://host/runs.zarr")
        with pytest.raises(ParameterError, match=r"s3://bucket/runs.zarr came with credentials") as caught:
            ipstore.open("s3://key:secret@bucket/runs.zarr")
        assert "secret" not in str(caught.value).replace("AWS_SECRET", "")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory in which nothing can be made, also not by root."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], check=False).returncode:
        pytest.skip("root writes anywhere, and may not mount a read-only file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_read_only_directory(read_only: Path) -> None:
    with pytest.raises(StoreWriteError, match="cannot create run 'run' in"):
        RunWriter.create(read_only / "store", "run", make_plan(), 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def _put_until_refused(background: BackgroundWriter, plan: RunPlan) -> None:
    try:
        background.put(make_block(plan, 4, 4))
        background.put(make_block(plan, 8, 4))
    finally:
        background.close()


def test_a_full_disk_leaves_the_last_commit_and_can_be_resumed(small_disk: Path) -> None:
    plan = make_plan()
    writer = RunWriter.create(small_disk / "store", "run", plan, 8)
    filler = small_disk / "filler"
    background = BackgroundWriter(writer, lambda: None)
    background.put(make_block(plan, 0, 4))
    background.close()
    with open(filler, "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        file.writelines(itertools.repeat(b"x" * 4096))
    background = BackgroundWriter(writer, lambda: None)
    with pytest.raises(StoreWriteError, match=r"No space left.*committed, to epoch 3.*--resume"):
        _put_until_refused(background, plan)
    writer.close()
    assert_holds(ipstore.open(small_disk / "store", run="run"), plan, 4)
    filler.unlink()
    writer = RunWriter.resume(small_disk / "store", "run")
    write_epochs(writer, plan, 8)
    writer.finish("finished")
    writer.close()
    assert_holds(ipstore.open(small_disk / "store", run="run"), plan, 8)
