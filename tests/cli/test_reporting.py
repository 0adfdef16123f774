"""Failures: one line on stderr, one JSON document where it was asked for, and an exit code that says which kind."""

import errno
import json
import subprocess
import sys
import warnings

import pytest
import typer
from typer.testing import CliRunner

from ipstore.cli.reporting import Failure, ReportingGroup
from ipstore.errors import CorruptionError, IpstoreError, ParameterError, StoreNotFoundError, UnknownNameError
from tests.cli.conftest import ipstore, ipstore_json


def run_command(error: BaseException | None, *words: str) -> tuple[int, str, str, BaseException | None]:
    """Run an application whose one command raises `error`."""
    app = typer.Typer(cls=ReportingGroup, rich_markup_mode=None)

    @app.callback()
    def group() -> None: ...

    @app.command()
    def work(number: int = 1, json: bool = False) -> None:
        if error:
            raise error

    result = CliRunner().invoke(app, ["work", *words])
    return result.exit_code, result.stdout, result.stderr, result.exception


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (ParameterError("bins must lie in [1, 255] but got 0"), 2, "parameter"),
        (UnknownNameError("task", "rulee", ["rule"]), 2, "unknown-name"),
        (StoreNotFoundError("there is no store at 'x'"), 1, "not-found"),
        (CorruptionError("stored bytes"), 1, "corrupt"),
        (IpstoreError("some error"), 1, "error"),
        (Failure("missing-package", "needs PyTorch"), 1, "missing-package"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_a_code(error: BaseException, code: int, kind: str) -> None:
    found, stdout, stderr, _ = run_command(error)
    message = "interrupted\n" if code == 130 else f"error: {error}\n"
    assert (found, stdout, stderr) == (code, "", message)
    found, stdout, stderr, _ = run_command(error, "--json")
    assert (found, stderr) == (code, message)
    assert json.loads(stdout) == {"error": {"kind": kind, "message": str(error) or "interrupted"}}


def test_a_failure_can_tell_a_program_more() -> None:
    _, stdout, _, _ = run_command(Failure("interrupted", "stopped", 130, epoch=7), "--json")
    assert json.loads(stdout)["error"] == {"kind": "interrupted", "message": "stopped", "epoch": 7}


@pytest.mark.parametrize("words", [["--number", "many"], ["--nubmer", "3"], ["extra"]])
def test_wrong_usage_is_code_2(words: list[str]) -> None:
    code, stdout, stderr, _ = run_command(None, *words)
    assert (code, stdout) == (2, "")
    assert "Usage:" in stderr
    code, stdout, _, _ = run_command(None, *words, "--json")
    assert code == 2
    assert json.loads(stdout)["error"]["kind"] == "usage"


def test_a_file_that_cannot_be_used_is_named() -> None:
    code, stdout, stderr, _ = run_command(PermissionError(errno.EACCES, "Permission denied", "/runs/x"), "--json")
    assert (code, stderr) == (1, "error: /runs/x: Permission denied\n")
    assert json.loads(stdout) == {"error": {"kind": "system", "message": "/runs/x: Permission denied"}}


def test_a_bug_shows_itself() -> None:
    bug = ZeroDivisionError("division by zero")
    assert run_command(bug)[3] is bug


def test_a_warning_is_one_line() -> None:
    app = typer.Typer(cls=ReportingGroup, rich_markup_mode=None)

    @app.callback()
    def group() -> None: ...

    @app.command()
    def work() -> None:
        warnings.warn("two seeds diverged", UserWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = CliRunner().invoke(app, ["work"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "warning: two seeds diverged\n")


def test_version_and_bare_call() -> None:
    from ipstore import __version__

    assert ipstore("--version").stdout == f"ipstore {__version__}\n"
    assert "capture" in ipstore(code=2).output


def test_an_unknown_command_is_wrong_usage() -> None:
    assert "Did you mean 'capture'?" in ipstore("captur", code=2).stderr


def test_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "ipstore", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = done.stdout.split("Commands:")[1]
    for command in ("capture", "analyze", "estimators", "plot", "figures", "runs", "info", "verify"):
        assert f"  {command} " in listed
    assert "..." not in listed, "a command's first line is too long for the list"


def test_json_of_a_missing_store() -> None:
    for command in ("runs", "info", "verify", "analyze"):
        assert ipstore_json(command, "nowhere.zarr", code=1)["error"]["kind"] == "not-found"
