"""Writing a run: blocks in, commits out; and the thread that does it beside the training."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.block import Block
from ipstore.errors import IpstoreError, ResumeError, RunExistsError, RunLockedError, StoreWriteError
from ipstore.format import FORMAT, FORMAT_VERSION, check_store, make_store
from ipstore.group import GrowingGroup, read_document, remove_group, utc_now
from ipstore.places import DOCUMENT, Location, Place, locate
from ipstore.plan import RunPlan, require_space
from ipstore.results import open_result
from ipstore.schema import check_name
from ipstore.state import read_state, write_state

__all__ = ["BackgroundWriter", "RunWriter", "Status"]

Status = Literal["running", "interrupted", "finished"]


class RunWriter:
    """The one writer of a run.

    Blocks of different seeds may come in any order; a commit covers a shard of epochs that all seeds have.

    Attributes
    ----------
    place : Place
        The run's group.
    attrs : dict
        The run's attributes.
    """

    def __init__(self, group: GrowingGroup) -> None:
        self._group = group
        self.place: Place = group.place
        self.attrs = group.attrs
        self._seeds: list[int] = group.attrs["seeds"]
        self._progress = np.full(len(self._seeds), group.epochs)
        self._windows: dict[int, _Window] = {}

    @classmethod
    def create(cls, store: Location, run: str, plan: RunPlan, epochs: int, *, overwrite: bool = False) -> "RunWriter":
        """Create a run, and the store where there is none yet.

        Parameters
        ----------
        store : path or URL
        run : str
        plan : RunPlan
        epochs : int
            Epochs that will be captured: what the free space is compared with.
        overwrite : bool
            Whether a run of that name may be removed first.

        Raises
        ------
        RunExistsError, RunLockedError, SpaceError, NotAStoreError, FormatVersionError, StoreWriteError
        """
        place = locate(store) / check_name("run", run)
        try:
            make_store(place.parent)
            exists = place.exists(DOCUMENT)
            if exists and not overwrite:
                if place.is_leased():
                    raise RunLockedError(
                        f"run {run!r} in {str(store)!r} is being written, by another process or one that is still open "
                        "in this: wait until it ends, close it, or choose another name"
                    )
                raise RunExistsError(
                    f"run {run!r} exists already in {str(store)!r}: continue it (--resume, in Python resume=True), "
                    "replace it (--overwrite, overwrite=True), or choose another name"
                )
            free = place.parent.free_bytes()
            if free is not None:
                require_space(plan, epochs, free + sum(place.sizes().values()))
            if exists:
                remove_group(place)
            attrs = {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "status": "running",
                "created_at": utc_now(),
                "level": plan.level,
                "layers": list(plan.layers),
                "seeds": list(plan.seeds),
                "diverged": {},
                **({"binning": plan.binning.to_attrs()} if plan.level == "codes" and plan.binning else {}),
                **plan.attrs,
            }
            group = GrowingGroup.create(
                place,
                plan.arrays,
                [*plan.coordinates, *plan.probe],
                attrs,
                shard_epochs=plan.shard_epochs,
                group_attrs={"activations": {"layers": list(plan.layers)}},
            )
        except OSError as error:
            if isinstance(error, IpstoreError):
                raise
            raise StoreWriteError(f"cannot create run {run!r} in {str(store)!r}: {error}") from error
        return cls(group)

    @classmethod
    def resume(cls, store: Location, run: str) -> "RunWriter":
        """Open a run to continue it from its last commit.

        Parameters
        ----------
        store : path or URL
        run : str

        Raises
        ------
        StoreNotFoundError, RunLockedError, FormatVersionError, NotAStoreError, StoreWriteError
        """
        check_store(locate(store))
        place = locate(store) / check_name("run", run)
        try:
            read_document(place, "run")
            return cls(GrowingGroup.resume(place))
        except OSError as error:
            if isinstance(error, IpstoreError):
                raise
            raise StoreWriteError(f"cannot continue run {run!r} in {str(store)!r}: {error}") from error

    @property
    def epochs(self) -> int:
        """Number of committed epochs along ``epoch``."""
        return self._group.epochs

    @property
    def last_epoch(self) -> int | None:
        """Completed epochs at the last commit; None before the first."""
        last: int | None = self.attrs["commit"].get("last_epoch")
        return last

    @property
    def shard_epochs(self) -> int:
        """Epochs per shard: what a whole block holds."""
        return self._group.shard_epochs("digest/crc32c")

    def state(self) -> dict[str, NDArray[Any]]:
        """Give the resume state at the last commit, each array (seed, ...); empty before the first.

        Raises
        ------
        CorruptionError
        """
        commit = self.attrs["commit"]
        if "state" not in commit:
            return {}
        return read_state(self.place, commit["state"], commit["state_crc32c"])

    def write(self, block: Block) -> bool:
        """Write a block, then commit if it completes a shard of epochs for all seeds.

        Parameters
        ----------
        block : Block
            Beginning where the last block of its seeds ended, within one shard.

        Returns
        -------
        bool
            Whether something was committed.

        Raises
        ------
        StoreWriteError
            The last commit stands, and the run can be resumed from it.
        RunLockedError
            The lease was lost; what the other writer published stands.
        """
        if (self._progress[block.seeds] != block.start).any():
            raise ValueError(f"a block from {block.start} does not follow epochs {self._progress[block.seeds]}")
        first = block.start // self.shard_epochs * self.shard_epochs
        try:
            try:
                self._take(block, self._windows.setdefault(first, _Window(max(first, self.epochs))))
            finally:
                block.release()
            if self._progress.min() < first + self.shard_epochs:
                return False
            self._commit(first)
        except RunLockedError:
            raise
        except OSError as error:
            raise self._failure(error) from error
        return True

    def take_back(self, last_epoch: int) -> None:
        """Withdraw what was captured after an epoch, and the results that know of it.

        Parameters
        ----------
        last_epoch : int
            Completed epochs of the last entry that may remain.

        Raises
        ------
        ResumeError
            If none would.
        RunLockedError
            If such a result is being written, or the lease was lost.
        StoreWriteError
        """
        captured = self._group.read("epoch")
        kept = int(np.searchsorted(captured, last_epoch, side="right"))
        if kept == len(captured):
            return
        if not kept:
            raise ResumeError(
                f"run {self.place.name!r} was captured from epoch {captured[0]} on, so it cannot go on from epoch "
                f"{last_epoch}: replace it"
            )
        try:
            for name in (self.place / "results").groups():
                if (open_result(self.place, name)["epoch"] > last_epoch).any():
                    remove_group(self.place / "results" / name)
            lost = self.attrs["diverged"]
            self.attrs["diverged"] = {seed: epoch for seed, epoch in lost.items() if epoch <= last_epoch}
            self._group.take_back(kept, {**self._standing_record(), "last_epoch": int(captured[kept - 1])})
        except RunLockedError:
            raise
        except OSError as error:
            raise self._failure(error) from error
        self._progress[:] = kept

    def finish(self, status: Status) -> None:
        """Commit what all seeds have reached, and say how the run ended.

        Parameters
        ----------
        status : {"running", "interrupted", "finished"}

        Raises
        ------
        StoreWriteError
        """
        self.attrs["status"] = status
        reached = int(self._progress.min())
        first = self.epochs // self.shard_epochs * self.shard_epochs
        try:
            if reached > self.epochs and reached == int(self._progress.max()):
                self._commit(first)
            else:
                self._group.publish(self.epochs, self._standing_record())
        except RunLockedError:
            raise
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Give the lease back."""
        self._group.close()

    def _take(self, block: Block, window: "_Window") -> None:
        count = len(block.epochs)
        try:
            for path, values in block.arrays.items():
                if self._group.is_per_seed(path):
                    self._group.write(path, block.start, values[:count], block.seeds)
            block.take_digests(self.attrs["layers"])  # while the shards are being written
            for path, values in block.arrays.items():
                if not self._group.is_per_seed(path):
                    window.add(path, values[:count], block.seeds, len(self._progress))
        finally:
            self._group.flush()
        window.epochs = list(block.epochs)
        failed = ~np.isfinite(block.arrays["training/loss"][:count, :, 0]) if block.failed is None else block.failed
        for seed, lost in enumerate(failed.T, block.seeds.start):
            if lost.any():
                window.failed[seed] = window.epochs[int(lost.argmax())]
        for name, state in block.state.items():
            window.add_state(name, state, block.seeds, len(self._progress))
        self._progress[block.seeds] += count

    def _commit(self, first: int) -> None:
        window = self._windows.pop(first)
        self._group.write("epoch", window.start, np.array(window.epochs, np.int64))
        for path, values in window.arrays.items():
            self._group.write(path, window.start, values)
        for seed, epoch in sorted(window.failed.items()):
            self.attrs["diverged"].setdefault(str(self._seeds[seed]), epoch)
        sequence = int(self.attrs["commit"]["sequence"]) + 1
        before = self.attrs["commit"].get("state")
        record: dict[str, Any] = {"last_epoch": window.epochs[-1]}
        if window.state:
            key = f"state/{sequence}.safetensors"
            record |= {"state": key, "state_crc32c": write_state(self.place, key, window.state)}
        self._group.publish(window.start + len(window.epochs), record)
        if before and before != record.get("state"):
            with suppress(OSError):  # the commit stands; whoever resumes sweeps, and the next state will not be written
                self.place.delete([before])

    def _standing_record(self) -> dict[str, Any]:
        commit = self.attrs["commit"]
        return {key: commit[key] for key in ("last_epoch", "state", "state_crc32c") if key in commit}

    def _failure(self, error: Exception) -> StoreWriteError:
        stands = f"it stands as committed, to epoch {self.last_epoch}" if self.epochs else "nothing was committed yet"
        return StoreWriteError(
            f"writing run {self.place.name!r} failed: {error}; {stands}. Mend the cause, then continue it "
            "(--resume, in Python resume=True)"
        )


class _Window:
    """The small arrays of one shard of epochs, gathered until every seed has come."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.epochs: list[int] = []
        self.arrays: dict[str, NDArray[Any]] = {}
        self.state: dict[str, NDArray[Any]] = {}
        self.failed: dict[int, int] = {}  # seeds, each with the epoch at which it did

    def add(self, path: str, values: NDArray[Any], seeds: slice, total: int) -> None:
        shape = (len(values), total, *values.shape[2:])
        self.arrays.setdefault(path, np.empty(shape, values.dtype))[:, seeds] = values

    def add_state(self, name: str, values: NDArray[Any], seeds: slice, total: int) -> None:
        self.state.setdefault(name, np.empty((total, *values.shape[1:]), values.dtype))[seeds] = values


class BackgroundWriter:
    """A thread that writes blocks while the next ones are trained.

    Parameters
    ----------
    writer : RunWriter
    on_commit : callable
        Called in the thread after each commit.
    """

    def __init__(self, writer: RunWriter, on_commit: Callable[[], None]) -> None:
        self._writer = writer
        self._on_commit = on_commit
        self._blocks: queue.SimpleQueue[Block | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._told = False
        self._thread = threading.Thread(target=self._work, name="ipstore-writer", daemon=True)
        self._thread.start()

    def put(self, block: Block) -> None:
        """Hand a block over; its memory comes back through ``block.release``.

        The number of blocks that their maker owns bounds what waits here.

        Raises
        ------
        StoreWriteError
            What the thread met since the last call.
        """
        self.check()
        self._blocks.put(block)

    def check(self) -> None:
        """Raise what the thread met, if anything, once; it writes no more."""
        if self._error is not None and not self._told:
            self._told = True
            raise self._error

    def close(self) -> None:
        """Wait until everything handed over is written; raise what the thread met."""
        self._blocks.put(None)
        self._thread.join()
        self.check()

    def _work(self) -> None:
        while (block := self._blocks.get()) is not None:
            if self._error is not None:
                block.release()  # a trainer that waits for memory comes to its next `put`, and hears of it
                continue
            try:
                if self._writer.write(block):
                    self._on_commit()
            except BaseException as error:
                self._error = error  # raised in the training loop, by `check`
