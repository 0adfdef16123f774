"""A run that stored its weights alone has the activations that it would have stored."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import ipstore
from ipstore.analysis import analyze
from ipstore.errors import CorruptionError, ParameterError, RunLockedError, StoreWriteError
from ipstore.group import GrowingGroup
from ipstore.integrity import Damage
from ipstore.places import locate
from ipstore.trainers import TrainConfig, capture, resume, tasks
from ipstore.virtual import rebuilt_within
from tests.store.synthetic import array

CONFIG = TrainConfig(hidden=(4, 3), epochs=9, batch_size=2048)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training, captured whole and as weights."""
    folder = tmp_path_factory.mktemp("virtual") / "runs"
    for level in ("full", "weights"):
        capture(tasks.load("rule"), folder, level, CONFIG, seeds=[2, 5, 9], level=level, processes=0, shard_epochs=4)
    return folder


@pytest.fixture
def copied(store: Path, tmp_path: Path) -> Path:
    """That store, to be changed."""
    return Path(shutil.copytree(store, tmp_path / "runs"))


def test_the_arrays_are_those_of_the_whole_run(store: Path) -> None:
    whole, virtual = (ipstore.open(store, run=level)["activations"].to_dataset() for level in ("full", "weights"))
    assert {name: values.chunks is None for name, values in virtual.items()} == dict.fromkeys(whole, False)
    xr.testing.assert_identical(virtual.drop_attrs(), whole.drop_attrs())
    assert virtual.attrs == {"layers": ["layer1", "layer2", "output"], "rebuilt_from": "weights"}
    assert rebuilt_within(ipstore.open(store, run="weights")) == 0


def test_parts_of_them_are_the_same_parts(store: Path) -> None:
    whole, virtual = (ipstore.open(store, run=level)["activations/layer2"] for level in ("full", "weights"))
    for part in ({"epoch": 7, "seed": 1}, {"sample": slice(10, 20), "layer2_unit": [2, 0]}, {"epoch": [8, 0]}):
        np.testing.assert_array_equal(virtual.isel(part), whole.isel(part))


def test_an_analysis_knows_no_difference(copied: Path) -> None:
    whole, virtual = (analyze(copied, level, "binned", bins=10).load() for level in ("full", "weights"))
    xr.testing.assert_equal(virtual, whole)
    assert (whole.attrs.get("activations"), virtual.attrs["activations"]) == (None, "rebuilt from weights")


def test_damaged_weights_are_not_taken_for_activations(copied: Path) -> None:
    _exchange_seeds(copied / "weights")
    tree = ipstore.open(copied, run="weights")
    with pytest.raises(CorruptionError, match=r"run 'weights' do not give the activations that were captured"):
        tree["activations/output"].load()
    with pytest.raises(CorruptionError, match=r"do not give the activations"):
        rebuilt_within(tree)
    reason = "the activations differ from their digest"
    assert ipstore.verify(copied / "weights") == [
        Damage("weights", "weights/output", tuple(range(10)), (seed,), reason) for seed in (2, 5, 9)
    ]


def test_verify_names_the_networks_whose_weights_are_others(copied: Path) -> None:
    """Two files of one layer are exchanged: each has a right checksum."""
    run = copied / "weights"
    assert ipstore.verify(run) == []
    one, other = (run / "weights" / "layer2" / f"c.{place}.0.0" for place in (0, 1))
    one.rename(run / "aside")
    other.rename(one)
    (run / "aside").rename(other)
    found = ipstore.verify(run)
    assert [(each.array, each.epochs, each.seeds) for each in found] == [
        ("weights/layer2", tuple(range(8)), (seed,)) for seed in (2, 5, 9)
    ]


def test_weights_that_cannot_be_read_are_named_once(copied: Path) -> None:
    file = copied / "weights" / "weights" / "layer2" / "c.1.0.0"
    file.write_bytes(file.read_bytes()[:-30])
    (damage,) = ipstore.verify(copied / "weights")
    assert (damage.array, damage.epochs, damage.seeds) == ("weights/layer2", (4, 5, 6, 7), (2, 5, 9))


def test_a_model_that_nobody_can_rebuild_has_none(copied: Path) -> None:
    document = copied / "weights" / "zarr.json"
    document.write_text(document.read_text().replace('"kind": "mlp"', '"kind": "liquid"'))
    tree = ipstore.open(copied, run="weights")
    assert "activations" not in tree.children
    assert "liquid" in tree.attrs["not_rebuilt"]
    assert tree["training/loss"].shape == (10, 3, 2)
    with pytest.raises(ParameterError, match=r"cannot be rebuilt from its weights.*liquid"):
        ipstore.materialise(copied / "weights")


def test_materialised_they_are_stored(copied: Path) -> None:
    analyze(copied, "weights", "binned", bins=10, name="before")
    seen: list[tuple[int, int]] = []
    ipstore.materialise(copied / "weights", on_progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 10)
    assert seen[-1] == (10, 10)
    whole, stored = (ipstore.open(copied, run=level) for level in ("full", "weights"))
    xr.testing.assert_identical(stored["activations"].to_dataset(), whole["activations"].to_dataset())
    assert (stored.attrs["level"], stored["results"].children.keys()) == ("full", {"before"})
    assert ipstore.verify(copied / "weights") == []
    plain = zarr.open_array(copied / "weights" / "activations" / "layer1", mode="r")  # by its own metadata alone
    assert plain.shape == (10, 3, 4096, 4)
    with pytest.raises(ParameterError, match="stores its activations already, at level 'full'"):
        ipstore.materialise(copied / "weights")


@pytest.mark.long
def test_a_materialised_run_is_continued_with_its_activations(copied: Path) -> None:
    ipstore.materialise(copied / "weights")
    for level in ("full", "weights"):
        resume(copied, level, epochs=14, processes=0)
    whole, stored = (ipstore.open(copied, run=level) for level in ("full", "weights"))
    for group in ("activations", "weights", "training", "digest"):
        xr.testing.assert_identical(stored[group].to_dataset(), whole[group].to_dataset())
    assert ipstore.verify(copied / "weights") == []


def test_it_is_as_it_was_when_that_fails(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {key: size for key, size in locate(copied / "weights").sizes().items() if key != "zarr.json"}
    write, calls = GrowingGroup.write, 0

    def full(*args: object, **kwargs: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise OSError(28, "No space left on device")
        write(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(GrowingGroup, "write", full)
        with pytest.raises(StoreWriteError, match="No space left on device; the run is as it was"):
            ipstore.materialise(copied / "weights")
    assert {key: size for key, size in locate(copied / "weights").sizes().items() if key != "zarr.json"} == before
    assert ipstore.open(copied, run="weights").attrs["level"] == "weights"
    ipstore.materialise(copied / "weights")
    assert ipstore.verify(copied / "weights") == []


def test_a_run_that_is_written_is_refused(copied: Path) -> None:
    lease = locate(copied / "weights").lease()
    with pytest.raises(RunLockedError):
        ipstore.materialise(copied / "weights")
    lease.release()


def _exchange_seeds(run: Path) -> None:
    """Put each seed's weights of the output layer in the place of another's, with right checksums."""
    place = locate(run)
    group = GrowingGroup.resume(place)
    values = array(ipstore.open(run), "weights/output").values
    group.epochs = 0
    group.write("weights/output", 0, np.roll(values, 1, axis=1))
    group.flush()
    group.close()
