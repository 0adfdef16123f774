"""What a release of ipstore wrote, every later one reads, continues and analyses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ipstore
from ipstore.analysis import analyze
from ipstore.trainers import resume
from tests.store.synthetic import array

STORES = sorted(path for path in (Path(__file__).parent.parent / "data" / "stores").iterdir() if path.is_dir())
LEVELS = ["codes", "full", "half", "weights"]

LOSS = 0.5400543808937073  # training loss of seed 3 at epoch 6, as 0.1.0 gave it
LAYER1 = {  # of seed 5 at epoch 6, the last sample
    "full": [-0.48007717728614807, 0.0006901248125359416, -0.09938906878232956],
    "half": [-0.47998046875, 0.0006899833679199219, -0.099365234375],
    "codes": [7, 15, 13],
}
I_XT = [[4, 0.8112781244591328], [4, 0.8112781244591328]]  # log2(16); the entropy of (1/4, 3/4)

pytestmark = pytest.mark.parametrize("release", STORES, ids=lambda path: path.name)


def test_every_run_is_whole(release: Path) -> None:
    assert [(run.name, run.status) for run in ipstore.runs(release)] == [(level, "finished") for level in LEVELS]
    for level in LEVELS:
        assert ipstore.verify(release / level) == []


def test_they_hold_what_they_held(release: Path) -> None:
    store = ipstore.open(release)
    for level in LEVELS:
        assert array(store, f"{level}/epoch").values.tolist() == list(range(7))
        assert array(store, f"{level}/seed").values.tolist() == [3, 5]
        assert array(store, f"{level}/training/loss")[-1, 0, 0].values == pytest.approx(LOSS, rel=1e-6)
        assert array(store, f"{level}/activations/layer1").dims == ("epoch", "seed", "sample", "layer1_unit")
    for level, values in LAYER1.items():
        assert array(store, f"{level}/activations/layer1")[6, 1, 15].values.tolist() == pytest.approx(values, rel=1e-7)
    # Computed anew, perhaps on another processor than captured them.
    rebuilt, stored = (array(store, f"{level}/activations/layer1") for level in ("weights", "full"))
    np.testing.assert_allclose(rebuilt.values, stored.values, atol=1e-5)


def test_results_stand_and_come_out_the_same(release: Path, tmp_path: Path) -> None:
    stored = ipstore.open(release, run="full")["results/ten-bins"].to_dataset()
    np.testing.assert_allclose(stored["I_XT"].values[-1], I_XT, rtol=1e-12)
    assert stored.attrs["estimator"] == "binned"
    assert {"beta", "residual", "curve_I_XT"} <= set(ipstore.open(release, run="full")["results/bound"].data_vars)
    shutil.copytree(release, tmp_path / "runs")
    again = analyze(tmp_path / "runs", "full", "binned", bins=10, name="anew")
    for name in ("I_XT", "I_TY"):
        xr.testing.assert_allclose(again[name], stored[name], rtol=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_they_can_be_continued(release: Path, tmp_path: Path, level: str) -> None:
    shutil.copytree(release, tmp_path / "runs")
    before = ipstore.open(release, run=level)
    after = resume(tmp_path / "runs", level, epochs=10, processes=0)
    assert array(after, "epoch").values.tolist() == list(range(11))
    np.testing.assert_array_equal(array(after, "training/loss")[:7], array(before, "training/loss"))
    assert ipstore.verify(tmp_path / "runs" / level) == []
    analyze(tmp_path / "runs", level, "binned")
