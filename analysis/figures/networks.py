"""Every network in the information plane at chosen epochs: the paper's figure 2."""

from collections.abc import Sequence
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from ipstore.analysis.figures.bottleneck import under
from ipstore.analysis.figures.composing import Frame, framed
from ipstore.analysis.figures.epochs import log_spaced
from ipstore.analysis.figures.frame import I_TY, I_XT, INK, layer_colours, reference_lines, styled
from ipstore.analysis.figures.planes import SATURATION, limits, prepare, saturated
from ipstore.analysis.figures.wording import count, heading, saturation_words
from ipstore.errors import ParameterError

__all__ = ["snapshots"]

_EPOCHS = 40


def snapshots(
    plane: xr.Dataset,
    epochs: Sequence[int] | None = None,
    layers: Sequence[str] | None = None,
    *,
    saturation: float = SATURATION,
    bound: xr.Dataset | None = None,
) -> Any:
    """Draw every network in the information plane, one frame per epoch, one colour per layer.

    In html the frames lie under a slider; as png or svg they stand in a row; as gif or mp4 they are a film (`save`).

    Parameters
    ----------
    plane : Dataset
        I_XT and I_TY (epoch, seed, layer), in bits, with its attrs; see `information_plane`.
    epochs : sequence of int, optional
        For each the nearest stored epoch is shown, once; 40 log-spaced ones at most by default.
    layers : sequence of str, optional
        Which layers; all by default.
    saturation : float
        A frame names the layers whose mean I(X;T) lies within so many bits of H(X).
    bound : Dataset, optional
        The information-bottleneck curve of the same p(y|x), drawn under the networks; see `information_plane`.

    Returns
    -------
    holoviews.HoloMap
        Over the epoch, with options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `epochs` is empty, `plane` is no information plane, or `bound` is no curve of its p(y|x).
    UnknownNameError
        A layer that the plane does not have.

    References
    ----------
    Shwartz-Ziv and Tishby 2017, arXiv 1703.00810, figure 2.
    """
    plane = prepare(plane, layers)
    stored = plane["epoch"].values
    if epochs is None:
        chosen = log_spaced(stored, _EPOCHS)
    elif len(epochs) == 0:
        raise ParameterError(
            f"epochs is empty; give epochs between {stored[0]} and {stored[-1]}, or None to choose for you"
        )
    else:
        chosen = np.unique([np.abs(stored - epoch).argmin() for epoch in epochs])
    box = limits(plane)
    curve, words = under(bound, plane)
    lines = curve * reference_lines(plane, box)
    title = heading(plane, "Networks in the information plane", count(plane.sizes["seed"], "seed"))
    finite = plane["I_XT"].notnull()
    full = saturated(plane, saturation)
    notes = ["One point per network and layer.", *words]
    if bool(full.isel(epoch=chosen).any()):
        notes.append(
            f"Saturated: {saturation_words(plane, saturation)}, nearly every input in a cell of its own, so that "
            "I(X;T) can tell no more."
        )
    if absent := int((~finite).sum()):
        notes.append(f"Left out: NaN, as after divergence, in {absent:,} of {finite.size:,} cells.")

    frames = {}
    for i in chosen:
        present = finite.isel(epoch=i)
        shown, every = int(present.any("layer").sum()), plane.sizes["seed"]
        about = [
            f"epoch {stored[i]}",
            count(every, "network") if shown == every else f"{shown} of {every} networks",
        ]
        if names := [str(name) for name in plane["layer"].values[full.isel(epoch=i).values]]:
            about.append(f"saturated: {', '.join(names)}")
        frames[int(stored[i])] = framed(
            lines * _networks(plane.isel(epoch=i)),
            Frame(f"{title}\n{' · '.join(about)}", notes, box, legend=True, of=title),
        )
    return hv.HoloMap(frames, kdims=[hv.Dimension("epoch", type=int)])


def _networks(plane: xr.Dataset) -> Any:
    """One Points element per layer."""
    layers = [str(name) for name in plane["layer"].values]
    overlay = {}
    for layer, colour in zip(layers, layer_colours(len(layers)), strict=True):
        one = plane.sel(layer=layer).dropna("seed")
        points = hv.Points((one["I_XT"].values, one["I_TY"].values, one["seed"].values), [I_XT, I_TY], "seed")
        overlay[layer] = styled(
            points,
            color=colour,
            alpha=0.85,
            bokeh={"size": 9, "line_color": INK, "line_width": 0.5, "tools": ["hover"]},
            matplotlib={"s": 36, "edgecolor": INK, "linewidth": 0.4},
        )
    return hv.NdOverlay(overlay, kdims="layer", sort=False)
