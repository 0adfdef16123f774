"""``reproduce``: from nothing to pictures and verdicts, and again from the store alone."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ipstore import runs
from ipstore.analysis.reproduction import CLAIMS, PAPER_FIGURES, Evidence, verdict
from ipstore.trainers import carrying_out, experiments
from ipstore.trainers.experiments import Quick
from tests.cli.conftest import ipstore, ipstore_json

FEWER: dict[str, dict[str, Any]] = {
    "rates": {"learning_rate": (0.2, 0.05)},
    "fractions": {"train_fraction": (0.05, 0.45, 0.85)},
    "depths": {"hidden": ((3,), (3, 3, 3, 3, 3))},
    "depths-sgd": {"hidden": ((3,), (3, 3, 3, 3, 3))},
}


@pytest.fixture
def tiny() -> Iterator[None]:
    """Make every experiment of the quick form one that takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        few = [
            replace(each, quick=Quick(5, 40, 12, FEWER.get(each.name, {})))
            for each in experiments.experiments().values()
        ]
        patch.setattr(experiments, "_ALL", few)
        yield


def reproduce(what: str, folder: Path, *words: str, **options: Any) -> Any:
    where = ("--store", folder / "s.zarr", "-o", folder / "out", "--processes", "0")
    return ipstore("reproduce", what, "--quick", *where, *words, **options)


@pytest.mark.usefixtures("tiny")
@pytest.mark.long
def test_one_figure_trains_what_it_needs_and_is_drawn_again_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = reproduce("fig2", tmp_path).stdout
    assert "to train: 5 networks in 1 run, 200 epochs in all" in said
    assert re.search(r"about \d+ min on this machine, then \d+ min or more .*\nabout [\d.]+ [kM]B in ", said)
    assert [info.name for info in runs(tmp_path / "s.zarr")] == ["networks"]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"fig2.png", "fig2.html", "fig2.gif"} <= written
    with Image.open(tmp_path / "out" / "fig2.gif") as film:
        assert film.n_frames > 5  # type: ignore[attr-defined]  # a GifImageFile
    page = (tmp_path / "out" / "fig2.html").read_text()
    stored = Evidence(tmp_path / "s.zarr").run("networks")["epoch"].to_numpy()
    assert all(f'"{epoch}"' in page for epoch in stored)  # on the slider

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(carrying_out, "carry_out", never)
    (tmp_path / "out" / "fig2.png").unlink()
    assert "to train" not in reproduce("fig2", tmp_path).stdout
    assert (tmp_path / "out" / "fig2.png").exists()


@pytest.mark.usefixtures("tiny")
@pytest.mark.long
def test_all_figures_and_claims(tmp_path: Path) -> None:
    folder, where = tmp_path / "out", ("--store", tmp_path / "s.zarr", "-o", tmp_path / "out", "--processes", "0")
    document = ipstore_json("reproduce", "all", "--quick", *where)
    assert all(Path(file).exists() for file in document["files"])
    for name in PAPER_FIGURES:
        assert (folder / f"{name}.png").exists()
    report = json.loads((folder / "claims.json").read_text())
    assert report == document["report"]
    assert [claim["name"] for claim in report["claims"]] == list(CLAIMS)
    evidence = Evidence(tmp_path / "s.zarr")
    for claim in report["claims"]:
        findings = CLAIMS[claim["name"]].find(evidence)
        assert claim["verdict"] == str(verdict(findings))
        assert [each["holds"] for each in claim["findings"]] == [finding.holds for finding in findings]
        assert [each["conditions"] for each in claim["findings"]] == [finding.conditions for finding in findings]
        assert claim["rule"]
        assert claim["measure"]
    page = (folder / "claims.html").read_text()
    assert not re.search(r'(src|href)="(?!#|data:)', page), "the page must hold all it shows"
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert anchors <= set(re.findall(r'id="([^"]+)"', page)), "a link leads nowhere"
    assert anchors == {*PAPER_FIGURES, *CLAIMS}
    table = ipstore("reproduce", "claims", "--quick", *where).stdout
    for claim in report["claims"]:
        assert re.search(re.escape(claim["title"]) + r"\s+" + re.escape(claim["verdict"]), table)


@pytest.mark.long
@pytest.mark.usefixtures("tiny")
def test_what_it_cannot_do_it_says(tmp_path: Path) -> None:
    said = reproduce("fig9", tmp_path, code=2).stderr
    assert all(word in said for word in ("'fig9'", "fig2", "claims", "all"))
    reproduce("fig7", tmp_path)
    where = ("--store", tmp_path / "s.zarr", "-o", tmp_path / "out")
    said = ipstore("reproduce", "fig7", *where, code=2).stderr
    assert all(word in said for word in ("'networks'", "epochs is 40 where 10000 is wanted", "another store"))


@pytest.mark.long
def test_ctrl_c_while_it_trains_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ipstore", "reproduce", "fig2", "--quick", "--store", "s.zarr", "-o", "out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not _committed(tmp_path / "s.zarr"):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    reached = _committed(tmp_path / "s.zarr")
    assert 0 < reached < 3000
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert f"to train: 20 networks in 1 run, {20 * (3000 - reached):,} epochs" in done.stdout
    assert _committed(tmp_path / "s.zarr") == 3000
    assert (tmp_path / "out" / "fig2.png").exists()


def _committed(store: Path) -> int:
    """Last epoch that is committed of the first run; 0 before there is one."""
    if not (store / "zarr.json").exists() or not (found := runs(store)):
        return 0
    commit = found[0].attrs["commit"]
    return Evidence(store).last_epoch(found[0].name) if commit["epochs"] else 0
