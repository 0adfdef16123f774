"""Every code block of README.md and docs/*.md is run, and a block that nothing runs is an error.

A block is run by the language named on its fence:

python
    In this process; the blocks of one document share their names.
bash
    By ``bash -euo pipefail``, with this environment's commands on the path.
json, toml, yaml
    Parsed.
text
    Output or a drawing: shown.
console
    What cannot run inside the tests, one command a line after ``$``: ``make`` (dry-run against our Makefile),
    ``.ci/run``, ``cd``, ``git clone``, ``pip install``; and ``ipstore serve``, which runs until it says its address,
    with no browser to open. Any other command belongs in a bash block, and its output in a text block.

The blocks of one document run in one temporary working directory, in order, so a later block can analyse what
an earlier one captured; docs/scale.md has an object server, too. A Python warning is an error in all of them. Some
documents take long, and are tested with what is marked so.
"""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.region import Lexeme
from sybil.sybil import SybilCollection
from sybil.typing import Evaluator

ROOT = Path(__file__).parent


def succeed(command: list[str], **options: Any) -> str | None:
    """Run `command`; if it fails, say how."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    return f"exit code {done.returncode}\n{done.stdout}{done.stderr}" if done.returncode else None


def run_bash(example: Example) -> str | None:
    """Run a block as a script of its own; captures start no workers, each of which would import torch again."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONWARNINGS": "error", "IPSTORE_CAPTURE_PROCESSES": "0"}
    return succeed(["bash", "-euo", "pipefail", "-c", example.parsed], env=environment)


def parse_json(example: Example) -> None:
    """Hold a block to be JSON."""
    json.loads(example.parsed)


def parse_toml(example: Example) -> None:
    """Hold a block to be TOML."""
    tomllib.loads(example.parsed)


def parse_yaml(example: Example) -> None:
    """Hold a block to be YAML."""
    list(yaml.safe_load_all(example.parsed))


def show(example: Example) -> None:
    """Leave a block as it stands: it is no code."""


def show_console(example: Example) -> str | None:
    """Let through only commands that the tests cannot run, and hold a make target to be one of ours."""
    for line in example.parsed.splitlines():
        match shlex.split(line, comments=True):
            case ["$", "make", *words]:
                if failure := succeed(["make", "--dry-run", *words], cwd=ROOT):
                    return failure
            case ["$", "ipstore", "serve", store, *options]:
                from tests.service.browser import serving

                with serving(store, *options, BROWSER="true"):
                    pass
            case ["$", ".ci/run" | "cd", *_] | ["$", "git", "clone", *_] | ["$", "pip", "install", *_] | []:
                pass
            case _:
                return f"not run: {line!r}; a command belongs in a bash block, its output in a text block"
    return None


def refuse(example: Example) -> str:
    """Fail a block that nothing runs."""
    return f"a code block must be fenced and name one of {', '.join(EVALUATORS)}"


EVALUATORS: dict[str, Evaluator] = {
    "python": PythonEvaluator(),
    "bash": run_bash,
    "json": parse_json,
    "toml": parse_toml,
    "yaml": parse_yaml,
    "text": show,
    "console": show_console,
}


def code_blocks(document: Document) -> Iterator[Region]:
    """Find the code blocks of a Markdown document, fenced or indented, as CommonMark does."""
    starts = [0, *(end.end() for end in re.finditer(r"\n|\Z", document.text))]
    for token in MarkdownIt("commonmark").parse(document.text):
        if token.type in ("fence", "code_block") and token.map:
            first, last = token.map
            yield Region(
                starts[first],
                starts[last],
                parsed=Lexeme(token.content, offset=0, line_offset=0),
                evaluator=EVALUATORS.get(token.info.strip(), refuse),
            )


def enter_directory(namespace: dict[str, Any]) -> None:
    """Give the document a working directory of its own."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ipstore-document-"))
        stack.enter_context(contextlib.chdir(directory))
        namespace["_leave"] = stack.pop_all().close


def enter_served_directory(namespace: dict[str, Any]) -> None:
    """Give the document a working directory, and a server for its s3:// URLs."""
    from tests.servers import seaweedfs

    with contextlib.ExitStack() as stack:
        enter_directory(namespace)
        stack.callback(namespace["_leave"])
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ipstore-server-"))
        server = stack.enter_context(seaweedfs(Path(directory) / "server"))
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in server.environment.items():
            patched.setenv(name, value)
        namespace["_leave"] = stack.pop_all().close


def leave_directory(namespace: dict[str, Any]) -> None:
    """Return to where the tests run and remove the directory."""
    namespace["_leave"]()


SERVED = "docs/scale.md"
LONG = {
    ROOT / document
    for document in (
        "README.md",
        "docs/bound.md",
        "docs/choosing.md",
        "docs/dynamics.md",
        "docs/notebooks.md",
        "docs/recording.md",
        "docs/reproduction.md",
        "docs/service.md",
        "docs/tutorial.md",
        SERVED,
    )
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the documents that take long."""
    for item in items:
        if item.path in LONG:
            item.add_marker("long")


pytest_collect_file = SybilCollection(
    [
        Sybil(
            [code_blocks],
            patterns=["README.md", "docs/*.md"],
            excludes=[SERVED],
            setup=enter_directory,
            teardown=leave_directory,
        ),
        Sybil([code_blocks], patterns=[SERVED], setup=enter_served_directory, teardown=leave_directory),
    ]
).pytest()
