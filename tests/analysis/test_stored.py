"""An analysis is kept in its run, done once, and continued as the run grows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import ipstore
from ipstore.analysis import analyze, information_plane
from ipstore.errors import CorruptionError, ParameterError, RunLockedError, UnknownNameError
from ipstore.writer import RunWriter
from tests.store.synthetic import make_plan, write_epochs, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "store", make_plan("codes", shard=8), 75, status="interrupted")


def ask(run: Path, **options: Any) -> tuple[xr.Dataset, list[int]]:
    """The result, and how many epochs were stored at each step."""
    told: list[int] = []
    result = analyze(run.parent, run.name, **options, on_progress=lambda done, total: told.append(done))
    return result, told


def test_it_is_what_the_lazy_plane_computes(run: Path) -> None:
    stored, _ = ask(run)
    plane = information_plane(ipstore.open(run)).compute()
    assert stored.chunks
    xr.testing.assert_equal(stored.compute(), plane)
    again = ipstore.open(run)[f"results/{stored.attrs['name']}"].to_dataset()
    xr.testing.assert_identical(again.compute(), stored.compute())


def test_provenance(run: Path) -> None:
    attrs = ask(run, bins=10)[0].attrs
    assert attrs["estimator"] == "binned"
    assert attrs["parameters"]["bins"] == 10
    assert attrs["units"] == "bits"
    assert attrs["source_run"] == "run"
    assert attrs["layers"] == ["layer1", "output"]
    assert attrs["ipstore_version"] == ipstore.__version__
    assert attrs["run_created_at"] == ipstore.open(run).attrs["created_at"]
    assert {"created_at", "estimator_version", "labels", "I_XY", "H_X", "commit"} <= attrs.keys()


def test_what_was_done_is_not_done_again(run: Path) -> None:
    first, told = ask(run)
    assert told[0] == 0
    assert told[-1] == 75
    second, told = ask(run)
    assert told == [75]
    assert second.attrs == first.attrs
    _, told = ask(run, again=True)
    assert told[0] == 0


def test_another_question_is_another_result(run: Path) -> None:
    names = {
        ask(run)[0].attrs["name"],
        ask(run, bins=10)[0].attrs["name"],
        ask(run, layers=["output"])[0].attrs["name"],
        ask(run, bins=30)[0].attrs["name"],  # the default
    }
    assert len(names) == 3
    assert set(ipstore.open(run)["results"].children) == names


def test_only_new_epochs_are_computed(run: Path) -> None:
    ask(run)
    writer = RunWriter.resume(run.parent, "run")
    write_epochs(writer, make_plan("codes", shard=8), 90)
    writer.finish("finished")
    writer.close()
    grown, told = ask(run)
    assert told[0] == 75
    assert told[-1] == 90
    xr.testing.assert_equal(grown.compute(), information_plane(ipstore.open(run)).compute())
    assert not ipstore.verify(run)


def test_a_name_that_means_something_else(run: Path) -> None:
    ask(run, name="mine")
    with pytest.raises(ParameterError, match="'mine' is of something else"):
        ask(run, name="mine", bins=10)
    assert ask(run, name="mine", bins=10, again=True)[0].attrs["parameters"]["bins"] == 10
    assert set(ipstore.open(run)["results"].children) == {"mine"}


def test_a_run_that_was_replaced_has_no_results_of_the_old_one(run: Path) -> None:
    ask(run)
    writer = RunWriter.create(run.parent, "run", make_plan("codes", shard=8), 10, overwrite=True)
    write_epochs(writer, make_plan("codes", shard=8), 10)
    writer.finish("finished")
    writer.close()
    assert "results" not in ipstore.open(run).children


def test_damage_is_an_error_and_not_a_seed_that_diverged(run: Path) -> None:
    kept, _ = ask(run)
    chunk = run / "activations/layer1/c.1.2.0.0"
    whole = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(CorruptionError, match=r"layer1/c\.1\.2\.0\.0' is missing.*ipstore verify"):
        ask(run, again=True)
    flipped = bytearray(whole)
    flipped[50] ^= 1
    chunk.write_bytes(flipped)
    with pytest.raises(CorruptionError, match="its checksum does not match"):
        ask(run, again=True)
    chunk.write_bytes(whole)
    xr.testing.assert_identical(ask(run)[0].compute(), kept.compute())
    ask(run, again=True)


def test_two_at_once(run: Path) -> None:
    def second(done: int, total: int) -> None:
        if done < total:
            with pytest.raises(RunLockedError):
                analyze(run.parent, "run")

    analyze(run.parent, "run", on_progress=second)


def test_a_run_without_epochs(tmp_path: Path) -> None:
    RunWriter.create(tmp_path, "run", make_plan(), 4).close()
    with pytest.raises(ParameterError, match="no committed epoch yet"):
        analyze(tmp_path, "run")


def test_an_unknown_run(run: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"no run 'rum'. Did you mean 'run'"):
        analyze(run.parent, "rum")


def test_nan_activations_are_nan_and_the_rest_stands(tmp_path: Path) -> None:
    from tests.store.synthetic import make_block

    plan = make_plan("full", shard=4)
    block = make_block(plan, 0, 4)
    block.arrays["activations/layer1"][2:, 1] = np.nan
    writer = RunWriter.create(tmp_path, "run", plan, 4)
    writer.write(block)
    writer.finish("finished")
    writer.close()
    plane = analyze(tmp_path, "run").compute()
    lost = plane["I_XT"].isnull()
    assert lost.sel(layer="layer1").values.tolist() == [[False] * 3, [False] * 3] + [[False, True, False]] * 2
    assert not lost.sel(layer="output").any()
