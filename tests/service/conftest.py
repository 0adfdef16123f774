"""What the tests of the service share."""

from pathlib import Path

import pytest

from ipstore.analysis import analyze
from ipstore.trainers import TrainConfig, capture, tasks


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two small runs, one of them analysed; for reading only."""
    path = tmp_path_factory.mktemp("service") / "secret-runs.zarr"
    config = TrainConfig(hidden=(3,), epochs=5)
    for name in ("one", "two"):
        capture(tasks.load("rule"), path, name, config, seeds=range(2), processes=0)
    analyze(path, "one", estimator="binned", bins=10)
    return path
