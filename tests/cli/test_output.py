"""Small matters of presentation."""

import json
import math
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ipstore.cli.output import bits, print_json, progress
from ipstore.wording import pairs, ranges


def test_ranges() -> None:
    assert ranges([]) == ""
    assert ranges([3]) == "3"
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"


def test_pairs() -> None:
    values = {"bins": 30, "range": [-1.0, 1.0], "width": None, "hidden": [10, 7], "rule": "equal"}
    assert pairs(values) == "bins 30, range -1.0..1.0, hidden 10-7, rule equal"


def test_bits() -> None:
    assert bits(1.23456) == "1.235"
    assert bits(math.nan) == "-"


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, math.inf, 1.5], "b": (1, "text", None)})
    assert json.loads(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": [1, "text", None]}


def test_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", "epochs") as show:
        show(1, 2)
    assert capsys.readouterr() == ("", "")


def test_progress_goes_to_the_terminal_and_the_document_to_stdout(captured: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ipstore", "verify", str(captured), "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # on Linux the end of a terminal is an error
        pass
    os.close(ours)
    stdout, _ = process.communicate()
    assert process.returncode == 0
    assert all(run["whole"] for run in json.loads(stdout)["runs"])
    assert "verify rule-tanh" in shown.decode()
    assert "files/s" in shown.decode()
