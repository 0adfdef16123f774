"""The paper's figures, drawn from the runs of the experiments.

Their numbers are those of arXiv:1703.00810; each is named by what it shows. To add one, write what draws it and one
line in `PAPER_FIGURES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from ipstore import analysis
from ipstore.analysis import dynamics
from ipstore.analysis.reproduction.evidence import Evidence

__all__ = ["PAPER_FIGURES", "Drawing", "PaperFigure", "draw"]


@dataclass(frozen=True)
class Drawing:
    """A figure to be written as one file or several.

    Attributes
    ----------
    figure : HoloViews object
    files : sequence of str
        Names of the files, with the suffix of their format.
    """

    figure: Any
    files: Sequence[str]


@dataclass(frozen=True)
class PaperFigure:
    """One of the figures of the paper.

    Attributes
    ----------
    title : str
        What it shows, and its number in the paper.
    experiments : sequence of str
        Those whose runs it shows.
    draw : callable
        From the evidence to drawings, the first of them with a png that stands for the figure.
    """

    title: str
    experiments: Sequence[str]
    draw: Callable[[Evidence], list[Drawing]]


def _networks(evidence: Evidence) -> list[Drawing]:
    from ipstore.analysis.figures.animation import has_ffmpeg

    plane = evidence.plane("networks")
    last = int(plane["epoch"][-1])
    stored = plane["epoch"].values.tolist()
    films = ["fig2.gif", *(["fig2.mp4"] if has_ffmpeg() else [])]
    return [
        # The paper shows epochs 0, about 400 and about 9000 of 10,000.
        Drawing(analysis.figures.snapshots(plane, epochs=[0, round(0.04 * last), round(0.9 * last)]), ["fig2.png"]),
        Drawing(analysis.figures.snapshots(plane, epochs=stored), ["fig2.html"]),
        Drawing(analysis.figures.snapshots(plane), films),
    ]


def _over(evidence: Evidence, experiment: str, axis: str) -> xr.Dataset:
    """Put the planes of a sweep's runs together."""
    return evidence.sweep(experiment, axis, lambda run: evidence.plane(str(run.name)))


def _fractions(evidence: Evidence) -> list[Drawing]:
    plane = _over(evidence, "fractions", "train_fraction").sel(train_fraction=[0.05, 0.45, 0.85])
    return [Drawing(analysis.figures.sweep(plane), ["fig3.png", "fig3.html"])]


def _gradients(evidence: Evidence) -> list[Drawing]:
    drawings = []
    for run, stem in (("networks", "fig4"), (evidence.runs("rates")[0], "fig4-sgd")):
        training = evidence.training(run)
        crossing = dynamics.crossing(training)["crossing"]
        drawn = analysis.figures.gradients(training, crossing=crossing)
        drawings.append(Drawing(drawn, [f"{stem}.png", f"{stem}.html"]))
    return drawings


def _depths(evidence: Evidence) -> list[Drawing]:
    plane = _over(evidence, "depths", "hidden")
    return [Drawing(analysis.figures.sweep(plane), ["fig5.png", "fig5.html"])]


def _converged(evidence: Evidence) -> list[Drawing]:
    plane = _over(evidence, "fractions", "train_fraction")
    curve = evidence.bound(evidence.runs("fractions")[0])
    return [Drawing(analysis.figures.converged(plane, bound=curve), ["fig6.png", "fig6.html"])]


def _bound(evidence: Evidence) -> list[Drawing]:
    found = evidence.stand("networks")
    return [Drawing(analysis.figures.bound(found), ["fig7.png", "fig7.html"])]


def draw(evidence: Evidence, name: str, folder: Path) -> list[Path]:
    """Draw one of the figures, and write its files.

    Parameters
    ----------
    evidence : Evidence
    name : str
        Such as ``"fig2"``.
    folder : path
        Made if there is none.

    Returns
    -------
    list of path
        The first is a png that stands for the figure.
    """
    drawings = PAPER_FIGURES[name].draw(evidence)
    return [analysis.figures.save(each.figure, folder / file) for each in drawings for file in each.files]


PAPER_FIGURES: dict[str, PaperFigure] = {
    "fig2": PaperFigure(
        "Networks in the information plane as they train (the paper's figure 2)", ("networks",), _networks
    ),
    "fig3": PaperFigure(
        "Mean paths of the layers at 5, 45 and 85% training data (the paper's figure 3)", ("fractions",), _fractions
    ),
    "fig4": PaperFigure(
        "Mean and noise of the gradients, and where the one falls below the other (the paper's figure 4)",
        ("networks", "rates"),
        _gradients,
    ),
    "fig5": PaperFigure(
        "Mean paths of the layers of networks with 1 to 6 hidden layers (the paper's figure 5)", ("depths",), _depths
    ),
    "fig6": PaperFigure(
        "Where layers end, by the share of data trained on (the paper's figure 6)", ("fractions",), _converged
    ),
    "fig7": PaperFigure(
        "Converged layers beside the information-bottleneck curve (the paper's figure 7)", ("networks",), _bound
    ),
}
"""The figures by their numbers."""
