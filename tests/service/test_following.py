"""What a store holds is seen as it comes, grows and goes, whatever befalls the store."""

import gc
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import pytest

import ipstore
from ipstore.analysis import analyze
from ipstore.analysis.service.following import Change, Following
from ipstore.errors import ParameterError
from ipstore.group import encoded
from ipstore.local import LocalPlace
from ipstore.places import DOCUMENT, Stamp, locate
from ipstore.writer import RunWriter
from tests.servers import Line
from tests.service import waiting
from tests.store.synthetic import make_plan, write_epochs, write_run

eventually = partial(waiting.eventually, seconds=30)

PLAN = make_plan("codes", shard=8)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs.zarr", PLAN, 8, run="first")
    return tmp_path / "runs.zarr"


@pytest.fixture
def following(store: Path) -> Iterator[Following]:
    following = Following(store, every=3600)  # when it is asked
    yield following
    following.close()


def grow(store: str | Path, run: str, epochs: int) -> None:
    writer = RunWriter.resume(store, run)
    write_epochs(writer, PLAN, epochs)
    writer.finish("interrupted")
    writer.close()


class Heard:
    """The changes that a look tells of; it must be subscribed before the first."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self.changes: list[Change] = []
        following.subscribe(self.changes.append)
        following.look()

    def of_look(self) -> Change:
        """All that was told since this was asked last, together."""
        self._following.look()
        self._following.look()  # who was told of the one before has heard it by now
        told, self.changes[:] = list(self.changes), []
        return Change(
            frozenset[str]().union(*(each.new for each in told)),
            frozenset[str]().union(*(each.changed for each in told)),
            frozenset[str]().union(*(each.gone for each in told)),
            self._following.problem,
        )


def test_it_sees_what_the_store_says(store: Path, following: Following) -> None:
    assert not following.runs
    assert following.version == 0
    heard = Heard(following)
    assert heard.of_look() == Change(new=frozenset({"first"}))
    assert list(following.runs.values()) == list(ipstore.runs(store))
    assert following.version == 1
    assert heard.of_look() == Change()
    assert following.version == 1


def test_runs_come_grow_and_go(store: Path, following: Following) -> None:
    heard = Heard(following)
    heard.of_look()
    write_run(store, PLAN, 8, run="second")
    assert heard.of_look() == Change(new=frozenset({"second"}))
    snapshot = following.runs
    grow(store, "first", 12)
    assert heard.of_look() == Change(changed=frozenset({"first"}))
    assert following.runs["first"].attrs["commit"]["epochs"] == 12
    assert snapshot["first"].attrs["commit"]["epochs"] == 8, "what was given changed"
    os.rename(store / "second", store / "renamed")
    assert heard.of_look() == Change(new=frozenset({"renamed"}), gone=frozenset({"second"}))
    shutil.rmtree(store / "renamed")
    assert heard.of_look() == Change(gone=frozenset({"renamed"}))
    assert list(following.runs) == ["first"]


def test_a_run_in_the_place_of_another(store: Path, following: Following) -> None:
    heard = Heard(following)
    heard.of_look()
    writer = RunWriter.create(store, "first", PLAN, 4, overwrite=True)
    write_epochs(writer, PLAN, 4)
    writer.finish("finished")
    writer.close()
    assert heard.of_look() == Change(changed=frozenset({"first"}))
    assert following.runs["first"].attrs["commit"]["epochs"] == 4


def test_results_come_grow_and_go(store: Path, following: Following) -> None:
    heard = Heard(following)
    heard.of_look()
    first = frozenset({"first"})
    name = analyze(store, "first", bins=10).attrs["name"]
    assert heard.of_look() == Change(changed=first)
    assert following.runs["first"].results == (name,)
    grow(store, "first", 12)
    heard.of_look()
    run_document = (store / "first" / DOCUMENT).read_bytes()
    analyze(store, "first", bins=10)
    assert (store / "first" / DOCUMENT).read_bytes() == run_document
    assert heard.of_look() == Change(changed=first)
    shutil.rmtree(store / "first" / "results" / name)
    assert heard.of_look() == Change(changed=first)
    assert not following.runs["first"].results


def test_a_live_run_and_its_end(store: Path, following: Following) -> None:
    heard = Heard(following)
    heard.of_look()
    writer = RunWriter.resume(store, "first")
    assert heard.of_look().changed == {"first"}
    assert following.runs["first"].status == "live"
    write_epochs(writer, PLAN, 16)
    assert heard.of_look().changed == {"first"}
    writer.close()
    assert heard.of_look().changed == {"first"}
    assert following.runs["first"].status == "finished"
    RunWriter.create(store, "second", PLAN, 16).close()  # without a word
    assert heard.of_look().new == {"second"}
    assert following.runs["second"].status == "stopped"


def test_a_damaged_run_is_listed_and_the_others_are_seen(store: Path, following: Following) -> None:
    heard = Heard(following)
    heard.of_look()
    shutil.copytree(store / "first", store / "broken")
    document = store / "broken" / DOCUMENT
    whole = document.read_bytes()
    document.write_bytes(whole.replace(b'"layer1"', b'"../../x"'))
    grow(store, "first", 9)
    assert heard.of_look() == Change(new=frozenset({"broken"}), changed=frozenset({"first"}))
    assert list(following.runs) == ["first"]
    assert "broken" in following.problems["broken"]
    assert following.problem is None
    assert heard.of_look() == Change(), "a run that stays damaged is no news"
    document.write_bytes(whole)
    assert heard.of_look() == Change(changed=frozenset({"broken"}))
    assert not following.problems
    document.write_bytes(whole[:-40])
    assert heard.of_look() == Change(changed=frozenset({"broken"}))
    assert following.problems.keys() == {"broken"}
    assert following.runs["broken"].attrs["commit"]["epochs"] == 8, "what was last known of it stays"


def test_a_damaged_result_is_its_runs_problem(store: Path, following: Following) -> None:
    name = analyze(store, "first", bins=10).attrs["name"]
    (store / "first" / "results" / name / DOCUMENT).write_text("{}")
    following.look()
    assert name in following.problems["first"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_run_that_may_not_be_read(store: Path, following: Following) -> None:
    document = store / "first" / DOCUMENT
    document.chmod(0)
    following.look()
    assert "Permission" in following.problems["first"]


def test_a_store_that_vanishes_for_a_while(store: Path, following: Following) -> None:
    heard = Heard(following)
    heard.of_look()
    away = store.with_name("away")
    os.rename(store, away)
    gone = heard.of_look()
    assert gone.problem is not None
    assert "there is no store" in gone.problem
    assert not gone.gone
    assert list(following.runs) == ["first"], "what was last seen stays"
    version = following.version
    assert heard.of_look() == gone
    assert following.version == version, "a problem that stays is no news"
    grow(away, "first", 9)
    store.mkdir()  # as where a disk is not mounted
    assert heard.of_look() == gone
    store.rmdir()
    os.rename(away, store)
    assert heard.of_look() == Change(changed=frozenset({"first"}))
    assert following.problem is None


def test_no_store_at_all_and_one_that_comes(tmp_path: Path) -> None:
    following = Following(tmp_path / "runs.zarr")
    following.look()
    assert "there is no store" in (following.problem or "")
    write_run(tmp_path / "runs.zarr", PLAN, 4)
    following.look()
    assert following.problem is None
    assert list(following.runs) == ["run"]
    following.close()


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("of something else")
    following = Following(tmp_path)
    following.look()
    assert following.problem is not None
    assert "not an ipstore store" in following.problem
    following.close()
    with pytest.raises(ParameterError, match="every must be a positive number"):
        Following(tmp_path, every=0)


# Looking by itself ------------------------------------------------------------


@dataclass(frozen=True)
class Watched(LocalPlace):
    """A folder that counts."""

    counts: dict[str, int] = field(default_factory=lambda: {"listings": 0, "documents": 0}, compare=False)

    def __truediv__(self, path: str) -> "Watched":
        return Watched(self.path / path, self.counts)

    def stamps(self) -> dict[str, Stamp]:
        self.counts["listings"] += 1
        return super().stamps()

    def read_version(self, key: str) -> tuple[bytes, None]:
        self.counts["documents"] += 1
        return super().read_version(key)


def test_only_what_changed_is_read(store: Path) -> None:
    analyze(store, "first", bins=10)
    for name in ("second", "third"):
        shutil.copytree(store / "first", store / name)
    place = Watched(store)
    following = Following(place)
    following.look()
    assert place.counts["documents"] == 6
    following.look()
    assert place.counts["documents"] == 6
    grow(store, "second", 9)
    following.look()
    assert place.counts["documents"] == 8
    following.close()


def test_it_looks_while_somebody_is_subscribed(store: Path) -> None:
    place = Watched(store)
    following = Following(place, every=0.01)
    assert place.counts["listings"] == 0
    changes: list[Change] = []
    leave = following.subscribe(changes.append)
    eventually(lambda: "first" in following.runs)
    write_run(store, PLAN, 4, run="second")
    eventually(lambda: any("second" in change.new for change in changes))
    leave()
    leave()
    following.look()  # any that was under way is over
    before = place.counts["listings"]
    threading.Event().wait(0.2)
    assert place.counts["listings"] == before
    write_run(store, PLAN, 4, run="third")
    following.subscribe(changes.append)
    eventually(lambda: any("third" in change.new for change in changes))
    following.close()


def test_a_slow_store_is_looked_at_less_often(store: Path) -> None:
    began: list[float] = []
    ended: list[float] = []

    class Slow(LocalPlace):
        def stamps(self) -> dict[str, Stamp]:
            if self.path == store:
                began.append(time.monotonic())
                threading.Event().wait(0.05)
                ended.append(time.monotonic())
            return super().stamps()

    following = Following(Slow(store), every=0.001)
    following.subscribe(lambda change: None)
    eventually(lambda: len(began) >= 3)
    following.close()
    assert began[1] - ended[0] >= 0.5
    assert began[2] - ended[1] >= 0.5


def test_one_that_fails_keeps_nobody_else_from_hearing(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    following = Following(store, every=0.01)

    def fail(change: Change) -> None:
        raise RuntimeError("of a view")

    changes: list[Change] = []
    threads: set[str] = set()
    following.subscribe(fail)
    following.subscribe(changes.append)
    following.subscribe(lambda change: threads.add(threading.current_thread().name))
    with caplog.at_level(logging.ERROR):
        eventually(lambda: bool(changes) and bool(threads))
        write_run(store, PLAN, 4, run="second")
        eventually(lambda: any("second" in change.new for change in changes))
    assert "of a view" in caplog.text
    eventually(lambda: threads == {"ipstore-following"})
    following.close()


def test_a_callback_may_look_and_leave(store: Path, following: Following) -> None:
    changes: list[Change] = []

    def once(change: Change) -> None:
        changes.append(change)
        following.look()
        leave()

    leave = following.subscribe(once)
    eventually(lambda: bool(changes))
    write_run(store, PLAN, 4, run="second")
    following.look()
    assert len(changes) == 1


def test_closed_is_closed(store: Path) -> None:
    following = Following(store, every=0.01)
    changes: list[Change] = []
    following.subscribe(changes.append)
    eventually(lambda: bool(changes))
    following.close()
    following.close()
    changes.clear()
    write_run(store, PLAN, 4, run="second")
    following.look()
    assert not changes
    assert list(following.runs) == ["first"]
    assert not [thread for thread in threading.enumerate() if thread is following._thread]


@pytest.mark.long
def test_memory_does_not_grow_with_the_commits(store: Path, following: Following) -> None:
    changes = 0

    def count(change: Change) -> None:
        nonlocal changes
        changes += "first" in change.changed

    run = LocalPlace(store / "first")
    document = json.loads(run.read(DOCUMENT))
    document["attributes"]["commit"]["sequence"] = 10**6
    before, after = encoded(document).split(b"1000000")
    following.subscribe(count)
    following.look()
    held: list[tuple[int, int]] = []
    for sequence in range(10**6, 10**6 + 10_000):
        run.put(DOCUMENT, before + str(sequence).encode() + after, durable=False)  # as a writer does, but quickly
        following.look()
        assert following.runs["first"].attrs["commit"]["sequence"] == sequence
        if sequence % 1000 == 999:
            gc.collect()
            held.append((len(gc.get_objects()), psutil.Process().memory_info().rss))
    following.look()
    assert changes >= 9_999  # of the last one, those who are told may just be hearing
    (objects, resident), (objects_later, resident_later) = held[0], held[-1]
    assert objects_later - objects < 1_000
    assert resident_later - resident < 20 * 2**20


# Elsewhere --------------------------------------------------------------------


@pytest.mark.long
def test_in_an_object_store(s3_line: tuple[str, Line]) -> None:
    store, line = s3_line
    write_run(locate(store), PLAN, 8, run="first")  # type: ignore[arg-type]
    write_run(locate(store), PLAN, 8, run="second")  # type: ignore[arg-type]
    following = Following(store, every=0.1)
    heard = Heard(following)
    assert heard.of_look() == Change(new=frozenset({"first", "second"}))
    line.met.clear()
    following.look()
    assert not [path for method, path, _ in line.met if method == "GET" and path.endswith(f"first/{DOCUMENT}")]
    grow(store, "first", 12)
    assert heard.of_look() == Change(changed=frozenset({"first"}))
    analyze(store, "second", bins=10)
    assert heard.of_look() == Change(changed=frozenset({"second"}))
    writer = RunWriter.resume(store, "first")
    assert heard.of_look() == Change(changed=frozenset({"first"}))
    assert following.runs["first"].status == "live"
    writer.close()
    heard.of_look()
    (locate(store) / "second").remove()
    assert heard.of_look() == Change(gone=frozenset({"second"}))
    following.close()


@pytest.mark.long
def test_an_object_store_that_does_not_answer_for_a_while(
    s3_line: tuple[str, Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipstore.remote._RETRY_SECONDS", 0.5)
    store, line = s3_line
    write_run(locate(store), PLAN, 8, run="first")  # type: ignore[arg-type]
    write_run(locate(store), PLAN, 8, run="second")  # type: ignore[arg-type]
    following = Following(store, every=3600)
    heard = Heard(following)
    heard.of_look()
    line.fault = lambda method, path: "unavailable"
    silent = heard.of_look()
    assert silent.problem is not None
    assert not silent.gone
    assert list(following.runs) == ["first", "second"]
    line.fault = lambda method, path: "unavailable" if path.endswith("second/.lease") else "none"
    assert heard.of_look() == Change(changed=frozenset({"second"}))
    assert following.problems.keys() == {"second"}
    assert list(following.runs) == ["first", "second"], "what was last known of it stays"
    line.fault = lambda method, path: "none"
    assert heard.of_look() == Change(changed=frozenset({"second"}))
    assert not following.problems
    following.close()
