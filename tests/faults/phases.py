"""What a capture does to a store, in parts short enough that every call of them can be gone through."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.faults import injection
from tests.faults.children import Child, Outcome, Work, assert_finished, assert_kept, committed

__all__ = ["PHASES", "Phase"]

_WORK = Work(epochs=10)
_BEFORE = replace(_WORK, epochs=5)  # six epochs: the last shard is partial
_OTHER = Work(epochs=6, hidden=(4,), seeds=(1,), level="codes")


@dataclass(frozen=True)
class Phase:
    """A part of a capture.

    Attributes
    ----------
    name : str
    before : Work or None
        What the store holds when it begins.
    action : callable
        Takes the store and ``on_progress``.
    """

    name: str
    before: Work | None
    action: Callable[..., Any]

    def prepare(self, store: Path) -> None:
        """Make the store as it is when the phase begins."""
        if self.before:
            self.before.capture(store)

    def run(self, store: Path, number: int, act: Callable[[], None], only: str = "") -> Outcome:
        """Do it in a child, and `act` before its call of that number; see `injection.at_call`."""
        return Child(partial(injection.at_call, store, number, act, partial(self.action, store), only=only)).outcome()

    @cache  # noqa: B019 - there are three phases, for good
    def count_calls(self, only: str = "") -> int:
        """Count its calls of the file system that change something."""
        with TemporaryDirectory() as folder:
            store = Path(folder) / "store"
            self.prepare(store)
            count = self.run(store, 0, injection.kill, only).result
        assert isinstance(count, int)
        assert count > 10
        return count

    def any_call(self, rng: random.Random) -> int:
        """Choose a call; often one of the first, with which a store, a run and a lease begin."""
        return rng.randint(1, rng.choice([10, self.count_calls()]))

    def go_on(self, store: Path) -> None:
        """After whatever stopped it."""
        if self.action is _replace:
            _WORK.capture(store, overwrite=True)
        else:
            _WORK.proceed(store)

    def assert_survived(self, store: Path, outcome: Outcome) -> None:
        """What was committed before it was stopped is kept, and going on gives the same bits."""
        assert_kept(store, outcome.acknowledged)
        if self.action is _proceed and self.before:
            assert committed(store) > self.before.epochs
        self.go_on(store)
        assert_finished(store, _WORK)


_proceed, _replace = _WORK.proceed, partial(_WORK.capture, overwrite=True)

PHASES = (
    Phase("begin", None, _proceed),
    Phase("continue a partial shard", _BEFORE, _proceed),
    Phase("replace", _OTHER, _replace),
)
