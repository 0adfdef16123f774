"""Metadata that nobody wrote: whatever a ``zarr.json`` says, ipstore gives a result or says what is wrong.

Never another exception, a hang, memory that runs away, or a file touched outside the store.
"""

import copy
import json
import os
import resource
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import ipstore
from ipstore.cli.app import app
from ipstore.errors import IpstoreError
from ipstore.repairs import repair
from ipstore.trainers import TrainConfig, capture, resume
from ipstore.trainers.tasks import Task
from ipstore.writer import RunWriter
from tests.faults.watching import watching

_SECONDS = 30
_MEMORY = 3 << 30
_EXAMPLES = 1500 if os.environ.get("IPSTORE_LONG") == "full" else 150

DOCUMENTS = ("zarr.json", "run/zarr.json", "run/results/ten/zarr.json")

HOSTILE_NAMES = [
    *("../../etc", "../outside/secret", "/etc/passwd", "..", ".", "", "a\x00b", "a/b/c/d", "a\\b", "x" * 5000, "ünï"),
    *(
        "\ud800",
        "\x1b]0;owned\x07",
        "zarr.json",
        "c",
        "c.0.0",
        ".lease",
        "activations/../../x",
        "training/loss/c.0.0.0",
    ),
    *("os:system", "__proto__", "state/../../x", "state/1.safetensors/../../../outside/secret", "layer1\n"),
]
HOSTILE_NUMBERS = [
    *(-1, 0, 1, 2, 3, 255, 2**31, 2**31 - 1, 2**32, 2**40, 2**60, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, 1e308),
    *(float("nan"), float("inf"), float("-inf")),
]
HOSTILE_VALUES = st.one_of(
    st.sampled_from([None, True, False, [], {}, [[]], {"a": 1}, "NaN", "Infinity", "|O", "object", "pickle", "int64"]),
    st.sampled_from(HOSTILE_NUMBERS),
    st.sampled_from(HOSTILE_NAMES),
    st.lists(st.sampled_from(HOSTILE_NUMBERS), max_size=4),
    st.lists(st.sampled_from(HOSTILE_NAMES), max_size=3),
    st.sampled_from(
        [
            {"name": "pickle"},
            {"name": "numcodecs.pickle", "configuration": {}},
            {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
            {"name": "regular", "configuration": {"chunk_shape": [0]}},
            {"name": "rectilinear", "configuration": {"chunk_shapes": [[1]]}},
            {"name": "v2", "configuration": {"separator": "/"}},
            {"name": "default", "configuration": {"separator": "/"}},
            [{"name": "bytes", "configuration": {"endian": "big"}}],
            [{"name": "bytes", "configuration": {"endian": "little"}}],
            [{"name": "transpose", "configuration": {"order": [1, 0]}}, {"name": "bytes"}, {"name": "crc32c"}],
        ]
    ),
)
"""What is put in the place of a value, anywhere."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run and a result of it; for copying."""
    store = tmp_path_factory.mktemp("metadata") / "store"
    x = np.array([[i >> bit & 1 for bit in range(3)] for i in range(8)], np.float32)
    p = np.array([[0.9, 0.1] if row.sum() > 1 else [0.2, 0.8] for row in x])
    task = Task(x, np.full(8, 1 / 8), p, np.arange(8), population=True, name="counting")
    capture(
        task, store, "run", TrainConfig(hidden=(2,), epochs=5, batch_size=4), seeds=[3, 5], processes=0, shard_epochs=4
    )
    ipstore.analysis.analyze(store, "run", "binned", bins=10, name="ten")
    return store


@contextmanager
def bounded(seconds: int = _SECONDS) -> Iterator[None]:
    """Raise what takes too long, or more memory than a small store can be worth."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"still at it after {seconds} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY, limits[1]))
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


class _Enough(Exception):
    """Ends a training that has begun: that it goes on is none of these tests' business."""


def _read(store: Path) -> None:
    run = ipstore.open(store, run="run")
    run["training/loss"].load()
    run["activations/layer1"].load()


def _resume_writer(store: Path) -> None:
    writer = RunWriter.resume(store, "run")
    try:
        writer.state()
    finally:
        writer.close()


def _resume_training(store: Path) -> None:
    def stop(progress: Any) -> None:
        raise _Enough

    try:
        resume(store, "run", epochs=9, processes=0, on_progress=stop)
    except _Enough:
        return


def _command(*words: str) -> Callable[[Path], None]:
    def run(store: Path) -> None:
        done = CliRunner().invoke(app, [words[0], str(store), *words[1:]])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code in (0, 1, 2)
        assert done.exit_code == 0 or "error: " in done.output or words[0] == "verify", done.output

    return run


USES: dict[str, Callable[[Path], object]] = {
    "open": lambda store: ipstore.open(store),
    "read": _read,
    "runs": lambda store: ipstore.runs(store),
    "verify": lambda store: ipstore.verify(store / "run"),
    "ipstore runs": _command("runs"),
    "ipstore info": _command("info", "--run", "run"),
    "ipstore info --json": _command("info", "--run", "run", "--json"),
    "ipstore verify": _command("verify"),
    "ipstore analyze": _command("analyze", "--estimator", "binned:bins=10", "--json"),
    "RunWriter.resume": _resume_writer,
    "resume": _resume_training,
    "repair": lambda store: repair(store / "run"),
}


def use(sandbox: Path) -> dict[str, str]:
    """Do everything with the store that there is to do; hold it to give a result or an IpstoreError.

    Returns
    -------
    dict
        By what was done, the message with which it was refused.
    """
    store, refusals = sandbox / "store", {}
    (sandbox / "outside").mkdir(exist_ok=True)
    (sandbox / "outside" / "secret").write_bytes(b"not for you")
    with watching() as seen, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, do in USES.items():
            try:
                with bounded():
                    do(store)
            except IpstoreError as error:
                refusals[name] = str(error)
            except Exception as error:
                error.add_note(f"by {name}")
                raise
    for name, message in refusals.items():
        assert str(store) in message or "'run'" in message, f"{name}: {message!r} names no place"
        assert len(message) < 2000, f"{name}: {message}"
    assert {path.name for path in sandbox.iterdir()} == {"store", "outside"}
    assert [path.name for path in (sandbox / "outside").iterdir()] == ["secret"]
    assert (sandbox / "outside" / "secret").read_bytes() == b"not for you"
    within = str(store.resolve())
    assert not [path for path in seen.changed if not _is_within(path, within) and path != os.devnull]
    assert not [path for path in seen.read if path.startswith(str(sandbox.resolve())) and not _is_within(path, within)]
    assert not seen.started
    return refusals


def _is_within(path: str, store: str) -> bool:
    return path == store or path.startswith(f"{store}/")


def _nodes(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of every value in a document."""
    if path:
        yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from _nodes(value, (*path, key))


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def mutations(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """Give the document with something in it changed, once or twice."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        paths = list(_nodes(changed))
        if draw(st.booleans()):
            paths = [path for path in paths if path[0] == "attributes"] or paths
        path = draw(st.sampled_from(paths))
        parent, key = _at(changed, path[:-1]), path[-1]
        how = draw(st.sampled_from(["replace", "replace", "replace", "delete", "rename", "copy", "nest", "number"]))
        if how == "replace":
            parent[key] = copy.deepcopy(draw(HOSTILE_VALUES))  # what is drawn is shared by all examples
        elif how == "delete":
            del parent[key]
        elif how == "rename" and isinstance(parent, dict):
            parent[draw(st.sampled_from(HOSTILE_NAMES))] = parent.pop(key)
        elif how == "copy" and isinstance(parent, dict):
            parent[draw(st.sampled_from(HOSTILE_NAMES))] = copy.deepcopy(parent[key])
        elif how == "nest":
            for _ in range(draw(st.sampled_from([1, 20, 200]))):
                parent[key] = draw(st.sampled_from([{"a": parent[key]}, [parent[key]]]))
        elif how == "number":  # the same number everywhere, so that nothing contradicts it
            _renumber(changed, parent[key], draw(st.sampled_from(HOSTILE_NUMBERS)))
    text = json.dumps(changed, indent=draw(st.sampled_from([None, 1])))
    content = text.encode("utf-8", "surrogatepass")
    match draw(st.sampled_from(["whole"] * 8 + ["truncated", "garbled", "twice", "deep"])):
        case "truncated":
            return content[: draw(st.integers(0, len(content)))]
        case "garbled":
            place = draw(st.integers(0, len(content)))
            return content[:place] + draw(st.binary(min_size=1, max_size=9)) + content[place + 3 :]
        case "twice":
            key = draw(st.sampled_from(["attributes", "consolidated_metadata", "zarr_format"]))
            return content.rstrip()[:-1] + f', "{key}": {json.dumps(draw(HOSTILE_VALUES))}}}'.encode()
        case "deep":
            return content.replace(
                b'"attributes"', b'"deep": ' + b"[" * 100_000 + b"]" * 100_000 + b', "attributes"', 1
            )
    return content


def _renumber(tree: Any, old: Any, new: Any) -> None:
    if type(old) is not int:
        return
    for path in list(_nodes(tree)):
        if type(_at(tree, path)) is int and _at(tree, path) == old:
            _at(tree, path[:-1])[path[-1]] = new


def fuzz(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    which = data.draw(st.sampled_from(DOCUMENTS))
    content = data.draw(mutations(json.loads((whole / which).read_bytes())))
    store = tmp_path / "sandbox" / "store"
    shutil.rmtree(store.parent, ignore_errors=True)
    shutil.copytree(whole, store)
    (store / which).write_bytes(content)
    use(store.parent)


OFTEN = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@pytest.mark.long
@settings(max_examples=_EXAMPLES, **OFTEN)  # type: ignore[arg-type]
@given(data=st.data())
def test_no_metadata_do_harm(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    fuzz(whole, tmp_path, data)
