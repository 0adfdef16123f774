"""Analyses on a Dask cluster: who does the work, whether all can, and how they are kept busy."""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import xarray as xr

from ipstore.chunking import TASK_CELLS
from ipstore.errors import IpstoreError, MissingPackageError, StoreNotFoundError, UnreachableError, WorkerError
from ipstore.group import read_document
from ipstore.local import LocalPlace
from ipstore.places import Place, locate
from ipstore.version import __version__

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Cluster", "absolute", "connected", "current_cluster"]

_PATIENCE = 10
"""Seconds to wait for the scheduler, and then for its first worker: both may be starting up beside us."""

_SENT = ("xarray", "zarr")
"""Packages beside our own whose objects are sent to workers."""


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Have what is computed inside done by a Dask cluster, or as it would be done outside if there is no address.

    Parameters
    ----------
    address : str or None
        Of a Dask scheduler, such as ``"tcp://10.0.0.1:8786"``.

    Raises
    ------
    MissingPackageError
        If distributed is not installed.
    UnreachableError
        If no scheduler answers there.
    """
    if address is None:
        yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingPackageError(
            "a Dask scheduler is spoken to by the package distributed, which is not installed: "
            "pip install 'ipstore[distributed]'"
        ) from error
    from dask import config

    connect: Any = Client  # it carries no types
    try:
        # Not as the default: one that does not come about would stay that, and whatever is computed next wait for it.
        client = connect(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise UnreachableError(
            f"no Dask scheduler answers at {address!r} ({' '.join(str(error).split())}): give the address that "
            "`dask scheduler` prints, such as tcp://10.0.0.1:8786"
        ) from error
    with client, config.set(scheduler=client):
        yield


def current_cluster() -> "Cluster | None":
    """Give the cluster that Dask would have compute, if it is not this process: that of a `distributed.Client`."""
    from dask.base import get_scheduler

    choose: Any = get_scheduler  # it carries no types
    client = getattr(choose(), "__self__", None)
    return None if client is None else Cluster(client)


def absolute(place: Place) -> Place:
    """Name a place so that it is the same in whatever folder a process works."""
    return LocalPlace(place.path.absolute()) if isinstance(place, LocalPlace) else place


class Cluster:
    """The workers of a Dask scheduler, as an analysis uses them.

    Parameters
    ----------
    client : distributed.Client
    """

    task_cells = 4 * TASK_CELLS
    """(epoch, seed) cells of one task, at least, where the bytes allow: a task takes the scheduler a millisecond."""

    def __init__(self, client: "Client") -> None:
        self._client: Any = client  # whose methods carry no types
        self._held: list[Any] = []
        self._started: set[Any] = set()

    def check(self, run: Place) -> None:
        """Refuse to begin if a worker, or the scheduler, could not do its part.

        Raises
        ------
        UnreachableError
            If there are no workers.
        WorkerError
            If one of them has not the same ipstore as this process, or what it reads with.
        StoreNotFoundError
            If a worker does not see the run.
        """
        address = self._client.scheduler.address
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise UnreachableError(
                f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`, or let an "
                "adaptive cluster keep one at least"
            ) from error
        ours, created = _versions(), _created(str(run))
        try:
            theirs = {"the scheduler": self._client.run_on_scheduler(_versions)}
        except Exception as error:
            theirs = {"the scheduler": error}
        theirs |= {f"worker {name}": found for name, found in self._everywhere(_versions).items()}
        for name, found in theirs.items():
            if isinstance(found, Exception):
                raise WorkerError(
                    f"{name} of {address} cannot run ipstore ({type(found).__name__}: {found}): it needs ipstore "
                    f"{__version__} and the packages that this process has"
                )
            if different := [package for package in ours if found[package] != ours[package]]:
                told = ", ".join(f"{each} {found[each] or 'none'} where we have {ours[each]}" for each in different)
                raise WorkerError(f"{name} of {address} has {told}: install the same everywhere")
        for name, found in self._everywhere(_created, str(run)).items():
            if found != created:
                what = f"finds another run there, created at {found}" if isinstance(found, str) else f"says: {found}"
                raise StoreNotFoundError(
                    f"worker {name} does not see the run {str(run)!r} ({what}): workers read the store themselves, so "
                    "it must lie on a file system that all of them mount at that path, or in an object store"
                )

    def _everywhere(self, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
        """Call a function on every worker; what it raises is its answer."""
        answers: dict[str, Any] = self._client.run(function, *args, on_error="return")
        return answers

    def hold(self, shared: Any) -> Any:
        """Send what all tasks need to the cluster, once; if the worker that has it ends, it is made again."""
        with self._explained():
            held = self._client.persist(shared)
        self._held += self._client.futures_of(held)
        return held

    @property
    def threads(self) -> int:
        """How many tasks the workers, as many as there are now, do at a time."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def has_room(self, tasks: int) -> bool:
        """Whether workers may come to wait, if there are so many tasks beside those that are being waited for."""
        return tasks < 2 * self.threads

    def start(self, answers: xr.Dataset) -> Callable[[], xr.Dataset]:
        """Have a lazy Dataset computed, and give what waits for it.

        Returns
        -------
        callable
            It raises what a worker raised; WorkerError if workers ended while they had the same task, again and again,
            or could not load it; UnreachableError if the scheduler is lost.
        """
        with self._explained():
            future = self._client.compute(answers)
        self._started.add(future)

        def result() -> xr.Dataset:
            try:
                with self._explained():
                    found: xr.Dataset = future.result()
                    return found
            finally:
                self._started.discard(future)
                future.release()

        return result

    def drop(self) -> None:
        """Give up what was started and not waited for."""
        while self._started:
            self._started.pop().release()

    def close(self) -> None:
        """Leave nothing on the cluster."""
        self.drop()
        while self._held:
            self._held.pop().release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from distributed import KilledWorker
        from distributed.comm.core import CommClosedError

        kept = "what was stored is kept, and the same call goes on from there"
        try:
            yield
        except IpstoreError:
            raise
        except KilledWorker as error:
            raise WorkerError(
                f"{error.allowed_failures + 1} workers in turn ended while they had the same task, as they do where "
                f"memory is short; {kept}"
            ) from error
        except ImportError as error:
            raise WorkerError(f"a worker lacks what it was sent ({error}): install it there; {kept}") from error
        except (CancelledError, CommClosedError, TimeoutError) as error:
            address = self._client.scheduler.address if self._client.scheduler else "a closed client"
            raise UnreachableError(f"the Dask scheduler at {address} was lost ({error}); {kept}") from error


def _versions() -> dict[str, str | None]:
    """Versions of the packages that must be the same everywhere."""
    return {"ipstore": __version__, **{name: _version(name) for name in _SENT}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _created(run: str) -> str:
    """When a run was made, by its own record: this tells it from any other."""
    return str(read_document(locate(run))["attributes"]["created_at"])
