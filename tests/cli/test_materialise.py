"""``ipstore materialise``, and what ``info`` says of a run that kept its weights alone."""

from pathlib import Path

import pytest

import ipstore as library
from tests.cli.conftest import ipstore, ipstore_json


@pytest.mark.long
def test_weights_become_activations(tmp_path: Path) -> None:
    store = tmp_path / "runs.zarr"
    capture: list[str | Path] = [
        "capture",
        "rule",
        store,
        "--hidden",
        "3",
        "--epochs",
        "3",
        "--seeds",
        "2",
        "--processes",
        "0",
    ]
    for level in ("weights", "codes"):
        ipstore(*capture, "--run", level, "--level", level)
    assert (
        ipstore_json("info", store / "weights")["activations"] == "rebuilt from the weights when they are read, exactly"
    )
    assert "activations" not in ipstore_json("info", store / "codes")
    (done,) = ipstore_json("materialise", store)["runs"]
    assert (done["run"], done["level"]) == ("weights", "full")
    assert library.verify(store / "weights") == []
    assert "no run of" in ipstore("materialise", store).stdout
    refused = ipstore("materialise", store / "codes", code=2)
    assert "stores its activations already, at level 'codes'" in refused.stderr
