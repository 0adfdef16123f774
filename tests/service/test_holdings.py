"""What pages draw is read once, as it stands, and as it grows."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import ipstore
from ipstore.analysis import analyze
from ipstore.analysis.service import holdings as holdings_of
from ipstore.analysis.service.holdings import Holdings
from ipstore.errors import StoreNotFoundError
from ipstore.writer import RunWriter
from tests.store.synthetic import make_plan, write_epochs, write_run

PLAN = make_plan("full", shard=4)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs.zarr", PLAN, 8)
    return tmp_path / "runs.zarr"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Epochs of each piece that is read."""
    read: list[int] = []
    compute = xr.Dataset.compute

    def count(self: xr.Dataset, **options: Any) -> xr.Dataset:
        read.append(self.sizes.get("epoch", 1))
        return compute(self, **options)

    monkeypatch.setattr(xr.Dataset, "compute", count)
    return read


def grow(store: Path, epochs: int) -> None:
    writer = RunWriter.resume(store, "run")
    write_epochs(writer, PLAN, epochs)
    writer.finish("finished")
    writer.close()


def stored(store: Path, group: str) -> xr.Dataset:
    return ipstore.open(store, run="run")[group].to_dataset().compute()


def test_it_is_what_is_stored(store: Path) -> None:
    analyze(store, "run", "binned", bins=5, name="mine")
    holdings = Holdings(store)
    assert holdings.result("run", "mine").equals(stored(store, "results/mine"))
    training = holdings.training("run")
    assert training.drop_vars("digest").equals(stored(store, "training"))
    assert holdings.results("run").keys() == {"mine"}
    assert holdings.bytes == training.nbytes + holdings.result("run", "mine").nbytes


def test_what_is_the_same_is_not_read_again(store: Path, computed: list[int]) -> None:
    holdings = Holdings(store)
    first = holdings.training("run")
    lines = holdings.recorded("run", "loss")
    assert computed == [8]
    assert holdings.training("run") is first
    assert holdings.recorded("run", "loss") is lines
    assert computed == [8]


def test_of_what_has_grown_the_rest_is_read(store: Path, computed: list[int]) -> None:
    holdings = Holdings(store)
    lines = holdings.recorded("run", "loss")
    grow(store, 12)
    training = holdings.training("run")
    assert computed[0] == 8
    assert max(computed[1:]) == 4
    assert training.drop_vars("digest").equals(stored(store, "training"))
    assert training.attrs["commit"]["epochs"] == 12
    after = holdings.recorded("run", "loss")
    assert after is not None is not lines
    assert after is not lines


def test_a_run_that_went_back_is_read_anew(store: Path) -> None:
    holdings = Holdings(store)
    before = holdings.training("run").copy(deep=True)
    writer = RunWriter.resume(store, "run")
    writer.take_back(3)
    writer.finish("finished")
    writer.close()
    assert holdings.training("run").sizes["epoch"] == 4
    assert holdings.training("run").equals(before.isel(epoch=slice(4)))


def test_a_run_in_the_place_of_another_is_read_anew(store: Path) -> None:
    holdings = Holdings(store)
    assert holdings.training("run").sizes["seed"] == 3
    shutil.rmtree(store / "run")
    write_run(store, make_plan("full", seeds=2, shard=4), 8)
    assert holdings.training("run").sizes["seed"] == 2
    shutil.rmtree(store / "run")
    with pytest.raises(StoreNotFoundError):
        holdings.training("run")


def test_epochs_of_the_same_number_are_told_apart_by_their_digests() -> None:
    attrs, seed = {"created_at": "then"}, {"seed": [0]}
    longer = xr.Dataset(
        {"loss": ("epoch", [0.5, 0.5, 0.5]), "digest": ("epoch", [1, 2, 3])}, {"epoch": [0, 1, 2], **seed}, attrs
    )
    known = longer.isel(epoch=slice(2))
    other = longer.assign(digest=("epoch", [1, 4, 3]))
    assert holdings_of._continues(known, longer)
    assert not holdings_of._continues(known, other)
    assert not holdings_of._continues(known, longer.drop_vars("digest"))
    assert not holdings_of._continues(known, longer.isel(epoch=slice(1)))


def test_what_was_not_asked_for_longest_goes(store: Path) -> None:
    for run in ("second", "third"):
        write_run(store, PLAN, 8, run=run)
    one = Holdings(store).training("run").nbytes
    holdings = Holdings(store, limit=2 * one)
    first = holdings.training("run")
    holdings.training("second")
    assert holdings.training("run") is first
    holdings.training("third")
    assert holdings.bytes == 2 * one
    assert holdings.training("run") is first


def test_lines_of_what_there_is_not(store: Path) -> None:
    assert Holdings(store).recorded("run", "nothing") is None


def test_means_are_those_of_the_run(store: Path) -> None:
    lines = Holdings(store).recorded("run", "loss")
    assert lines is not None
    loss = stored(store, "training")["loss"].astype(np.float64)
    np.testing.assert_allclose(lines.mean, loss.mean("seed").transpose("epoch", "split"))
    np.testing.assert_allclose(10**lines.place - 1, loss["epoch"], atol=1e-9)
