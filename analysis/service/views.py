"""The figures of a page: HoloViews objects that are drawn once, and fed with what changes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import xarray as xr

from ipstore.analysis.figures.bottleneck import draw_curve
from ipstore.analysis.figures.epochs import EpochScale
from ipstore.analysis.figures.frame import GREY, I_TY, I_XT, INK, layer_colours, reference_lines
from ipstore.analysis.service.drawn import Columns, Lines, Trajectories, on_scale
from ipstore.analysis.service.feeds import Cursor, Feed, Frame, weakly

__all__ = ["LinesView", "PlaneView"]

_WIDE = {"responsive": True, "fontscale": 1.05, "fontsize": {"title": "10pt"}, "active_tools": []}


class PlaneView:
    """An information plane: the path of every layer, every seed at one epoch, and the one seed that was chosen.

    Parameters
    ----------
    plane : Trajectories
    title : str
    curve : Dataset, optional
        The information-bottleneck curve of the same p(y|x), as `ipstore.analysis.ib.curve` gives it.
    layers : sequence of str
        Which are shown.
    epoch : int
    seed : int, optional
        The one that is chosen.
    on_tap : callable
        Called with the seed and the epoch of a point that a person selects; seed None for one of a mean.
    """

    def __init__(
        self,
        plane: Trajectories,
        title: str,
        curve: xr.Dataset | None,
        layers: Sequence[str],
        epoch: int,
        seed: int | None,
        on_tap: Callable[[int | None, int], None],
    ) -> None:
        self.plane, self._box = plane, plane.box
        self._layers, self._epoch, self._seed = list(layers), epoch, seed
        self._on_tap = on_tap
        self._paths, self._names, self._ring = Feed(), Feed(), Feed()
        self._points, self._steps = Feed(self._chosen), Feed(self._passed)
        self.figure = self._draw(title, curve)

    def show(self, plane: Trajectories, epoch: int, seed: int | None) -> bool:
        """Take a plane that has grown, to be drawn by `choose`; False where it needs a figure of its own."""
        if plane.layers != self.plane.layers or plane.seeds.size != self.plane.seeds.size or not plane.fits(self._box):
            return False
        self.plane, self._epoch, self._seed = plane, epoch, seed
        return True

    def choose(self, layers: Sequence[str]) -> None:
        """Show these layers."""
        self._layers = list(layers)
        self._paths.send(self.plane.paths(self._layers))
        self._steps.send(self.plane.steps_of(self._layers))
        self.move(self._epoch, self._seed)

    def move(self, epoch: int, seed: int | None) -> None:
        """Show this epoch, and this seed as the chosen one."""
        self._epoch, self._seed = epoch, seed
        self._points.send(self.plane.snapshot(epoch, self._layers))
        self._names.send(self.plane.names_at(epoch, self._layers))
        self._ring.send(self.plane.seed_at(seed, epoch, self._layers))

    def _chosen(self, rows: list[int]) -> None:
        columns = self._points.columns
        self._on_tap(int(columns["seed"][rows[0]]), int(columns["epoch"][rows[0]]))

    def _passed(self, rows: list[int]) -> None:
        self._on_tap(None, int(self._steps.columns["epoch"][rows[0]]))

    def _draw(self, title: str, curve: xr.Dataset | None) -> Any:
        plane, colours = self.plane, dict(zip(self.plane.layers, layer_colours(len(self.plane.layers)), strict=True))
        coloured = {"color": "layer", "cmap": colours, "show_legend": False}
        numbers = [("I(X;T)", "@I_XT{0.000} bits"), ("I(T;Y)", "@I_TY{0.000} bits")]
        paths = hv.Path(_rows(plane.paths(self._layers), "I_XT", "I_TY", "layer"), [I_XT, I_TY], "layer")
        steps = hv.Points(_columns(plane.steps_of(self._layers)), [I_XT, I_TY], ["layer", "epoch"])
        points = hv.Points(
            _columns(plane.snapshot(self._epoch, self._layers)), [I_XT, I_TY], ["layer", "seed", "epoch"]
        )
        names = hv.Labels(plane.names_at(self._epoch, self._layers), [I_XT, I_TY], "layer")
        ring = hv.Points(plane.seed_at(self._seed, self._epoch, self._layers), [I_XT, I_TY])
        attrs = xr.Dataset(attrs=plane.attrs)
        under = reference_lines(attrs, plane.box)
        if curve is not None:
            under = draw_curve(curve, plane.box[0][1]) * under
        return (
            under
            * paths.opts(**coloured, line_width=2, alpha=0.75, hooks=[weakly(self._paths.hook)])
            * steps.opts(
                color=GREY,
                size=7,
                alpha=0,
                tools=["hover", "tap"],
                hover_tooltips=[("layer", "@layer, mean of the seeds"), ("epoch", "@epoch"), *numbers],
                hooks=[weakly(self._steps.hook)],
            )
            * points.opts(
                **coloured,
                size=7,
                line_color="white",
                line_width=0.6,
                nonselection_alpha=1,
                tools=["hover", "tap"],
                hover_tooltips=[("layer", "@layer"), ("seed", "@seed"), ("epoch", "@epoch"), *numbers],
                hooks=[weakly(self._points.hook)],
            )
            * names.opts(
                text_color=INK, text_font_size="9pt", text_align="left", hooks=[weakly(self._names.hook), _beside]
            )
            * ring.opts(fill_color=None, line_color=INK, line_width=2, size=13, hooks=[weakly(self._ring.hook)])
        ).opts(
            title=title,
            xlim=plane.box[0],
            ylim=plane.box[1],
            show_legend=False,
            min_height=540,
            hooks=[_plainly],
            **_WIDE,
        )


class LinesView:
    """A quantity against the epoch: for each series the mean over seeds in the band of their middle.

    Parameters
    ----------
    lines : Lines
    title, label : str
        Of the figure, and of its vertical axis.
    colours : mapping of str to str
        Of the series.
    shown : sequence of str
        Series.
    epoch : int
    seed : int, optional
        The one that is chosen.
    logarithmic : bool
        Whether the vertical axis is.
    crossings : mapping of str to float, optional
        Of series, the epoch that is marked.
    """

    def __init__(
        self,
        lines: Lines,
        title: str,
        label: str,
        colours: dict[str, str],
        shown: Sequence[str],
        epoch: int,
        seed: int | None,
        *,
        logarithmic: bool = False,
        crossings: Mapping[str, float] | None = None,
    ) -> None:
        self.lines = lines
        self._crossings, self._logarithmic = crossings or {}, logarithmic
        self._crossed, self._names = Feed(), Feed()
        self._shown, self._epoch, self._seed = list(shown), epoch, seed
        self._means, self._bands, self._chosen = Feed(), Feed(), Feed()
        self._frame, self._cursor = Frame(), Cursor()
        self._cursor.move(float(on_scale(epoch)))
        self.figure = self._draw(title, label, colours, logarithmic)

    def show(self, lines: Lines, crossings: Mapping[str, float], epoch: int, seed: int | None) -> bool:
        """Take what has grown, to be drawn by `choose`; False where it needs a figure of its own."""
        self._crossings, self._epoch, self._seed = crossings, epoch, seed
        if lines.series != self.lines.series:
            return False
        self.lines = lines
        return True

    def choose(self, shown: Sequence[str]) -> None:
        """Show these series."""
        self._shown = list(shown)
        self._means.send(self.lines.lines(self._shown))
        self._bands.send(_filled(self.lines.bands(self._shown)))
        self._names.send(self.lines.names(self._shown, self._logarithmic))
        self._crossed.send(self.lines.crossings(self._crossings, self._shown))
        self._frame.send(self.lines.frame(self._logarithmic), self._ticks())
        self.move(self._epoch, self._seed)

    def move(self, epoch: int, seed: int | None) -> None:
        """Mark this epoch, and this seed as the chosen one."""
        self._chosen.send(self.lines.of_seed(seed, self._shown))
        self._epoch, self._seed = epoch, seed
        self._cursor.move(float(on_scale(epoch)))

    def _draw(self, title: str, label: str, colours: dict[str, str], logarithmic: bool) -> Any:
        x, y = hv.Dimension("epoch_place", label="epoch"), hv.Dimension("value", label=label)
        coloured = {"color": "series", "cmap": colours, "show_legend": False}
        lines = self.lines
        bands = hv.Polygons(_rows(lines.bands(self._shown), x.name, y.name, "series"), [x, y], "series")
        means = hv.Path(_rows(lines.lines(self._shown), x.name, y.name, "series"), [x, y], "series")
        chosen = hv.Path(_rows(lines.of_seed(self._seed, self._shown), x.name, y.name, "series"), [x, y], "series")
        crossed = hv.Path(
            _rows(lines.crossings(self._crossings, self._shown), x.name, y.name, "series"), [x, y], "series"
        )
        names = hv.Labels(lines.names(self._shown, logarithmic), [x, y], "series")
        xlim, ylim = lines.frame(logarithmic)
        self._frame.begin((xlim, ylim))
        return (
            bands.opts(**coloured, alpha=0.18, line_alpha=0, hooks=[weakly(self._bands.hook)])
            * means.opts(
                **coloured, line_width=2, tools=["hover"], hover_tooltips=["series"], hooks=[weakly(self._means.hook)]
            )
            * crossed.opts(**coloured, line_width=1.5, line_dash="dotdash", hooks=[weakly(self._crossed.hook)])
            * names.opts(
                text_color=INK, text_font_size="8pt", text_align="left", hooks=[weakly(self._names.hook), _after]
            )
            * chosen.opts(**coloured, line_width=1.5, line_dash="dashed", hooks=[weakly(self._chosen.hook)])
        ).opts(
            title=title,
            xticks=self._ticks(),
            xlim=xlim,
            ylim=ylim,
            logy=logarithmic,
            show_legend=False,
            min_height=260,
            hooks=[weakly(self._frame.hook), weakly(self._cursor.hook), _plainly],
            **_WIDE,
        )

    def _ticks(self) -> list[tuple[float, str]]:
        epochs = self.lines.epochs
        return EpochScale(epochs, 0.12).ticks if epochs[-1] > 0 else [(0.0, "0")]


def _plainly(plot: Any, _: Any) -> None:
    """Leave the library's sign out of the tools, and WebGL out of the browser: without a GPU it takes seconds."""
    plot.state.toolbar.logo = None
    plot.state.output_backend = "canvas"
    plot.handles["yaxis"].minor_tick_line_color = None


def _after(plot: Any, _: Any) -> None:
    """Set words right of their points."""
    plot.handles["glyph"].update(x_offset=6, text_baseline="middle")


def _beside(plot: Any, _: Any) -> None:
    """Set words beside their points, off what is drawn there."""
    plot.handles["glyph"].update(x_offset=9, y_offset=-9)


def _rows(columns: Columns, x: str, y: str, name: str) -> list[dict[str, Any]]:
    """Give the lines of a table as HoloViews takes them."""
    return [{x: xs, y: ys, name: of} for xs, ys, of in zip(columns["xs"], columns["ys"], columns[name], strict=True)]


def _columns(columns: Columns) -> Columns:
    return {name: values for name, values in columns.items() if name != "color"}


def _filled(columns: Columns) -> Columns:
    """Give outlines as Bokeh has polygons, which can have parts, and these holes."""
    return {**columns, "xs": [[[x]] for x in columns["xs"]], "ys": [[[y]] for y in columns["ys"]]}
