"""``ipstore serve``: from a terminal to the page, and to its end."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import ipstore

TOKEN = "correct-horse-battery"


@contextmanager
def served(store: Path, *words: str, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run the command in a process of its own; give it, and the URL that it says."""
    command = [sys.executable, "-m", "ipstore", "serve", str(store), "--port", "0", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        told = re.fullmatch(rf"{re.escape(str(store))} is at (http://\S+/); Ctrl-C stops the server\n", line)
        assert told, line + process.communicate(timeout=60)[1]
        yield process, told[1]
    finally:
        process.kill()
        process.communicate()


def read(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.long
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_store_is_served_until_it_is_stopped(captured: Path, ending: signal.Signals) -> None:
    with served(captured) as (process, url):
        assert "<title>ipstore" in read(url)[1]
        assert '"rule-tanh"' in read(f"{url}api/runs")[1]
        process.send_signal(ending)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (0, "stopped\n")
        assert "Traceback" not in err
        with pytest.raises(urllib.error.URLError, match="refused"):
            read(url)


@pytest.mark.long
def test_a_token_comes_from_the_environment(captured: Path) -> None:
    with served(captured, IPSTORE_SERVE_TOKEN=TOKEN) as (process, url):
        assert read(f"{url}api/runs")[0] == 401
        assert read(f"{url}api/runs", Authorization=f"Bearer {TOKEN}")[0] == 200
        process.terminate()
        assert TOKEN not in "".join(process.communicate(timeout=120))


def test_what_is_wrong_is_said_at_once(captured: Path, tmp_path: Path) -> None:
    unset = {"IPSTORE_SERVE_TOKEN": ""}

    def fails(*words: str | Path, code: int) -> str:
        return ipstore("serve", *words, code=code, environment=unset).stderr

    assert "there is no store at" in fails(tmp_path / "none", code=1)
    assert "is a run; give its store" in fails(captured / "hard", code=2)
    message = fails(captured, "--address", "0.0.0.0", code=2)
    assert "IPSTORE_SERVE_TOKEN" in message
    assert "--allow-origin" in message
    assert "secrets.token_urlsafe" in fails(captured, "--token", "short", code=2)
    assert "HOST or HOST:PORT" in fails(captured, "--allow-origin", "a b", code=2)
    assert "0 to 65535" in fails(captured, "--port", "99999", code=2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = fails(captured, "--port", str(port), code=1)
    assert f"127.0.0.1:{port}" in message
    assert "--port 0" in message


def test_the_help_says_how_to_keep_a_token_to_oneself() -> None:
    shown = " ".join(ipstore("serve", "--help").stdout.split())
    assert "IPSTORE_SERVE_TOKEN" in shown
    assert "seen by every user" in shown
