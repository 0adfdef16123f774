"""``analyze``, ``plot`` and ``estimators``: they show what the library computes, and keep it."""

import json
import re
import warnings
from pathlib import Path

import pytest

import ipstore as library
from ipstore.analysis.estimators import get
from ipstore.analysis.summaries import summary
from tests.cli.conftest import DIVERGES, TINY, ipstore, ipstore_json

LAYERS = ["layer1", "output"]


def test_every_run_under_every_estimator(store: Path) -> None:
    found = ipstore_json("analyze", store, "--estimator", "binned", "--estimator", "binned:bins=10")["analyses"]
    assert [(each["run"], each["parameters"]["bins"]) for each in found] == [
        ("hard", 30),
        ("hard", 10),
        ("rule-tanh", 30),
        ("rule-tanh", 10),
    ]
    for each in found:
        run = library.open(store, run=each["run"])
        expected = summary(run.ip.information_plane("binned", bins=each["parameters"]["bins"]))
        assert each["result"] in run["results"].children
        assert each["units"] == "bits"
        assert each["labels"] == ("hard" if each["run"] == "hard" else "soft")
        assert each["seeds_counted"] == each["seeds"] == 2
        for row, layer in zip(each["layers"], LAYERS, strict=True):
            numbers = {name: array.sel(layer=layer).item() for name, array in expected.data_vars.items()}
            assert row == {"layer": layer} | {
                name: None if value != value else value for name, value in numbers.items()
            }


def test_the_table(store: Path) -> None:
    shown = ipstore("analyze", store / "rule-tanh").stdout
    (found,) = ipstore_json("analyze", store, "--run", "rule-tanh")["analyses"]
    assert "rule-tanh: binned, bins 30, range -1.0..1.0, rule equal, correction plugin\n" in shown
    assert f"soft labels, I(X;Y) = 0.9900 bits; stored as {found['result']}\n" in shown
    counted = "6 epochs, 0 to 5; mean over 2 seeds, too few for an interval; bits (I_XT exact, I_TY exact)\n"
    assert counted in shown
    for row in found["layers"]:
        x = f"{row['end_I_XT']:.3f} +- +{row['drop']:.3f}"
        y = f"{row['end_I_TY']:.3f} +-"
        assert re.search(rf"{row['layer']} +{row['peak_I_XT']:.3f} +{row['peak_epoch']} +{x} +{y}", shown)


def test_what_is_stored_is_not_computed_again(store: Path) -> None:
    words = ("analyze", store / "hard")
    (first,) = ipstore_json(*words)["analyses"]
    file = store / "hard" / "results" / first["result"] / "zarr.json"
    made = file.stat().st_ino, file.stat().st_mtime_ns
    assert ipstore_json(*words)["analyses"] == [first]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == made
    assert ipstore_json(*words, "--again")["analyses"] == [first]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) != made


def test_chosen_layers(store: Path) -> None:
    (found,) = ipstore_json("analyze", store / "hard", "--layers", "output")["analyses"]
    assert [row["layer"] for row in found["layers"]] == ["output"]


def test_a_seed_that_diverged_is_left_out_and_said_so(tmp_path: Path) -> None:
    store = tmp_path / "runs.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        ipstore("capture", "rule", store, *TINY, *DIVERGES)
        shown = ipstore("analyze", store)
    assert "mean over 0 of 2 seeds (the others have NaN)" in shown.stdout
    assert shown.stderr.startswith(
        "warning: run 'rule-linear': NaN or infinite activations in layer 'layer1' at epoch "
    )
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        (found,) = ipstore_json("analyze", store)["analyses"]
    assert found["seeds_counted"] == 0
    assert found["layers"][0]["end_I_XT"] is None
    assert found["layers"][0]["peak_epoch"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--estimator", "bined"], "there is no estimator 'bined'. Did you mean 'binned'?"),
        (["--estimator", "binned:bins=0"], "bins must be an integer in [1, 65535] but got '0'"),
        (["--estimator", "binned:bin=3"], "estimator 'binned' has no parameter 'bin'"),
        (["--layers", "layer9"], "there is no layer 'layer9'. Did you mean 'layer1'?"),
        (["--run", "herd"], "there is no run 'herd'. Did you mean 'hard'?"),
        (["--run", "hard", "--estimator", "binned:bins=7"], "the run stores codes of 30 equal bins"),
        (["--split", "validation"], "split must be one of 'all', 'train', 'test' but got 'validation'"),
        (["--every", "0"], "every must be a number of epochs, 1 or more, but got 0"),
    ],
)
def test_bad_input_is_refused(captured: Path, words: list[str], message: str) -> None:
    failed = ipstore("analyze", captured, *words, code=2)
    assert failed.stderr.startswith(f"error: {message}")
    assert failed.stdout == ""


def test_what_fails_is_reported_and_the_rest_is_done(store: Path) -> None:
    words = ("analyze", store, "--estimator", "binned:bins=7", "--estimator", "binned:bins=10")
    failed = ipstore(*words, code=1)
    assert failed.stderr.startswith("error: run 'hard', binned: the run stores codes of 30 equal bins")
    assert failed.stderr.count("\n") == 1
    assert re.findall(r"^(\S+): binned, bins (\d+)", failed.stdout, re.MULTILINE) == [
        ("hard", "10"),
        ("rule-tanh", "7"),
        ("rule-tanh", "10"),
    ]
    found = ipstore_json(*words, code=1)
    assert len(found["analyses"]) == 3
    (failure,) = found["failures"]
    assert {name: failure[name] for name in ("run", "estimator", "kind")} == {
        "run": "hard",
        "estimator": "binned",
        "kind": "parameter",
    }


def test_a_grid(store: Path) -> None:
    (found,) = ipstore_json("analyze", store / "hard", "--estimator", "binned:bins=6,30")["analyses"]
    assert found["grid"] == ["bins"]
    assert found["parameters"]["bins"] == [6, 30]
    assert [(row["bins"], row["layer"]) for row in found["layers"]] == [
        (bins, layer) for bins in (6, 30) for layer in LAYERS
    ]
    shown = ipstore("analyze", store / "hard", "--estimator", "binned:bins=6,30").stdout
    assert "hard: binned, bins 6,30, range -1.0..1.0, " in shown
    for row in found["layers"]:
        assert re.search(rf"^ *{row['bins']} +{row['layer']} +{row['peak_I_XT']:.3f} ", shown, re.MULTILINE)


def test_a_part_of_the_probe_and_the_networks_answer(store: Path) -> None:
    words = ("analyze", store / "rule-tanh", "--layers", "output", "--split", "test", "--target", "output")
    (found,) = ipstore_json(*words)["analyses"]
    assert (found["split"], found["target"], found["labels"], found["I_XY"]) == ("test", "output", "output", None)
    (row,) = found["layers"]
    assert "end_I_XT" not in row
    plane = library.open(store, run="rule-tanh").ip.information_plane(split="test", target="output", layers=["output"])
    assert row["end_I_TY"] == summary(plane)["end_I_TY"].item()
    assert "Y is the network's own answer, test samples only; stored as" in ipstore(*words).stdout


@pytest.mark.long
def test_labels_are_those_that_were_asked_for(tmp_path: Path) -> None:
    store = tmp_path / "runs.zarr"
    for name, task in (("soft", "rule:information=0.99"), ("certain", "rule")):  # the same networks: y is the same
        ipstore("capture", task, store, *TINY, "--run", name)
    (soft,) = ipstore_json("analyze", store / "soft")["analyses"]
    (certain,) = ipstore_json("analyze", store / "certain")["analyses"]
    assert (
        (soft["labels_from"], soft["labels_name"]) == (certain["labels_from"], certain["labels_name"]) == (None, None)
    )

    (found,) = ipstore_json("analyze", store / "soft", "--labels", "hard")["analyses"]
    assert found["layers"] == certain["layers"]
    assert (found["labels"], found["labels_from"], found["I_XY"]) == ("hard", "hard", certain["I_XY"])
    assert found["result"] != soft["result"]
    shown = ipstore("analyze", store / "soft", "--labels", "hard").stdout
    assert f"hard labels in place of those captured, I(X;Y) = 0.9992 bits; stored as {found['result']}\n" in shown

    (noisier,) = ipstore_json("analyze", store / "certain", "--information", "0.9", "--labels", "soft")["analyses"]
    assert noisier["labels"] == "soft"
    assert noisier["I_XY"] == pytest.approx(0.9, abs=1e-12)
    assert noisier["labels_name"] == "rule:information=0.9"
    ipstore("capture", "rule:information=0.9", store, *TINY, "--run", "noisier")
    (captured,) = ipstore_json("analyze", store / "noisier")["analyses"]
    assert noisier["layers"] == captured["layers"]
    shown = ipstore("analyze", store, "--information", "0.9").stdout
    told = "soft labels of rule:information=0.9 in place of those captured, I(X;Y) = 0.9000 bits"
    assert shown.count(told) == 2  # and once as captured

    for asked in (["--labels", "soft"], ["--information", "0.99"], ["--labels", "soft", "--information", "0.99"]):
        assert ipstore_json("analyze", store / "soft", *asked)["analyses"] == [soft]
    assert ipstore_json("analyze", store / "certain", "--labels", "hard")["analyses"] == [certain]
    assert set(library.open(store, run="soft")["results"].children) == {
        soft["result"],
        found["result"],
        noisier["result"],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "firm"], "--labels must be soft or hard but got 'firm'"),
        (
            ["--labels", "soft"],
            "run 'hard' was captured with hard labels, so soft ones need their I(X;Y) too: --inform",
        ),
        (
            ["--labels", "hard", "--information", "0.9"],
            "--information 0.9 is that of soft labels, but --labels is hard",
        ),
        (["--information", "1.2"], "information must lie in (0, 0.99916) bits but got 1.2"),
        (["--information", "nan"], "task 'rule' cannot take {'information': nan}: "),
        (
            ["--labels", "hard", "--target", "output"],
            "labels say what Y is when target is 'labels', but it is 'output'",
        ),
    ],
)
def test_labels_that_cannot_be_had(captured: Path, words: list[str], message: str) -> None:
    failed = ipstore("analyze", captured, *words, code=2)
    assert failed.stderr.startswith(f"error: {message}")
    assert failed.stdout == ""


def test_labels_of_a_task_are_taken_for_its_own_inputs_alone(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipstore.trainers import tasks

    task = tasks.load("rule", information=0.9, signed=True)
    with monkeypatch.context() as changed:
        changed.setattr(tasks, "load", lambda name, **params: task)
        failed = ipstore("analyze", store / "hard", "--information", "0.9", code=2)
    assert failed.stderr.startswith("error: run 'hard' holds other inputs than rule:information=0.9, so its labels do")
    document = store / "hard" / "zarr.json"
    written = json.loads(document.read_bytes())
    written["attributes"]["task"] = "package.module:factory"
    document.write_text(json.dumps(written))
    failed = ipstore("analyze", store / "hard", "--information", "0.9", code=2)
    assert (
        "(digits, rule), but run 'hard' was captured on 'package.module:factory'; give p(y|x) in Python"
        in failed.stderr
    )


def test_some_epochs(store: Path) -> None:
    (found,) = ipstore_json("analyze", store / "rule-tanh", "--every", "2")["analyses"]
    assert (found["every"], found["epochs"]) == (2, 3)


def test_one_run_is_named_once(captured: Path) -> None:
    failed = ipstore("analyze", captured / "hard", "--run", "rule-tanh", code=2)
    assert "names a run, and --run rule-tanh another" in failed.stderr


def test_an_empty_store_has_nothing_to_analyse(tmp_path: Path) -> None:
    from ipstore.format import make_store

    make_store(tmp_path / "runs.zarr")
    assert "holds no run yet" in ipstore("analyze", tmp_path / "runs.zarr", code=1).stderr


# plot -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "suffix", "starts"),
    [
        ("plane", ".png", b"\x89PNG"),
        ("plane", ".html", b"\n<!DOCTYPE html>"),
        ("snapshots", ".svg", b"<?xml"),
        pytest.param("snapshots", ".gif", b"GIF89a", marks=pytest.mark.long),
    ],
)
def test_a_figure_is_written_and_its_analysis_made_first(
    store: Path, tmp_path: Path, figure: str, suffix: str, starts: bytes
) -> None:
    file = tmp_path / "figures" / f"one{suffix}"
    shown = ipstore("plot", store / "rule-tanh", figure, "-o", file, "--estimator", "binned:bins=12").stdout
    assert shown == f"{figure} of rule-tanh is in {file}\n"
    assert file.read_bytes().lstrip().startswith(starts.lstrip())
    (result,) = library.open(store, run="rule-tanh")["results"].children.values()
    assert result.attrs["parameters"]["bins"] == 12


def test_a_figure_shows_the_labels_that_were_asked_for(store: Path, tmp_path: Path) -> None:
    words = ("plot", store / "hard", "plane", "-o", tmp_path / "one.html", "--information", "0.9")
    ipstore(*words)
    (result,) = library.open(store, run="hard")["results"].children.values()
    assert result.attrs["labels_name"] == "rule:information=0.9"
    assert "soft labels, I(X;Y) = 0.900 bits" in (tmp_path / "one.html").read_text()
    ipstore(*words[:-2], "--labels", "hard")
    assert len(library.open(store, run="hard")["results"].children) == 2


def test_json_of_a_figure(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.png"
    found = ipstore_json("plot", store, "plane", "-o", file, "--run", "hard")
    (analysis,) = ipstore_json("analyze", store / "hard")["analyses"]
    shows = [{"estimator": "binned", "parameters": analysis["parameters"]}]
    assert found == {"figure": "plane", "run": "hard", "shows": shows, "file": str(file)}


@pytest.mark.long
def test_figures_of_several_estimators(store: Path, tmp_path: Path) -> None:
    from ipstore.analysis.figures import FIGURES

    listed = {each["name"]: each for each in ipstore_json("figures")["figures"]}
    assert set(listed) == set(FIGURES)
    table = ipstore("figures").stdout
    for name, each in listed.items():
        assert re.search(rf"^ *{name} +{re.escape(each['summary'])} +{each['takes']} ", table, re.MULTILINE)
    file = tmp_path / "one.png"
    words = ("plot", store / "rule-tanh", "compare", "-o", file, "--every", "5")
    found = ipstore_json(*words, "--estimator", "binned:bins=10,20", "--estimator", "kde_upper:noise=0.01")
    assert [each["estimator"] for each in found["shows"]] == ["binned", "kde_upper"]
    assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plane", "-o", "x.png"], "a figure shows one run: name it with --run, one of hard, rule-tanh"),
        (["plan", "-o", "x.png", "--run", "hard"], "there is no figure 'plan'. Did you mean 'plane'?"),
        (
            ["plane", "-o", "x.pdf", "--run", "hard"],
            "a figure is written as .html, .png or .svg, or as a film, .gif or .mp4",
        ),
        (
            ["sensitivity", "-o", "x.png", "--run", "hard", "--estimator", "binned"],
            "this figure takes one plane with a",
        ),
    ],
)
def test_a_figure_that_cannot_be_drawn(store: Path, words: list[str], message: str) -> None:
    assert ipstore("plot", store, *words, code=2).stderr.startswith(f"error: {message}")


def test_a_figure_of_what_codes_cannot_answer(store: Path) -> None:
    failed = ipstore("plot", store / "hard", "bounds", "-o", "x.png", code=1)
    assert failed.stderr.startswith("error: estimator 'kde_lower' needs activations but layer 'layer1' stores codes")


def test_a_figure_that_cannot_be_written(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "one.png"
    failed = ipstore("plot", store / "hard", "plane", "-o", target, code=1)
    assert failed.stderr.startswith(f"error: cannot write '{target}': ")


# estimators -------------------------------------------------------------------


def test_estimators_are_listed_with_all_that_they_declare() -> None:
    listed = {each["name"]: each for each in ipstore_json("estimators")["estimators"]}
    binned = get("binned")
    assert listed["binned"]["kind"] == binned.kind
    assert listed["binned"]["reference"] == binned.reference
    assert listed["binned"]["quantities"][0] == {"name": "I_XT", "units": "bits", "kind": "exact"}
    assert listed["knn"]["refuses"]["I_XT"]
    assert listed["binned"]["parameters"] == json.loads(
        json.dumps(
            [
                {
                    "name": parameter.name,
                    "description": parameter.description,
                    "allowed": parameter.allowed,
                    "optional": parameter.optional,
                    "default": binned.defaults[parameter.name],
                }
                for parameter in binned.parameters
            ]
        )
    )
    table = ipstore("estimators").stdout
    for name, each in listed.items():
        assert re.search(rf"^ *{name} +{each['kind']} +(I_XT )?I_TY +{re.escape(each['summary'])}", table, re.MULTILINE)
    shown = ipstore("estimators", "binned", "knn").stdout
    for text in (binned.summary, binned.reference, "I_XT, I_TY, H_T, n_cells", "an integer in [1, 65535]", "'idnns'"):
        assert text in shown
    assert "does not give I_XT, because " in shown
