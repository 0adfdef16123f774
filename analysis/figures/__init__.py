"""Figures of the information plane, as HoloViews objects that render under bokeh and matplotlib alike.

A new figure is a function from one Dataset or several to a HoloViews object, in a module of its own, and one line in
`FIGURES`. In a notebook, ``hv.extension("bokeh")`` makes HoloViews show them, as always.
"""

from ipstore.analysis.figures.bands import bounds
from ipstore.analysis.figures.betas import beta
from ipstore.analysis.figures.comparison import compare
from ipstore.analysis.figures.convergence import converged
from ipstore.analysis.figures.figure import Figure
from ipstore.analysis.figures.files import check_path, save
from ipstore.analysis.figures.grids import sensitivity
from ipstore.analysis.figures.histograms import activations
from ipstore.analysis.figures.learning import training
from ipstore.analysis.figures.networks import snapshots
from ipstore.analysis.figures.norms import gradients
from ipstore.analysis.figures.on_bound import bound
from ipstore.analysis.figures.over_epochs import information
from ipstore.analysis.figures.residuals import residual
from ipstore.analysis.figures.sweeps import sweep
from ipstore.analysis.figures.trajectories import information_plane

__all__ = [
    "FIGURES",
    "Figure",
    "activations",
    "beta",
    "bound",
    "bounds",
    "check_path",
    "compare",
    "converged",
    "gradients",
    "information",
    "information_plane",
    "residual",
    "save",
    "sensitivity",
    "snapshots",
    "sweep",
    "training",
]

FIGURES: dict[str, Figure] = {
    "plane": Figure(information_plane, "one plane", "the trajectory of every layer"),
    "snapshots": Figure(snapshots, "one plane", "every network at chosen epochs", frames=True),
    "information": Figure(information, "one plane", "information of every layer over the epochs"),
    "sensitivity": Figure(
        sensitivity,
        "one plane with a grid",
        "how information over the epochs depends on a parameter",
        ("binned:bins=5,10,30",),
    ),
    "compare": Figure(
        compare, "two planes or more", "planes side by side on the same axes", ("binned", "quantised", "kde_upper")
    ),
    "bounds": Figure(
        bounds, "a lower and an upper bound", "the band between two bounds over the epochs", ("kde_lower", "kde_upper")
    ),
    "bound": Figure(bound, "a bound", "layers beside the bottleneck curve, and their distances to it"),
    "beta": Figure(beta, "a bound", "beta* of the layers, by depth and over the epochs"),
    "residual": Figure(residual, "a bound", "how far the layers are from self-consistency"),
    "sweep": Figure(sweep, "a sweep", "the trajectories at every value of a setting, side by side"),
    "converged": Figure(converged, "a sweep", "where every layer ends, at every value of a setting"),
    "gradients": Figure(gradients, "a run's training", "mean and noise of the gradients: drift and diffusion", ()),
    "training": Figure(training, "a run's training", "loss and accuracy over the epochs", ()),
    "activations": Figure(
        activations, "a layer's activity", "histograms of the units of a layer, saturation and bins in use"
    ),
}
"""The figures by the names that ``ipstore plot`` knows them by."""
