"""Handwritten digits: 1797 images of 8 by 8 pixels, real data that comes with scikit-learn.

They are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI Machine Learning
Repository, 1998), written by 13 people. A network that learns them within seconds is ``hidden=(20, 10, 6, 4)`` with
tanh or ReLU, at a learning rate of 0.1 in batches of 128 for 300 epochs.
"""

import numpy as np

from ipstore.errors import MissingPackageError
from ipstore.trainers.tasks.base import Task

__all__ = ["digits"]

_BRIGHTEST = 16


def digits() -> Task:
    """All 1797 images, equally probable, each with its digit for certain.

    No two of the images are the same. They are a sample of all the digits that could be written, so
    that estimates over them are corrected for that.

    Returns
    -------
    Task
        ``x`` (sample, 64) is the brightness of the pixels, row by row, in [0, 1].

    Raises
    ------
    MissingPackageError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingPackageError(
            "the task 'digits' is read from scikit-learn, which is not installed: pip install 'ipstore[train]'"
        ) from error
    pixels, y = load_digits(return_X_y=True)
    n = len(y)
    return Task(
        x=pixels / _BRIGHTEST, p_x=np.full(n, 1 / n), p_y_given_x=np.eye(10)[y], x_id=np.arange(n), population=False
    )
