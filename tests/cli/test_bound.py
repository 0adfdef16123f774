"""``bound``, and figures of it: they show how the library says that layers stand to the bottleneck, and keep it."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ipstore as library
from ipstore.analysis import analyze_bound, ib
from ipstore.analysis.summaries import summary
from tests.cli.conftest import DIVERGES, TINY, ipstore, ipstore_json

LAYERS = ["layer1", "output"]
COARSE = ("--tol", "0.001")
"""A curve that is quick to compute."""


def test_every_run(store: Path) -> None:
    document = ipstore_json("bound", store, *COARSE)
    assert set(document) == {"store", "bounds", "failures"}
    assert (document["store"], document["failures"]) == (str(store), [])
    assert [each["run"] for each in document["bounds"]] == ["hard", "rule-tanh"]
    for each in document["bounds"]:
        run = library.open(store, run=each["run"])
        assert each["result"] in run["results"].children
        found = run[f"results/{each['result']}"].to_dataset()
        assert found.attrs["about"] == "bound"
        expected = summary(run.ip.self_consistency(tol=1e-3))
        for row, layer in zip(each["layers"], LAYERS, strict=True):
            assert row == {"layer": layer} | {
                name: pytest.approx(array.sel(layer=layer).item(), nan_ok=True) if array.notnull().all() else None
                for name, array in expected.data_vars.items()
            }
        assert each["parameters"] == found.attrs["parameters"]
        assert (each["parameters"]["tol"], each["parameters"]["within"]) == (1e-3, 0.01)
        told = ("estimator", "units", "labels", "I_XY", "H_X", "probe", "every", "onset_beta", "certificate")
        assert {name: each[name] for name in (*told, "curve_error")} == {
            name: found.attrs[name] for name in (*told, "curve_error")
        }
        assert (each["labels_from"], each["labels_name"]) == (None, None)
        assert (each["epochs"], each["first_epoch"], each["last_epoch"]) == (
            found.sizes["epoch"],
            0,
            found["epoch"][-1],
        )
        assert each["seeds_counted"] == each["seeds"] == 2
        curve = {name: ib.curve_of(found)[name].values.tolist() for name in ib.curve_of(found)}
        assert curve["beta"][-1] == np.inf  # of the sufficient statistic, which JSON cannot write
        assert each["curve"] == curve | {"beta": [*curve["beta"][:-1], None]}
        assert each["deterministic_curve"] == {
            name: found[f"deterministic_{name}"].values.tolist() for name in ("H_T", "I_TY")
        }


def test_the_table(store: Path) -> None:
    shown = ipstore("bound", store / "rule-tanh", *COARSE).stdout
    (found,) = ipstore_json("bound", store / "rule-tanh", *COARSE)["bounds"]
    assert "rule-tanh: binned, bins 30, range -1.0..1.0, rule equal\n" in shown
    assert f"soft labels, I(X;Y) = 0.9900 bits; stored as {found['result']}\n" in shown
    assert f"{len(found['curve']['beta'])} points from beta 1.00498 on, proven to 0.0" in shown
    assert "epoch 5; means over 2 seeds" in shown
    for row in found["layers"]:
        numbers = [row[f"end_{name}"] for name in ("I_XT", "I_TY", "residual", "IB_distance_I_XT", "IB_distance_I_TY")]
        numbers += [row[f"end_deterministic_distance_{name}"] for name in ("H_T", "I_TY")]
        assert re.search(rf"^{row['layer']} +" + " +".join(f"{number:.3f}" for number in numbers) + " ", shown, re.M)
    assert max(map(len, shown.splitlines())) <= 120


def test_what_is_stored_is_not_computed_again_and_is_told_by_info(store: Path) -> None:
    words = ("bound", store / "hard", *COARSE)
    (first,) = ipstore_json(*words)["bounds"]
    file = store / "hard" / "results" / first["result"] / "zarr.json"
    made = file.stat().st_ino, file.stat().st_mtime_ns
    assert ipstore_json(*words)["bounds"] == [first]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == made
    assert ipstore_json(*words, "--again")["bounds"] == [first]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) != made
    listed = ipstore_json("info", store / "hard")["results"]
    assert {name: each["parameters"] for name, each in listed.items()} == {first["result"]: first["parameters"]}
    assert re.search(rf"^{first['result']} +binned +bins 30, .*tol 0.001", ipstore("info", store / "hard").stdout, re.M)


@pytest.mark.long
def test_labels_are_those_that_were_asked_for(store: Path) -> None:
    (soft,) = ipstore_json("bound", store / "rule-tanh", *COARSE)["bounds"]
    (hard,) = ipstore_json("bound", store / "rule-tanh", *COARSE, "--labels", "hard")["bounds"]
    assert (hard["labels"], hard["labels_from"]) == ("hard", "hard")
    assert hard["I_XY"] == pytest.approx(0.9991571, abs=1e-7)
    assert hard["curve"]["I_TY"] == pytest.approx(hard["curve"]["I_XT"])
    for row in hard["layers"]:
        assert row["end_IB_distance_I_XT"] == pytest.approx(row["end_I_XT"] - row["end_I_TY"], abs=1e-6)
    shown = ipstore("bound", store / "rule-tanh", *COARSE, "--labels", "hard").stdout
    assert "hard labels in place of those captured, I(X;Y) = 0.9992 bits" in shown
    assert "--information 0.99" in shown  # what to do about a curve that says nothing

    (noisier,) = ipstore_json("bound", store / "hard", *COARSE, "--information", "0.9")["bounds"]
    assert (noisier["labels"], noisier["labels_name"]) == ("soft", "rule:information=0.9")
    assert noisier["I_XY"] == pytest.approx(0.9, abs=1e-12)
    assert noisier["curve"]["I_TY"][-1] == pytest.approx(0.9, abs=1e-9)
    assert len({each["result"] for each in (soft, hard, noisier)}) == 3


def test_another_estimator_and_fewer_layers_and_epochs(store: Path) -> None:
    words = ("--estimator", "quantised:bits=8", "--layers", "output", "--every", "5", "--within", "0.5")
    (found,) = ipstore_json("bound", store / "rule-tanh", *words, *COARSE)["bounds"]
    expected = analyze_bound(store, "rule-tanh", "quantised", layers=["output"], every=5, tol=1e-3, within=0.5, bits=8)
    assert (found["result"], found["estimator"]) == (expected.attrs["name"], "quantised")
    assert found["parameters"] == expected.attrs["parameters"]
    assert [row["layer"] for row in found["layers"]] == ["output"]
    assert (found["every"], found["epochs"]) == (5, 2)
    shown = ipstore("bound", store / "rule-tanh", "--estimator", "discrete", *COARSE).stdout
    assert shown.startswith("rule-tanh: discrete\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "hard", "--estimator", "kde_upper"], "estimator 'kde_upper' does not say which T are equal"),
        (["--estimator", "bined"], "there is no estimator 'bined'. Did you mean 'binned'?"),
        (["--estimator", "binned:bins=10,30"], "bound takes one value of bins; ask once for each of them"),
        (["--estimator", "binned:bin=3"], "estimator 'binned' has no parameter 'bin'"),
        (["--run", "herd"], "there is no run 'herd'. Did you mean 'hard'?"),
        (["--run", "hard", "--estimator", "binned:bins=7"], "the run stores codes of 30 equal bins"),
        (["--run", "hard", "--layers", "layer9"], "there is no layer 'layer9'. Did you mean 'layer1'?"),
        (["--run", "hard", "--every", "0"], "every must be a number of epochs, 1 or more, but got 0"),
        (["--run", "hard", "--tol", "0"], "tol must be a number in (1e-07, 1) but got 0"),
        (["--run", "hard", "--within", "-1"], "within must be a number in "),
        (["--labels", "soft"], "run 'hard' was captured with hard labels, so soft ones need their I(X;Y) too"),
        (["--labels", "hard", "--information", "0.9"], "--information 0.9 is that of soft labels"),
    ],
)
def test_bad_input_is_refused(captured: Path, words: list[str], message: str) -> None:
    failed = ipstore("bound", captured, *words, code=2)
    assert failed.stderr.startswith(f"error: {message}")
    assert failed.stderr.count("\n") == 1
    assert failed.stdout == ""


def test_what_fails_is_reported_and_the_rest_is_done(store: Path) -> None:
    words = ("bound", store, "--estimator", "binned:bins=7", *COARSE)
    failed = ipstore(*words, code=1)
    assert failed.stderr.startswith("error: run 'hard': the run stores codes of 30 equal bins")
    assert failed.stderr.count("\n") == 1
    assert failed.stdout.startswith("rule-tanh: binned, bins 7, ")
    found = ipstore_json(*words, code=1)
    assert [each["run"] for each in found["bounds"]] == ["rule-tanh"]
    (failure,) = found["failures"]
    assert (failure["run"], failure["kind"]) == ("hard", "parameter")
    assert failure["message"].startswith("the run stores codes of 30 equal bins")


def test_what_is_interrupted_goes_on_from_there(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: Any, on_progress: Any, **options: Any) -> Any:
        def stop(done: int, total: int) -> None:
            on_progress(done, total)
            if done:
                raise KeyboardInterrupt

        return analyze_bound(*given, on_progress=stop, **options)

    words = ("bound", store / "hard", *COARSE)
    with monkeypatch.context() as patched:
        patched.setattr("ipstore.analysis.analyze_bound", interrupted)
        error = ipstore_json(*words, code=130)["error"]
    assert error["kind"] == "interrupted"
    assert error["message"] == (
        "interrupted: the epochs of 'hard' that were done are kept; the same command goes on from there"
    )
    (begun,) = library.open(store, run="hard")["results"].children.values()
    assert 0 < begun["beta"].notnull().all(["seed", "layer"]).sum() < 3
    (found,) = ipstore_json(*words)["bounds"]
    assert found["result"] == begun.name
    assert found["epochs"] == 3


def test_a_seed_that_diverged_is_left_out_and_said_so(tmp_path: Path) -> None:
    store = tmp_path / "runs.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        ipstore("capture", "rule:information=0.99", store, *TINY, *DIVERGES)
        shown = ipstore("bound", store, *COARSE)
        (found,) = ipstore_json("bound", store, *COARSE)["bounds"]
    assert shown.stderr.startswith(
        "warning: run 'rule-linear': NaN or infinite activations in layer 'layer1' at epoch "
    )
    assert "All-NaN" not in shown.stderr  # what NumPy says of a median of nothing
    assert "0 of 2 seeds" in shown.stdout
    assert re.search(r"^output( +-){10}$", shown.stdout, re.MULTILINE)
    assert (found["seeds"], found["seeds_counted"]) == (2, 0)
    assert all(value is None for row in found["layers"] for name, value in row.items() if name != "layer")
    assert np.isfinite(found["curve"]["I_TY"]).all()


# Figures ----------------------------------------------------------------------


@pytest.mark.long  # each figure is drawn by the tests of the figures themselves
@pytest.mark.parametrize("figure", ["bound", "beta", "residual"])
def test_figures_of_the_bound_compute_what_they_show(store: Path, tmp_path: Path, figure: str) -> None:
    file = tmp_path / "one.png"
    words = ("plot", store / "rule-tanh", figure, "-o", file, "--every", "5")
    found = ipstore_json(*words)
    ((name, result),) = library.open(store, run="rule-tanh")["results"].children.items()
    assert name.startswith("bound-binned-")
    shows = [{"estimator": "binned", "parameters": result.attrs["parameters"]}]
    assert found == {"figure": figure, "run": "rule-tanh", "shows": shows, "file": str(file)}
    assert file.read_bytes().startswith(b"\x89PNG")
    assert ipstore(*words).stdout == f"{figure} of rule-tanh is in {file}\n"
    (analysed,) = ipstore_json("bound", store / "rule-tanh", "--every", "5")["bounds"]
    assert analysed["result"] == name  # the same question, whoever asks it


@pytest.mark.parametrize("figure", ["plane", pytest.param("snapshots", marks=pytest.mark.long)])
def test_the_curve_goes_under_a_plane(store: Path, tmp_path: Path, figure: str) -> None:
    plain, bounded = tmp_path / "plain.html", tmp_path / "bounded.html"
    words = ("plot", store / "hard", figure, "--information", "0.9", "-o")
    ipstore(*words, plain)
    assert ipstore(*words, bounded, "--bound").stdout == f"{figure} of hard is in {bounded}\n"
    assert "proven" in bounded.read_text()
    assert "proven" not in plain.read_text()
    picture = tmp_path / "bounded.png"
    ipstore(*words, picture, "--bound")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(library.open(store, run="hard")["results"].children) == 1  # the curve is none


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["sensitivity", "--bound", "--estimator", "binned:bins=10,30"],
            "--bound goes under plane, snapshots or converged",
        ),
        (["bound", "--bound"], "--bound goes under plane, snapshots or converged, not under bound"),
        (["bound", "--split", "test"], "the bound is that of all samples, so --split must be all but got 'test'"),
        (["plane", "--bound", "--split", "test"], "the bound is that of all samples, so --split must be all but got "),
        (["beta", "--estimator", "kde_upper"], "estimator 'kde_upper' does not say which T are equal"),
        (["beta", "--estimator", "binned:bins=10,30"], "this figure takes a bound but got 1 plane with a grid of bins"),
        (
            ["residual", "--estimator", "binned", "--estimator", "discrete"],
            "this figure takes a bound but got 2 planes",
        ),
    ],
)
def test_a_figure_that_cannot_be_drawn(captured: Path, tmp_path: Path, words: list[str], message: str) -> None:
    file = tmp_path / "x.png"
    failed = ipstore("plot", captured / "rule-tanh", *words, "-o", file, code=2)
    assert failed.stderr.startswith(f"error: {message}")
    assert not file.exists()


def test_figures_of_the_bound_are_listed() -> None:
    takes = {each["name"]: each["takes"] for each in ipstore_json("figures")["figures"]}
    assert [name for name in takes if takes[name] == "a bound"] == ["bound", "beta", "residual"]
