"""A small store, captured through the command line itself, and the way the tests call it."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ipstore.cli.app import app

TINY = ("--hidden", "3", "--epochs", "2", "--seeds", "2", "--processes", "0")
"""Options of a capture that takes a tenth of a second."""


DIVERGES = ("--activation", "linear", "--learning-rate", "1e20")
"""Options under which every seed diverges in its first epoch."""


def ipstore(*words: str | Path, code: int = 0, environment: Mapping[str, str] | None = None) -> Result:
    """Run a command in this process, and hold it to an exit code."""
    result = CliRunner().invoke(app, [str(word) for word in words], env=environment)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def ipstore_json(*words: str | Path, code: int = 0, environment: Mapping[str, str] | None = None) -> Any:
    """Run a command with ``--json``, and read its one document."""
    return json.loads(ipstore(*words, "--json", code=code, environment=environment).stdout)


@pytest.fixture(scope="session")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two runs; for reading only."""
    store = tmp_path_factory.mktemp("cli") / "runs.zarr"
    ipstore("capture", "rule:information=0.99", store, *TINY, "--epochs", "5")
    ipstore("capture", "rule", store, *TINY, "--run", "hard", "--level", "codes", "--seeds", "4,7")
    return store


@pytest.fixture
def store(captured: Path, tmp_path: Path) -> Path:
    """A copy of that store, to be written into or damaged."""
    return Path(shutil.copytree(captured, tmp_path / "runs.zarr"))
