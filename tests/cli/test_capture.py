"""``ipstore capture``: what is asked for is what is trained and stored; a run goes on where it stopped."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import xarray as xr

from ipstore.places import locate
from ipstore.reader import open_run, run_info
from tests.cli.conftest import DIVERGES, TINY, ipstore, ipstore_json

SETTINGS = (
    "--hidden",
    "4-3",
    "--activation",
    "sigmoid",
    "--optimizer",
    "adam",
    "--learning-rate",
    "0.01",
    "--batch-size",
    "full",
    "--train-fraction",
    "0.5",
    "--init",
    "xavier_uniform",
    "--epochs",
    "4",
)


def test_flags_are_what_the_run_was_trained_with(tmp_path: Path) -> None:
    store = tmp_path / "runs.zarr"
    words = ("rule:signed=true", store, *SETTINGS, "--seeds", "3,5", "--level", "codes", "--bins", "10")
    found = ipstore_json("capture", *words, "--every", "2", "--processes", "0")
    attrs = run_info(store / "rule-sigmoid").attrs
    assert attrs["config"] == {
        "hidden": [4, 3],
        "activation": "sigmoid",
        "optimizer": "adam",
        "learning_rate": 0.01,
        "batch_size": None,
        "train_fraction": 0.5,
        "init": "xavier_uniform",
        "epochs": 4,
        "every": 2,
        "log_spaced": None,
    }
    assert (attrs["task"], attrs["task_params"], attrs["seeds"]) == ("rule", {"signed": True}, [3, 5])
    assert attrs["binning"] == {"rule": "equal", "bins": 10, "range": [0, 1]}
    tree = open_run(store / "rule-sigmoid")
    accuracy = tree["training"].dataset["accuracy"].sel(split="test")[-1]
    assert found.pop("seconds") > 0
    assert found == {
        "store": str(store),
        "run": "rule-sigmoid",
        "task": "rule:signed=true",
        "labels": "hard",
        "level": "codes",
        "epochs": 4,
        "captured_epochs": 3,
        "seeds": [3, 5],
        "diverged": [],
        "stored_bytes": run_info(store / "rule-sigmoid").stored_bytes,
        "test_accuracy": pytest.approx(float(accuracy.mean())),
    }


def test_the_summary_is_for_people_too(tmp_path: Path) -> None:
    shown = ipstore("capture", "rule", tmp_path / "runs.zarr", *TINY, "--log-spaced", "2").stdout
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in shown.splitlines())
    assert facts["run"] == f"rule-tanh in {tmp_path / 'runs.zarr'}"
    assert facts["task"] == "rule (hard labels)"
    assert facts["level"] == "full"
    assert facts["seeds"] == "2 (0-1)"
    assert re.fullmatch(r"0\.\d{4} \(mean over seeds\)", facts["test accuracy"])
    assert re.fullmatch(r"\d+\.\d s", facts["time"])


def test_without_test_samples_there_is_no_test_accuracy(tmp_path: Path) -> None:
    words = ("capture", "rule", tmp_path / "runs.zarr", *TINY, "--train-fraction", "1")
    assert ipstore_json(*words)["test_accuracy"] is None


def test_flags_come_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "capture.toml"
    file.write_text(
        'run = "named"\nhidden = [5, 4]\nseeds = [7]\nlearning_rate = 0.5\nepochs = 1\nbatch_size = "full"\n'
        'level = "codes"\nrange = [-0.5, 0.5]\n'
    )
    environment = {"IPSTORE_CAPTURE_EPOCHS": "2", "IPSTORE_CAPTURE_LEARNING_RATE": "0.25"}
    store = tmp_path / "runs.zarr"
    words = ("rule", store, "--config", file, "--learning-rate", "0.125", "--processes", "0")
    ipstore("capture", *words, environment=environment)
    attrs = run_info(store / "named").attrs
    config = attrs["config"]
    assert (config["learning_rate"], config["epochs"], config["hidden"]) == (0.125, 2, [5, 4])
    assert (config["batch_size"], config["activation"]) == (None, "tanh")
    assert (attrs["seeds"], attrs["binning"]["range"]) == ([7], [-0.5, 0.5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat = 0.5", "sets learning_rat, but can only set run, hidden, activation"),
        ("overwrite = true", "sets overwrite, but can only set"),
        ("epochs = [1, 2]", r"epochs in .* cannot be \[1, 2\]"),
        ("epochs = true", "epochs in .* cannot be True"),
        ("epochs = ", "is not TOML"),
        (None, "cannot read .*: No such file or directory"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "capture.toml"
    if text is not None:
        file.write_text(text)
    failed = ipstore("capture", "rule", tmp_path / "runs.zarr", "--config", file, code=2)
    assert re.match(f"error: .*{message}", failed.stderr)
    assert not (tmp_path / "runs.zarr").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rulee"], "there is no task 'rulee'. Did you mean 'rule'?"),
        (["rule:information=2"], "information must lie in (0, 0.99916) bits but got 2"),
        (["rule:bits=2"], "task 'rule' cannot take {'bits': 2}"),
        (["rule", "--hidden", "10-0"], "each width in hidden must be an integer of at least 1 but got 0"),
        (["rule", "--learning-rate", "0"], "learning_rate must be positive and finite but got 0.0"),
        (["rule", "--train-fraction", "1.5"], "train_fraction must lie in (0, 1] but got 1.5"),
        (["rule", "--batch-size", "0"], "batch_size must be an integer of at least 1 but got 0"),
        (["rule", "--activation", "tahn"], "there is no activation 'tahn'. Did you mean 'tanh'?"),
        (["rule", "--level", "code"], "there is no capture level 'code'. Did you mean 'codes'?"),
        (["rule", "--seeds", "0"], "seeds must be at least one, each once, but got []"),
        (["rule", "--level", "codes", "--bins", "0"], "bins must lie in [1, 255] but got 0"),
        (["rule", "--bins", "9"], "--bins and --range go with --level codes, but the level is 'full'"),
        (
            ["rule", "--level", "codes", "--activation", "relu", "--bins", "9"],
            "relu activations have no bound, so --bins needs a --range",
        ),
        (["rule", "--run", "../x"], "run names are 1 to 128 letters"),
        (["rule", "--every", "0"], "every must be 1 or more but got 0"),
        (["rule", "--processes", "-1"], "processes must be 0 (train in this process) or more but got -1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(tmp_path: Path, words: list[str], message: str) -> None:
    failed = ipstore("capture", words[0], tmp_path / "runs.zarr", *words[1:], code=2)
    assert failed.stderr.startswith(f"error: {message}")
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "runs.zarr").exists()


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("words")
    failed = ipstore_json("capture", "rule", tmp_path, *TINY, code=1)
    assert failed["error"]["kind"] == "not-a-store"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_is_no_store(captured: Path) -> None:
    failed = ipstore("capture", "rule", captured / "hard", *TINY, code=2)
    assert failed.stderr == f"error: '{captured / 'hard'}' is a run; give its store, '{captured}'\n"


def test_a_run_that_exists_is_replaced_only_when_asked(store: Path) -> None:
    before = run_info(store / "hard").attrs
    failed = ipstore_json("capture", "rule", store, *TINY, "--run", "hard", code=1)
    assert failed["error"]["kind"] == "exists"
    assert "--overwrite" in failed["error"]["message"]
    assert run_info(store / "hard").attrs == before
    ipstore("capture", "rule", store, *TINY, "--run", "hard", "--overwrite", "--epochs", "1")
    assert run_info(store / "hard").attrs["config"]["epochs"] == 1


def test_a_run_that_another_process_writes_is_left_to_it(store: Path) -> None:
    lease = locate(store / "hard").lease()
    for words in (("--resume", "--epochs", "4"), ("--overwrite", *TINY)):
        failed = ipstore_json("capture", "rule", store, "--run", "hard", *words, code=1)
        assert failed["error"]["kind"] == "locked"
    assert ipstore_json("info", store / "hard")["status"] == "live"
    lease.release()
    assert ipstore_json("info", store / "hard")["status"] == "finished"


def test_a_run_that_would_not_fit_is_refused(tmp_path: Path) -> None:
    words = ("--epochs", "1000000", "--seeds", "5000", "--hidden", "100")
    failed = ipstore_json("capture", "rule", tmp_path / "runs.zarr", *words, code=1)
    assert failed["error"]["kind"] == "space"
    assert "no level would fit" in failed["error"]["message"]


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipstore.cli.capture.find_spec", lambda name: None)
    failed = ipstore("capture", "rule", tmp_path / "runs.zarr", code=1)
    assert failed.stderr == "error: capture needs PyTorch: pip install 'ipstore[train]'\n"


@pytest.mark.long
def test_seeds_that_diverge_are_named_in_one_line(tmp_path: Path) -> None:
    store = tmp_path / "runs.zarr"
    words = ["capture", "rule", str(store), *TINY, *DIVERGES, "--json"]
    done = subprocess.run([sys.executable, "-m", "ipstore", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(
        "warning: run 'rule-linear': the loss of 2 of 2 seeds is not finite: 0 (from epoch 1)"
    )
    assert done.stderr.count("\n") == 1
    assert '"diverged": [\n    0,\n    1\n  ]' in done.stdout


# Continuing a run -------------------------------------------------------------


def assert_same(tree: xr.DataTree, other: xr.DataTree) -> None:
    """Both runs hold the same values."""
    assert {node.path for node in tree.subtree} == {node.path for node in other.subtree}
    for node in tree.subtree:
        xr.testing.assert_equal(node.to_dataset(), other[node.path].to_dataset())


def test_a_finished_run_is_extended(store: Path, tmp_path: Path) -> None:
    found = ipstore_json("capture", "rule", store, "--run", "hard", "--resume", "--epochs", "4", "--processes", "0")
    assert (found["epochs"], found["seeds"]) == (4, [4, 7])
    words = (*TINY, "--run", "hard", "--level", "codes", "--seeds", "4,7", "--epochs", "4")
    ipstore("capture", "rule", tmp_path / "whole.zarr", *words)
    assert_same(open_run(store / "hard"), open_run(tmp_path / "whole.zarr" / "hard"))


@pytest.mark.parametrize("words", [(), ("--epochs", "2")])
def test_a_complete_run_stays_as_it_is(captured: Path, words: tuple[str, ...]) -> None:
    before = run_info(captured / "hard")
    done = ipstore("capture", "rule", captured, "--run", "hard", "--resume", *words)
    assert done.stdout.startswith("run 'hard' is complete already, to epoch 2; more --epochs would extend it\n")
    assert ipstore_json("capture", "rule", captured, "--run", "hard", "--resume")["seconds"] is None
    assert run_info(captured / "hard") == before


@pytest.mark.parametrize(
    "words", [("--level", "full"), ("--learning-rate", "0.2"), ("--seeds", "2"), ("--overwrite",), ("--every", "1")]
)
def test_what_the_run_decides_is_refused_beside_resume(captured: Path, words: tuple[str, ...]) -> None:
    failed = ipstore("capture", "rule", captured, "--run", "hard", "--resume", *words, code=2)
    assert failed.stderr.startswith(f"error: {words[0]} does not go with --resume: a run is continued with")


def test_the_environment_does_not_extend_a_run(captured: Path) -> None:
    words = ("capture", "rule", captured, "--run", "hard", "--resume")
    assert (
        ipstore_json(*words, environment={"IPSTORE_CAPTURE_EPOCHS": "9", "IPSTORE_CAPTURE_LEVEL": "full"})["seconds"]
        is None
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["rule:information=0.9"], 2, "run 'hard' was captured on rule, but got rule:information=0.9"),
        (["rule", "--epochs", "1"], 1, "run 'hard' is stored to epoch 2, so it cannot end at 1"),
        (["rule", "--run", "herd"], 2, "there is no run 'herd'. Did you mean 'hard'?"),
    ],
)
def test_a_run_that_cannot_be_continued_so(captured: Path, words: list[str], code: int, message: str) -> None:
    words = [words[0], str(captured), "--run", "hard", "--resume", *words[1:]]
    assert ipstore("capture", *words, code=code).stderr.startswith(f"error: {message}")


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: what sits before it, and what a process has as its own."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def read_until(terminal: int, pattern: str) -> str:
    """Read what is shown until it matches; a process that ends first fails the test."""
    shown = ""
    while not re.search(pattern, shown):
        try:
            shown += os.read(terminal, 4096).decode(errors="replace")
        except OSError:
            pytest.fail(f"ended before {pattern!r} was shown: {shown}")
    return shown


@pytest.mark.long
def test_ctrl_c_commits_and_resume_continues_bit_for_bit(tmp_path: Path, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    store = tmp_path / "runs.zarr"
    task, run = "rule:information=0.9", ("--run", "one")
    settings = ("--hidden", "3", "--seeds", "2", "--level", "codes", "--batch-size", "full")
    words = ["capture", task, str(store), *run, *settings, "--epochs", "100000", "--processes", "2", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ipstore", *words],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        shown = read_until(ours, r"one .* [1-9]\d*/100,001 +[\d,]+ epochs/s")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        stdout, _ = process.communicate()
        shown += read_until(ours, r"--resume")
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in shown

    error = json.loads(stdout)["error"]
    reached = error["epoch"]
    assert (error["kind"], error["run"]) == ("interrupted", "one")
    assert error["resume"] == f"ipstore capture {task} {store} --run one --resume"
    assert f"run 'one' is committed to epoch {reached} of 100000. Continue it with\n" in error["message"]
    stopped = open_run(store / "one")
    assert stopped.attrs["status"] == "interrupted"
    assert stopped.dataset["epoch"][-1] == reached > 0

    more = ("--epochs", str(reached + 3), "--processes", "0")
    assert ipstore_json(*error["resume"].split()[1:], *more)["epochs"] == reached + 3
    whole = tmp_path / "whole.zarr"
    ipstore("capture", task, whole, *run, *settings, *more)
    assert_same(open_run(store / "one"), open_run(whole / "one"))
