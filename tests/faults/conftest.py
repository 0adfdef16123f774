"""How long the fault tests go on, and disks to be faulty.

``IPSTORE_LONG=full`` makes the long form of every trial; ``IPSTORE_FAULT_MINUTES=N`` repeats the random ones, with
fresh seeds, for N minutes in all; ``IPSTORE_FAULT_SEED=N`` repeats the one that printed this seed.
"""

import os
import random
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from tests.faults.disks import Disk, DiskNotPermitted

Trials = Callable[[int, int], Iterator[random.Random]]

_SHARERS = pytest.StashKey[int]()


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[_SHARERS] = sum("trials" in getattr(item, "fixturenames", ()) for item in session.items)


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> Trials:
    """Random numbers for so many trials in the short form, so many in the long one, or for its share of the time."""
    minutes = float(os.environ.get("IPSTORE_FAULT_MINUTES", 0))
    share = 60 * minutes / request.config.stash[_SHARERS]

    def repeat(short: int, long: int) -> Iterator[random.Random]:
        count = long if os.environ.get("IPSTORE_LONG") == "full" else short
        seeds = iter(range(count))
        if minutes:
            end = monotonic() + share
            seeds = iter(lambda: random.SystemRandom().getrandbits(32) if monotonic() < end else -1, -1)
        if "IPSTORE_FAULT_SEED" in os.environ:
            seeds = iter([int(os.environ["IPSTORE_FAULT_SEED"])])
        for seed in seeds:
            print(f"IPSTORE_FAULT_SEED={seed}")
            yield random.Random(seed)

    return repeat


@pytest.fixture
def make_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Disk]]:
    """Make file systems that are gone after the test; the test is skipped where that is not permitted."""
    disks = []

    def make(kind: str = "ext4", megabytes: int = 64) -> Disk:
        try:
            disks.append(Disk(tmp_path_factory.mktemp("disk"), kind, megabytes))
        except DiskNotPermitted as error:
            pytest.skip(f"needs to mount a file system: {error}")
        return disks[-1]

    yield make
    for disk in disks:
        disk.remove()
