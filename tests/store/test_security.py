"""A store may come from anyone: nothing in it is imported, unpickled or run, and nothing outside it is touched."""

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ipstore
from ipstore.analysis import analyze
from ipstore.errors import CorruptionError, IpstoreError, StoreWriteError
from ipstore.integrity import verify
from ipstore.places import locate
from ipstore.repairs import repair
from ipstore.state import read_state
from ipstore.trainers import TrainConfig, capture, resume
from ipstore.trainers.tasks import Task
from ipstore.writer import RunWriter
from tests.cli.conftest import ipstore as command
from tests.cli.conftest import ipstore_json
from tests.faults.watching import Seen, watching
from tests.store.synthetic import make_plan, write_run

Change = Callable[[dict[str, Any]], None]


class Trap:
    """Would run a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("unpickled",)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("security") / "store"
    x = np.array([[i >> bit & 1 for bit in range(3)] for i in range(8)], np.float32)
    p = np.array([[0.9, 0.1] if row.sum() > 1 else [0.2, 0.8] for row in x])
    task = Task(x, np.full(8, 1 / 8), p, np.arange(8), population=True, name="counting")
    config = TrainConfig(hidden=(2,), epochs=5, batch_size=4)
    capture(task, store, "run", config, seeds=[3, 5], processes=0, shard_epochs=4)
    analyze(store, "run", "binned", bins=10, name="ten")
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "store"))


def change(group: Path, how: Change) -> None:
    document = json.loads((group / "zarr.json").read_bytes())
    how(document)
    (group / "zarr.json").write_text(json.dumps(document))


def attribute(**values: Any) -> Change:
    return lambda document: document["attributes"].update(values)


def array(path: str, **values: Any) -> Change:
    return lambda document: document["consolidated_metadata"]["metadata"][path].update(values)


def use(store: Path) -> tuple[list[str], Seen]:
    """Ask everything of the store, and say with what messages it was refused, and what was seen to happen."""
    refused = []
    with watching() as seen:
        for do in (
            lambda: ipstore.open(store, run="run").load(),
            lambda: ipstore.runs(store),
            lambda: command("info", store / "run"),
            lambda: command("verify", store),
            lambda: analyze(store, "run", "binned", bins=7),
            lambda: resume(store, "run", epochs=7, processes=0),
            lambda: repair(store / "run"),
        ):
            try:
                do()
            except (IpstoreError, AssertionError) as error:  # the command's exit code
                refused.append(str(error))
    return refused, seen


# Code -------------------------------------------------------------------------


def test_a_pickled_resume_state_is_not_unpickled(store: Path) -> None:
    """Not even where its checksum is right."""
    state = store / "run" / json.loads((store / "run/zarr.json").read_bytes())["attributes"]["commit"]["state"]
    state.write_bytes(pickle.dumps(Trap()))
    from ipstore.block import digest

    crc = digest(np.frombuffer(state.read_bytes(), np.uint8))
    change(store / "run", lambda document: document["attributes"]["commit"].update(state_crc32c=crc))
    with pytest.raises(CorruptionError, match="cannot be read"):
        read_state(locate(store / "run"), f"state/{state.name}", crc)
    refused, seen = use(store)
    assert any("from which the run would continue" in message for message in refused)
    assert not [name for name in seen.unpickled if "print" in name]


@pytest.mark.parametrize(("dtype", "codec"), [("object", "pickle"), ("|O", "numcodecs.pickle"), ("float64", "pickle")])
def test_an_array_of_objects_is_refused(store: Path, dtype: Any, codec: str) -> None:
    planted = {"data_type": dtype, "codecs": [{"name": codec, "configuration": {}}, {"name": "crc32c"}]}
    change(store / "run", array("probe/x_id", **planted))
    (store / "run/probe/x_id/c.0").write_bytes(pickle.dumps(Trap()))
    refused, seen = use(store)
    assert len(refused) == 7
    assert all("'probe/x_id'" in message for message in refused if "run/zarr.json" in message)
    assert not [name for name in seen.unpickled if "print" in name]


def test_a_pickle_in_the_place_of_a_chunk_is_damage(store: Path) -> None:
    (store / "run/training/layer/c.0").write_bytes(pickle.dumps(Trap()))
    assert [damage.array for damage in verify(store / "run")] == ["training/layer"]
    _, seen = use(store)
    assert not [name for name in seen.unpickled if "print" in name]


def test_what_names_a_module_is_not_imported(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Task, estimator, model, activation and optimizer are words that a run says of itself."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "planted.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path / "path")
    name = "planted:trap"
    change(store / "run", attribute(task=name, task_params={"x": name}, probe=name, labels=name))
    change(store / "run/results/ten", attribute(estimator=name, parameters={"estimator": name}, about=name))
    refused, seen = use(store)
    assert not refused, "words are data"
    for how in (
        attribute(model={"kind": name, "widths": [3, 2, 2], "activation": name, "output": name}),
        lambda document: document["attributes"]["config"].update(activation=name, optimizer=name, init=name),
        lambda document: document["attributes"]["versions"].update(planted=name),
    ):
        change(store / "run", how)
    _, seen = use(store)
    assert "planted" not in sys.modules
    assert "planted" not in seen.imported
    assert not seen.started


def test_a_task_that_names_a_module_is_not_built_for_its_labels(store: Path) -> None:
    change(store / "run", attribute(task="os:system", task_params={"command": "touch owned"}))
    failed = ipstore_json("analyze", store / "run", "--information", "0.9", code=2)
    assert "'os:system'" in failed["error"]["message"]
    failed = ipstore_json("bound", store / "run", "--information", "0.9", code=2)
    assert "'os:system'" in failed["error"]["message"]


def test_a_stored_result_does_not_choose_the_estimator(store: Path) -> None:
    change(store / "run/results/ten", attribute(estimator="os:system"))
    with watching() as seen, pytest.raises(ipstore.errors.ParameterError, match="is of something else"):
        analyze(store, "run", "binned", bins=10, name="ten")
    assert not seen.started


# Paths ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../outside", "/etc", "..", "a/../../../outside", "activations/../../outside"])
def test_a_name_that_leaves_the_store_is_refused(store: Path, name: str) -> None:
    def rename(document: dict[str, Any]) -> None:
        nodes = document["consolidated_metadata"]["metadata"]
        nodes[name] = nodes.pop("probe/x_id")

    change(store / "run", rename)
    refused, seen = use(store)
    assert len(refused) == 7
    assert not _outside(seen, store)
    assert [path.name for path in store.parent.iterdir()] == ["store"]


@pytest.mark.parametrize(
    "state", ["../../secret", "/etc/passwd", "state/../../../secret", "zarr.json", "state/1.pickle"]
)
def test_a_state_that_lies_elsewhere_is_refused(store: Path, state: str) -> None:
    secret = store.parent / "secret"
    secret.write_bytes(b"not for you")
    change(store / "run", lambda document: document["attributes"]["commit"].update(state=state))
    refused, seen = use(store)
    assert all("'state'" in message for message in refused if "run/zarr.json" in message)
    assert not _outside(seen, store)
    assert secret.read_bytes() == b"not for you"


@pytest.mark.parametrize("layer", ["../../../outside", "/tmp/outside", "a/b", "zarr.json", "c"])
def test_a_layer_that_lies_elsewhere_is_refused(store: Path, layer: str) -> None:
    change(store / "run", attribute(layers=[layer, "output"]))
    refused, seen = use(store)
    assert len(refused) == 7
    assert not _outside(seen, store)


@pytest.mark.parametrize("name", ["../run", "..", "/etc", "a/b"])
def test_a_run_or_result_that_is_asked_for_by_a_path_is_refused(store: Path, name: str) -> None:
    for ask in (
        lambda: ipstore.open(store, run=name),
        lambda: RunWriter.resume(store, name),
        lambda: analyze(store, name, "binned"),
        lambda: analyze(store, "run", "binned", name=name),
    ):
        with pytest.raises(ipstore.errors.ParameterError, match="names are 1 to 128"):
            ask()


def test_a_folder_whose_name_no_run_has_is_none(store: Path) -> None:
    for name in ("a b", "ünï", "a\nb", "\x1b[31m", "-x"):
        shutil.copytree(store / "run", store / name)
    assert [run.name for run in ipstore.runs(store)] == ["run"]
    assert list(ipstore.open(store).children) == ["run"]


def test_a_run_that_nothing_could_read_is_not_begun(tmp_path: Path) -> None:
    plan = make_plan(attrs={"task": "bell\x07"})
    with pytest.raises(ipstore.errors.ParameterError, match="cannot be printed"):
        write_run(tmp_path, plan, 4)
    assert not (tmp_path / "run").exists()


# Links ------------------------------------------------------------------------


def test_a_store_may_lie_behind_a_link(store: Path) -> None:
    link = store.parent / "link"
    link.symlink_to(store)
    assert verify(link / "run") == []
    resume(link, "run", epochs=7, processes=0)
    assert verify(store / "run") == []


@pytest.mark.parametrize("inside", ["activations/layer1", "training/loss", "state", "results", "probe"])
def test_nothing_is_written_through_a_link_inside_a_run(store: Path, inside: str) -> None:
    """A reader may follow it, since what it gives must carry its checksums; a writer would write elsewhere."""
    outside = store.parent / "outside"
    (store / "run" / inside).rename(outside)
    (store / "run" / inside).symlink_to(outside)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    for write in (
        lambda: resume(store, "run", epochs=7, processes=0),
        lambda: repair(store / "run"),
        lambda: analyze(store, "run", "binned", bins=7),
    ):
        if inside != "results" and write.__code__.co_names[0] == "analyze":
            continue  # it writes below results alone
        with pytest.raises(StoreWriteError, match="is a link"):
            write()
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


def test_a_lease_that_is_a_link_is_not_followed(store: Path) -> None:
    precious = store.parent / "precious"
    precious.write_bytes(b"not for you")
    (store / "run/.lease").unlink()
    (store / "run/.lease").symlink_to(precious)
    with pytest.raises(StoreWriteError, match="is a link"):
        resume(store, "run", epochs=7, processes=0)
    assert precious.read_bytes() == b"not for you"


def _outside(seen: Seen, store: Path) -> list[str]:
    """What was touched beside the store."""
    beside = str(store.parent.resolve())
    within = str(store.resolve())
    return [
        path
        for path in (*seen.read, *seen.changed)
        if path.startswith((beside, "/etc/passwd")) and path != within and not path.startswith(f"{within}/")
    ]
