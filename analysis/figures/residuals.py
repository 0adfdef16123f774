"""The residual of the self-consistent equations against the epoch, below the distances that bound it."""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from ipstore.analysis.figures.curves import band, curve, curve_panels, sheet_of_layers
from ipstore.analysis.figures.epochs import EpochScale, log_spaced
from ipstore.analysis.figures.frame import GREY
from ipstore.analysis.figures.key import Entry
from ipstore.analysis.figures.panels import arrange
from ipstore.analysis.figures.standing import cap_words, prepare_bound
from ipstore.analysis.figures.wording import estimator, label_words

__all__ = ["residual"]

_EPOCHS = 120
_SEEDS = (0.1, 0.9)
_RESIDUAL, _BAND, _DISTANCE = "#21618c", "#b5cbdc", "#c1121f"
_ROUNDING = 1e-6  # bits


def residual(found: xr.Dataset, layers: Sequence[str] | None = None) -> Any:
    """Draw how far each layer is from self-consistency, against the epoch.

    One column per layer with a common scale: the residual J at beta*, as the mean over the seeds in a band that holds
    the middle 80% of them, and thin above it what it cannot exceed: the layer's distance to the IB curve at equal
    I(T;Y), and I(X;T), which is the residual at beta = 0.

    Parameters
    ----------
    found : Dataset
        Over (epoch, seed, layer) residual, residual_at_0 and IB_distance_I_XT, in bits, with the rest of what the bound
        of a run has.
    layers : sequence of str, optional
        Which layers; all by default.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `found` is no bound of a run.
    UnknownNameError
        A layer that is not there.

    References
    ----------
    The equations: Tishby, Pereira and Bialek 1999, arXiv physics/0004057, theorem 4.
    """
    standing = prepare_bound(found, layers)
    every = standing.layers
    few = every.isel(epoch=log_spaced(every["epoch"].values, _EPOCHS))
    mean = few.mean("seed")
    lines = {name: mean[name].rename("residual") for name in ("residual", "IB_distance_I_XT", "residual_at_0")}
    low, high = (few["residual"].quantile(level, "seed").drop_vars("quantile") for level in _SEEDS)
    several = every.sizes["seed"] > 1

    def draw(_: str, layer: str, scale: EpochScale) -> Any:
        one = {name: line.sel(layer=layer) for name, line in lines.items()}
        strokes = (
            curve(one["residual_at_0"], scale, GREY, {"layer": layer, "shown": "I(X;T)"}, width=1)
            * curve(one["IB_distance_I_XT"], scale, _DISTANCE, {"layer": layer, "shown": "distance"}, width=1)
            * curve(one["residual"], scale, _RESIDUAL, {"layer": layer, "shown": "J"})
        )
        if not several:
            return strokes
        return band(low.sel(layer=layer), high.sel(layer=layer), scale, _RESIDUAL, alpha=0.3) * strokes

    return arrange(
        curve_panels(every, {"residual": [*lines.values(), low, high]}, draw),
        sheet_of_layers([str(name) for name in every["layer"].values]),
        title=f"Residual of the self-consistent equations · run {every.attrs['source_run']}",
        details=[" · ".join([label_words(every), f"estimator: {estimator(every)}", standing.seeds])],
        notes=[
            "J: mean over the inputs of KL(p(t|x) || p_β(t|x)) at β*, where p_β(t|x) is the encoder that the layer's "
            "own p(t) and p(y|t) ask for; 0 for an optimal encoder, and never more than the distance.",
            "Distance: from the IB curve to the layer at equal I(T;Y), at most. "
            f"Lines: {'means over seeds; band: the middle 80% of the seeds' if several else 'the one seed'}.",
            *cap_words(every),
            *_excess_note(every),
            *standing.notes,
        ],
        key=(
            "",
            [
                Entry("residual J at β*", _RESIDUAL),
                *([Entry("80% of the seeds", _BAND, area=True)] if several else []),
                Entry("distance to the IB curve", _DISTANCE),
                Entry("I(X;T), the residual at β = 0", GREY),
            ],
        ),
    )


def _excess_note(layers: xr.Dataset) -> list[str]:
    """Tell where the residual lies above the distance, which it cannot."""
    over = layers["residual"] - layers["IB_distance_I_XT"]
    crossed = int((over > _ROUNDING).sum())
    if not crossed:
        return []
    return [
        f"In {crossed:,} of {int(over.notnull().sum()):,} cells J lies above the distance, by up to "
        f"{float(over.max()):.2g} bits, which only an error of the distance can do."
    ]
