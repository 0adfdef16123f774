"""``ipstore capture`` of lists: every combination is captured, and goes on where it was broken off."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from ipstore.reader import open_run, run_info, runs
from ipstore.trainers.sweeps import sweep_runs
from tests.cli.conftest import DIVERGES, TINY, ipstore, ipstore_json
from tests.cli.test_capture import assert_same, read_until, terminal

__all__ = ["terminal"]

LISTS = ("--hidden", "3,none", "--train-fraction", "0.25,0.5")
NAMES = [f"s-hidden={hidden}-train_fraction={fraction}" for hidden in ("3", "none") for fraction in ("0.25", "0.5")]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a sweep of four runs; for reading only."""
    store = tmp_path_factory.mktemp("swept") / "runs.zarr"
    ipstore("capture", "rule", store, "--run", "s", *TINY, *LISTS)
    return store


@pytest.fixture
def store(swept: Path, tmp_path: Path) -> Path:
    """A copy, to be written into."""
    return Path(shutil.copytree(swept, tmp_path / "runs.zarr"))


def test_lists_are_a_sweep(tmp_path: Path) -> None:
    store = tmp_path / "runs.zarr"
    found = ipstore_json("capture", "rule", store, "--run", "s", *TINY, *LISTS)
    assert found.pop("seconds") > 0
    assert {key: value for key, value in found.items() if key != "runs"} == {
        "store": str(store),
        "sweep": "s",
        "axes": {"hidden": [[3], []], "train_fraction": [0.25, 0.5]},
    }
    assert [run["run"] for run in found["runs"]] == NAMES
    for run in found["runs"]:
        attrs = run_info(store / run["run"]).attrs
        assert attrs["config"] | run["at"] == attrs["config"], "it was trained with what it says"
        alone = ipstore_json(
            *("capture", "rule", tmp_path / "alone.zarr", "--run", run["run"], *TINY),
            *("--hidden", "3" if run["at"]["hidden"] else "none", "--train-fraction", run["at"]["train_fraction"]),
        )
        expected = {key: value for key, value in alone.items() if key not in ("seconds", "store", "stored_bytes")}
        assert run.items() >= expected.items()
        assert_same(open_run(store / run["run"]), open_run(tmp_path / "alone.zarr" / run["run"]))
    listed = ipstore_json("runs", store)["runs"]
    assert {run["run"]: run["sweep"]["at"] for run in listed} == {run["run"]: run["at"] for run in found["runs"]}
    shown = ipstore("info", store / NAMES[1]).stdout
    assert re.search(r"^sweep +s, at hidden 3, train_fraction 0\.5$", shown, re.MULTILINE)


def test_the_report_is_one_line_a_run(store: Path) -> None:
    done = ipstore("capture", "rule", store, "--run", "s", "--resume", "--epochs", "3", "--processes", "0").stdout
    facts, table = done.split("\n\n")
    told = dict(re.split(r"  +", line, maxsplit=1) for line in facts.splitlines())
    assert told["sweep"] == f"s in {store}, 4 runs"
    assert (told["hidden"], told["train_fraction"]) == ("3, none", "0.25, 0.5")
    assert (told["epochs"], told["seeds"]) == ("3 (4 captured)", "2 (0-1)")
    assert re.fullmatch(r"\d+\.\d s", told["time"])
    rows = [re.split(r"  +", line) for line in table.splitlines()]
    assert [cell for cell in rows[0] if cell] == ["run", "on disk", "test accuracy"]
    assert [row[0] for row in rows[2:]] == NAMES
    assert all(re.fullmatch(r"0\.\d{4}", row[-1]) for row in rows[2:])


def test_one_value_is_a_run_as_before(tmp_path: Path) -> None:
    found = ipstore_json("capture", "rule", tmp_path, *TINY, "--train-fraction", "0.5")
    assert found["run"] == "rule-tanh"
    assert "sweep" not in run_info(tmp_path / "rule-tanh").attrs


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("--activation", "tanh,relu"), "rule-activation=tanh"),
        (("--init", "truncated_normal,xavier_uniform"), "rule-tanh-init=truncated_normal"),
    ],
)
def test_a_sweep_has_a_name_by_default(tmp_path: Path, words: tuple[str, ...], name: str) -> None:
    assert ipstore_json("capture", "rule", tmp_path, *TINY, *words)["runs"][0]["run"] == name


@pytest.mark.long
def test_a_file_may_list_values(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        'run = "s"\nhidden = [[4, 3], []]\nbatch_size = ["full", 512]\nlearning_rate = [0.1, 0.5]\n'
        'activation = ["tanh"]\nepochs = 1\nseeds = 2\nlevel = "weights"\n'
    )
    words = ("capture", "rule", tmp_path / "runs.zarr", "--config", file, "--learning-rate", "0.25", "--processes", "0")
    found = ipstore_json(*words, environment={"IPSTORE_CAPTURE_TRAIN_FRACTION": "0.5, 0.75"})
    assert found["axes"] == {"hidden": [[4, 3], []], "batch_size": [None, 512], "train_fraction": [0.5, 0.75]}
    assert found["runs"][0]["run"] == "s-hidden=4-3-batch_size=full-train_fraction=0.5"


def test_seeds_that_diverge_are_told(tmp_path: Path) -> None:
    words = ("capture", "rule", tmp_path, "--run", "s", *TINY, *DIVERGES, "--learning-rate", "0.1,1e20")
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # the command prints them
        done = ipstore(*words)
    assert done.stderr.startswith("warning: run 's-learning_rate=1e+20': the loss of 2 of 2 seeds is not finite")
    assert done.stderr.count("\n") == 1
    shown = done.stdout
    well, lost = (line.rstrip() for line in shown.splitlines()[-2:])
    assert re.search(r" 0\.\d{4}$", well)
    assert re.search(r" - +0-1$", lost)
    assert "diverged seeds" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--activation", "tanh,tahn"], "there is no activation 'tahn'. Did you mean 'tanh'?"),
        (
            ["--activation", "tanh,"],
            "--activation has one value, or several with a comma between them, but got 'tanh,'",
        ),
        (["--train-fraction", "0.5,,0.7"], "--train-fraction has one value, or several with a comma between them"),
        (["--train-fraction", "0.5,x"], "--train-fraction is a number, such as 0.2, but got 'x'"),
        (["--train-fraction", "0.5,2"], "train_fraction must lie in (0, 1] but got 2.0"),
        (["--learning-rate", "0.5,.5"], "axis 'learning_rate' of sweep 's' has the value 0.5 twice; give each once"),
        (["--hidden", "3,4,3-x"], "--hidden is written 10-7-5-4-3, or none for no hidden layer, but got '3-x'"),
        (["--batch-size", "512,all"], "--batch-size is a number of samples, or full, but got 'all'"),
        (["--hidden", "3,4", "--part", "a"], "--part goes with one run, but --hidden has several values: capture each"),
        (
            ["--activation", "tanh,sigmoid", "--level", "codes", "--bins", "9"],
            "the ranges of tanh, sigmoid activations differ, so --bins needs a --range for all",
        ),
        (
            ["--activation", "tanh,relu", "--level", "codes", "--bins", "9"],
            "relu activations have no bound, so --bins needs a --range",
        ),
        (["--hidden", "3,4", "--run", "s" * 125], "run names are 1 to 128 letters"),
        (["--epochs", "1,2"], None),
    ],
)
def test_bad_lists_are_refused_before_anything_is_made(tmp_path: Path, words: list[str], message: str | None) -> None:
    failed = ipstore("capture", "rule", tmp_path / "runs.zarr", "--run", "s", *words, code=2)
    if message is not None:
        assert failed.stderr.startswith(f"error: {message}")
        assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "runs.zarr").exists()


def test_bins_are_those_of_all_runs(tmp_path: Path) -> None:
    words = ("--activation", "tanh,hard_tanh", "--level", "codes", "--bins", "9")
    found = ipstore_json("capture", "rule", tmp_path, *TINY, *words)
    for run in found["runs"]:
        assert run_info(tmp_path / run["run"]).attrs["binning"] == {"rule": "equal", "bins": 9, "range": [-1, 1]}


def test_what_exists_is_replaced_only_when_asked(store: Path) -> None:
    before = [info.attrs for info in runs(store)]
    failed = ipstore_json("capture", "rule", store, "--run", "s", *TINY, *LISTS, code=1)["error"]
    assert failed["kind"] == "exists"
    assert "4 runs of sweep 's' exist already" in failed["message"]
    assert "--overwrite" in failed["message"]
    failed = ipstore_json("capture", "rule", store, "--run", "s", *TINY, "--overwrite", code=1)["error"]
    assert failed["message"] == f"a sweep 's' exists already in '{store}': choose another name for the run"
    assert [info.attrs for info in runs(store)] == before
    ipstore("capture", "rule", store, "--run", "s", *TINY, "--hidden", "3,4", "--overwrite")
    assert [info.name for info in runs(store)] == ["s-hidden=3", "s-hidden=4"]


# Continuing a sweep ----------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--epochs", "2")])
def test_a_complete_sweep_stays_as_it_is(swept: Path, words: tuple[str, ...]) -> None:
    before = runs(swept)
    done = ipstore("capture", "rule", swept, "--run", "s", "--resume", *words)
    assert done.stdout.startswith("sweep 's' is complete already, to epoch 2; more --epochs would extend it\n")
    assert ipstore_json("capture", "rule", swept, "--run", "s", "--resume")["seconds"] is None
    assert runs(swept) == before


def test_one_run_of_it_is_continued_by_its_name(store: Path) -> None:
    words = ("capture", "rule", store, "--run", NAMES[1], "--resume", "--epochs", "3", "--processes", "0")
    assert ipstore_json(*words)["epochs"] == 3
    found = ipstore_json("capture", "rule", store, "--run", "s", "--resume", "--processes", "0")
    assert [run["epochs"] for run in found["runs"]] == [3] * 4


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["rule:signed=true"], 2, "sweep 's' was captured on rule, but got rule:signed=true: give that task, or name"),
        (["rule", "--epochs", "1"], 1, f"run '{NAMES[0]}' is stored to epoch 2, so sweep 's' cannot end at 1"),
        (["rule", "--hidden", "3,none"], 2, "--hidden does not go with --resume: a run is continued with"),
        (["rule", "--run", "S"], 2, "there is no run 'S'."),
        (["rule", "--run", "../s"], 2, "run names are 1 to 128 letters"),
    ],
)
def test_a_sweep_that_cannot_be_continued_so(swept: Path, words: list[str], code: int, message: str) -> None:
    words = [words[0], str(swept), "--run", "s", "--resume", *words[1:]]
    assert ipstore("capture", *words, code=code).stderr.startswith(f"error: {message}")


SETTINGS = (
    "--hidden",
    "3,4",
    "--activation",
    "tanh,relu",
    "--seeds",
    "2",
    "--level",
    "weights",
    "--batch-size",
    "full",
)


def begin(store: Path, terminal: tuple[int, int], until: str, *words: str) -> "tuple[subprocess.Popen[str], str]":
    """Capture a sweep in a process before a terminal, which shows what is waited for."""
    ours, theirs = terminal
    command = [sys.executable, "-m", "ipstore", "capture", "rule", str(store), "--run", "s", *SETTINGS, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, start_new_session=True)
    os.close(theirs)
    try:
        return process, read_until(ours, until)
    except BaseException:
        process.kill()
        raise


def assert_whole(store: Path, epochs: int) -> None:
    """The store holds what a sweep to so many epochs that was never broken off would."""
    whole = store.parent / "whole.zarr"
    ipstore("capture", "rule", whole, "--run", "s", *SETTINGS, "--epochs", str(epochs), "--processes", "0")
    assert [info.name for info in runs(store)] == [info.name for info in runs(whole)]
    for info in runs(whole):
        assert_same(open_run(store / info.name), open_run(whole / info.name))


@pytest.mark.long
def test_ctrl_c_says_how_the_sweep_goes_on(tmp_path: Path, terminal: tuple[int, int]) -> None:
    store = tmp_path / "runs.zarr"
    until = r"s 2/4: 3, relu .* [1-9][\d,]*/2,404 +[\d,]+ epochs/s"
    process, shown = begin(store, terminal, until, "--epochs", "600", "--processes", "2", "--json")
    try:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        stdout, _ = process.communicate()
        shown += read_until(terminal[0], r"--resume")
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in shown
    error = json.loads(stdout)["error"]
    assert (error["kind"], error["sweep"], error["run"]) == ("interrupted", "s", "s-hidden=3-activation=relu")
    assert error["complete"] == ["s-hidden=3-activation=tanh"]
    assert error["resume"] == f"ipstore capture rule {store} --run s --resume"
    assert error["message"] == (
        "interrupted: 1 of 4 runs of sweep 's' are complete, and run 's-hidden=3-activation=relu' is committed to "
        f"epoch {error['epoch']} of 600. Continue it with\n  {error['resume']}"
    )
    begun = sweep_runs(store, "s")
    assert {run: info.status for run, info in begun.items()} == {
        "s-hidden=3-activation=tanh": "finished",
        "s-hidden=3-activation=relu": "interrupted",
    }
    assert len(ipstore_json(*error["resume"].split()[1:], "--processes", "0")["runs"]) == 4
    assert_whole(store, 600)


@pytest.mark.long
@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_killed_sweep_resumes_bit_for_bit(tmp_path: Path, terminal: tuple[int, int], number: int) -> None:
    store = tmp_path / "runs.zarr"
    until = rf"s {number}/4: [34], \w+ .* [1-9][\d,]*/2,404 +[\d,]+ epochs/s"
    process, _ = begin(store, terminal, until, "--epochs", "600", "--processes", "0")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(sweep_runs(store, "s")) == number
    found = ipstore_json("capture", "rule", store, "--run", "s", "--resume", "--processes", "0")
    assert [run["epochs"] for run in found["runs"]] == [600] * 4
    assert_whole(store, 600)
