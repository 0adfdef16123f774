"""Questions about a stored run: information under any estimator, as lazy labelled arrays.

Importing it gives trees, datasets and arrays of xarray the accessor ``.ip``.
"""

from ipstore.analysis import accessor, estimators
from ipstore.analysis.plane import information_plane
from ipstore.analysis.stored import analyze
from ipstore.analysis.summaries import summary

__all__ = ["accessor", "analyze", "estimators", "information_plane", "summary"]
