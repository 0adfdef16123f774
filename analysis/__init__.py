"""Questions about a stored run: information under any estimator, as lazy labelled arrays.

Importing it gives trees, datasets and arrays of xarray the accessor ``.ip``.
"""

from ipstore.analysis import accessor, estimators
from ipstore.analysis.plane import information_plane

__all__ = ["accessor", "estimators", "information_plane"]
