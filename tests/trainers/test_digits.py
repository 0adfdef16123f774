"""The task of handwritten digits, against scikit-learn's own loader and what is published of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ipstore.errors import MissingPackageError
from ipstore.trainers import TrainConfig, capture, tasks


def test_digits_are_scikit_learns_images_with_their_labels() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    task, published = tasks.load("digits"), sklearn.load_digits()
    np.testing.assert_array_equal(task.x.reshape(-1, 8, 8) * 16, published.images)
    np.testing.assert_array_equal(task.y, published.target)
    assert (task.labels, task.population) == ("hard", False)
    # Of each digit as many as its documentation says, between 174 and 183.
    counts = np.bincount(task.y)
    assert (counts.min(), counts.max(), counts.sum()) == (174, 183, 1797)
    share = counts / 1797
    assert pytest.approx(-(share * np.log2(share)).sum(), abs=1e-12) == task.I_XY


def test_equal_ids_would_be_equal_images() -> None:
    assert len(np.unique(tasks.load("digits").x, axis=0)) == 1797


def test_digits_without_scikit_learn_say_what_to_install() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from ipstore.errors import MissingPackageError\n"
        "from ipstore.trainers import tasks\n"
        "try: tasks.load('digits')\n"
        "except MissingPackageError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'ipstore[train]'" in said
    assert issubclass(MissingPackageError, ImportError)


@pytest.mark.long
def test_the_recipe_learns_digits_in_seconds(tmp_path: Path) -> None:
    config = TrainConfig(hidden=(20, 10, 6, 4), learning_rate=0.1, batch_size=128, epochs=200)
    run = capture(tasks.load("digits"), tmp_path / "s.zarr", "digits", config, seeds=range(2), level="codes", every=100)
    assert run["training/accuracy"].sel(split="test").isel(epoch=-1).mean() > 0.9
