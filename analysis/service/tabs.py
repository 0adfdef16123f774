"""The tabs of a page that draw: planes side by side, and quantities against the epoch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import panel as pn

from ipstore.analysis import figures
from ipstore.analysis.figures.frame import layer_colours
from ipstore.analysis.service.choice import Choice, Drawn, Result, layers_of, result_words
from ipstore.analysis.service.drawn import Lines
from ipstore.analysis.service.views import LinesView, PlaneView

__all__ = ["BoundTab", "DynamicsTab", "PlaneTab", "Tab"]

_SPLITS = {"train": "#0072b2", "test": "#d55e00"}  # told apart by everyone (Okabe and Ito)

_QUANTITIES = {
    "I_XT": "I(X;T) [bits]",
    "I_TY": "I(T;Y) [bits]",
    "loss": "loss",
    "accuracy": "accuracy",
    "grad_mean_norm": "norm of the mean gradient",
    "grad_std_norm": "norm of its standard deviation",
}
_TITLES = {
    "I_XT": "I(X;T)",
    "I_TY": "I(T;Y)",
    "loss": "Loss",
    "accuracy": "Accuracy",
    "grad_mean_norm": "Drift: mean of the gradients",
    "grad_std_norm": "Diffusion: their standard deviation",
}


class Tab(Protocol):
    """A part of a page that shows what was chosen."""

    body: Any
    """What Panel shows of it."""

    def show(self, drawn: Drawn, choice: Choice, epoch: int) -> None:
        """Draw; where only more epochs have come, without drawing anew."""

    def choose(self, layers: Sequence[str]) -> None:
        """Show these layers."""

    def move(self, epoch: int, seed: int | None) -> None:
        """Show this epoch and mark this seed."""


class PlaneTab:
    """The information planes of what was chosen, side by side.

    Parameters
    ----------
    on_tap : callable
        Called with the seed, or None, and the epoch of a point that a person selects.
    """

    def __init__(self, on_tap: Callable[[int | None, int], None]) -> None:
        self._on_tap = on_tap
        self._views: dict[Result, PlaneView] = {}
        self._curves: tuple[str, ...] = ()
        self.body = pn.FlexBox(sizing_mode="stretch_width")

    def show(self, drawn: Drawn, choice: Choice, epoch: int) -> None:
        """Draw; where only more epochs have come, without drawing anew."""
        layers = layers_of(choice, drawn.layers)
        same = tuple(self._views) == drawn.shown and self._curves == tuple(drawn.curves)
        if same and all(view.show(drawn.planes[key], epoch, choice.seed) for key, view in self._views.items()):
            self.choose(layers)
            return
        self._curves = tuple(drawn.curves)
        self._views = {}
        for key in drawn.shown:
            title = f"{key[0]}\n{result_words(drawn.results[key])}"
            self._views[key] = PlaneView(
                drawn.planes[key], title, drawn.curves.get(key[0]), layers, epoch, choice.seed, self._on_tap
            )
        self.body[:] = [_pane(view.figure, len(self._views)) for view in self._views.values()]

    def choose(self, layers: Sequence[str]) -> None:
        """Show these layers."""
        for view in self._views.values():
            view.choose(layers)

    def move(self, epoch: int, seed: int | None) -> None:
        """Show this epoch and mark this seed."""
        for view in self._views.values():
            view.move(epoch, seed)


class DynamicsTab:
    """What changes with the epoch: the training, the gradients, the information of every layer."""

    def __init__(self) -> None:
        self._views: dict[tuple[Any, str], LinesView] = {}
        self.body = pn.FlexBox(sizing_mode="stretch_width")

    def show(self, drawn: Drawn, choice: Choice, epoch: int) -> None:
        """Draw; where only more epochs have come, without drawing anew."""
        layers = layers_of(choice, drawn.layers)
        lines: dict[tuple[Any, str], Lines] = {**drawn.recorded, **drawn.estimated}
        same = tuple(self._views) == tuple(lines)
        if same and all(
            view.show(lines[key], _crossings(drawn, key), epoch, choice.seed) for key, view in self._views.items()
        ):
            self.choose(layers)
            return
        colours = dict(zip(drawn.layers, layer_colours(len(drawn.layers)), strict=True))
        self._views = {}
        for key, line in lines.items():
            of, quantity = key
            run = of if isinstance(of, str) else of[0]
            where = f" · {run}" if len(choice.runs) > 1 else ""
            where += "" if isinstance(of, str) or len(drawn.shown) == 1 else f" · {result_words(drawn.results[of])}"
            self._views[key] = LinesView(
                line,
                _TITLES[quantity] + where,
                _QUANTITIES[quantity],
                _colours_of(line, colours),
                self._shown(line, layers),
                epoch,
                choice.seed,
                logarithmic=quantity.startswith("grad"),
                crossings=_crossings(drawn, key),
            )
        self.body[:] = [_pane(view.figure, 2) for view in self._views.values()]

    def choose(self, layers: Sequence[str]) -> None:
        """Show these layers."""
        for view in self._views.values():
            view.choose(self._shown(view.lines, layers))

    def move(self, epoch: int, seed: int | None) -> None:
        """Mark this epoch and this seed."""
        for view in self._views.values():
            view.move(epoch, seed)

    @staticmethod
    def _shown(lines: Lines, layers: Sequence[str]) -> list[str]:
        return [name for name in lines.series if name in _SPLITS or name in layers]


class BoundTab:
    """How the layers stand to the information bottleneck: where they lie, and beta* and the residual by depth."""

    def __init__(self) -> None:
        self._shown: dict[str, Any] = {}
        self._words = pn.pane.Markdown(
            "### No distance to the bound is stored\n\nAsk for it in *Analyse*: choose *distance to the bound*.",
            sizing_mode="stretch_width",
        )
        self.body = pn.Column(sizing_mode="stretch_width", styles={"overflow-x": "auto"})

    def show(self, drawn: Drawn, choice: Choice, epoch: int) -> None:
        """Draw what is stored about the bound of the runs that were chosen."""
        same = drawn.bounds.keys() == self._shown.keys() and self.body.objects
        if same and all(self._shown[run] is bound for run, bound in drawn.bounds.items()):
            return
        self._shown = dict(drawn.bounds)
        drawings = [draw(bound) for bound in self._shown.values() for draw in (figures.bound, figures.beta)]
        panes: list[Any] = [pn.pane.HoloViews(figure, linked_axes=False, margin=8) for figure in drawings]
        self.body[:] = panes or [self._words]

    def choose(self, layers: Sequence[str]) -> None:
        """Change nothing: all layers are compared."""

    def move(self, epoch: int, seed: int | None) -> None:
        """Change nothing: its figures say of which epochs they are."""


def _crossings(drawn: Drawn, key: tuple[Any, str]) -> Mapping[str, float]:
    """Give the epochs at which the layers of a run pass from drift to diffusion, where gradients are drawn."""
    of, quantity = key
    return drawn.crossings.get(of, {}) if quantity.startswith("grad") else {}


def _colours_of(lines: Lines, layers: Mapping[str, str]) -> dict[str, str]:
    return {name: _SPLITS.get(name) or layers[name] for name in lines.series}


def _pane(figure: Any, beside: int) -> pn.pane.HoloViews:
    share = 100 if beside == 1 else 49
    return pn.pane.HoloViews(
        figure,
        sizing_mode="stretch_width",
        min_width=420,
        linked_axes=False,
        styles={"flex": f"1 1 {share - 1}%", "max-width": f"{share}%"},
        margin=4,
    )
