"""``ipstore plot``: a run, or a sweep of runs, as a figure."""

from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ipstore.cli import specs
from ipstore.cli.analyze import Estimators, Every, Information, Labels, Layers, Split, StoreOrRun, compute
from ipstore.cli.bound import compute_bound
from ipstore.cli.output import Json, print_json, print_table, say
from ipstore.cli.reporting import Failure
from ipstore.errors import ParameterError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from ipstore.analysis.figures import Figure
    from ipstore.places import Place

__all__ = ["figures", "plot"]


def plot(
    store: StoreOrRun,
    figure: Annotated[
        str,
        typer.Argument(
            metavar="FIGURE",
            help="plane, information, snapshots, sensitivity, compare, bounds, bound, beta, residual, sweep, "
            "converged, gradients, training or activations; see `ipstore figures`.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Where to: .html, .png or .svg; a film: .gif or .mp4."),
    ],
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="The run, or the sweep, if the store holds several.")
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(
            metavar="AXIS[=VALUE,...]",
            help="Of sweep and converged: the setting that varies, and where; at all values by default.",
        ),
    ] = None,
    at: Annotated[
        list[str], typer.Option(metavar="AXIS=VALUE", help="A value of another axis of the sweep. May be repeated.")
    ] = [],  # noqa: B006  (typer wants a list, and copies it)
    estimator: Estimators = [],  # noqa: B006  (typer wants a list, and copies it)
    layers: Layers = None,
    every: Every = 1,
    split: Split = "all",
    labels: Labels = None,
    information: Information = None,
    bound: Annotated[
        bool,
        typer.Option("--bound", help="Draw the information-bottleneck curve under a plane, snapshots or converged."),
    ] = False,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Frames per second of a .gif or .mp4; by default 10.")
    ] = None,
    json: Json = False,
) -> None:
    """Draw a figure of a run, or of a sweep of runs.

    What it shows is computed first where it is not stored yet, and kept. Without --estimator it shows those that
    `ipstore figures` names.
    """
    from ipstore.analysis.figures import FIGURES, check_path, save

    if figure not in FIGURES:
        raise UnknownNameError("figure", figure, FIGURES)
    draw = FIGURES[figure]
    check_path(output, rate=rate, frames=draw.frames)
    if bound and "bound" not in signature(draw.draw).parameters:
        able = [name for name, each in FIGURES.items() if "bound" in signature(each.draw).parameters]
        raise ParameterError(f"--bound goes under {', '.join(able[:-1])} or {able[-1]}, not under {figure}")
    if (bound or draw.takes == "a bound") and split != "all":
        raise ParameterError(f"the bound is that of all samples, so --split must be all but got {split!r}")
    _check_sweep(figure, draw, over, at)
    chosen = None if layers is None else layers.split(",")
    options: dict[str, Any] = {}
    if draw.takes == "a run's training":
        if estimator or split != "all" or labels is not None or information is not None:
            raise ParameterError(
                f"{figure} is drawn from what the training recorded: leave out --estimator, --split, --labels and "
                "--information"
            )
        takes = signature(draw.draw).parameters
        if chosen is not None and "layers" not in takes:
            raise ParameterError(f"{figure} is of the whole network: leave out --layers")
        folder, name = _one_run(store, run)
        results = [_training(folder, name, every)]
        if "crossing" in takes:
            options = {"layers": chosen, "crossing": _crossing(results[0])}
    elif draw.takes == "a layer's activity":
        if split != "all" or labels is not None or information is not None:
            raise ParameterError(
                f"{figure} shows all samples, without labels: leave out --split, --labels and --information"
            )
        asks = _parsed(draw, estimator)
        folder, name = _one_run(store, run)
        results = [_activity(folder, name, chosen, every, asks)]
    else:
        ask = _Ask(_parsed(draw, estimator), draw.takes == "a bound", every, split, labels, information)
        if over is None:
            folder, name = _one_run(store, run)
            results = ask(folder, name, layers=chosen)
            of_curve = name
        else:
            folder = specs.store_place(store)
            plane, of_curve = _swept(folder, run, over, at, ask)
            name, results, options = plane.attrs["source_run"], [plane], {"layers": chosen}
        if bound:
            options["bound"] = ask.curve(folder, of_curve)
    drawn = draw(*results, **options)
    try:
        written = save(drawn, output, rate=rate)
    except OSError as error:
        raise Failure("write", f"cannot write {str(output)!r}: {error.strerror}") from error
    if json:
        planes = results if draw.estimators else []
        asked = [{key: plane.attrs[key] for key in ("estimator", "parameters")} for plane in planes]
        print_json({"figure": figure, "run": name, "shows": asked, "file": str(written)})
    else:
        say(f"{figure} of {name} is in {written}")


@dataclass(frozen=True)
class _Ask:
    """What is asked of every run that a figure shows."""

    asks: "Sequence[tuple[str, dict[str, Any]]]"
    about_bound: bool
    every: int
    split: str
    labels: str | None
    information: float | None

    def __call__(self, store: "Place", run: str, layers: list[str] | None = None) -> "list[xr.Dataset]":
        view: dict[str, Any] = {"layers": layers, "every": self.every, **self._labels(store, run)}
        if self.about_bound:
            return [compute_bound(store, run, *self.asks[0], **view)]
        return [outcome.get() for outcome in compute(store, run, self.asks, split=self.split, **view)]

    def curve(self, store: "Place", run: str) -> "xr.Dataset":
        """Compute the information-bottleneck curve of the p(y|x) that is asked about."""
        import ipstore
        from ipstore.analysis import bound

        return bound(ipstore.open(store, run=run), labels=self._labels(store, run).get("labels", "stored"))

    def _labels(self, store: "Place", run: str) -> dict[str, Any]:
        return specs.labels(store, run, self.labels, self.information)


def _parsed(draw: "Figure", estimator: "Sequence[str]") -> "list[tuple[str, dict[str, Any]]]":
    """Read the estimators, and check that the figure takes so many."""
    from ipstore.analysis.estimators.registry import parse
    from ipstore.analysis.questions import expand

    asks = [parse(text) for text in estimator or draw.estimators]
    draw.check([list(expand(name, params)[0]) for name, params in asks])
    return asks


def _one_run(store: str, run: str | None) -> "tuple[Place, str]":
    folder, runs = specs.choose_runs(store, run)
    if len(runs) > 1:
        raise ParameterError(f"a figure shows one run: name it with --run, one of {', '.join(runs)}")
    return folder, runs[0]


def _training(store: "Place", run: str, every: int) -> "xr.Dataset":
    """Read what the training recorded, at epochs that are multiples of `every`."""
    import ipstore

    tree = ipstore.open(store, run=run)
    if "training" not in tree.children:
        raise ParameterError(f"run {run!r} holds nothing of its training; a run that was captured by ipstore does")
    if every < 1:
        raise ParameterError(f"every must be a number of epochs, 1 or more, but got {every}")
    training = tree["training"].to_dataset()
    return training.isel(epoch=(training["epoch"] % every == 0).values).assign_attrs(source_run=run).load()


def _activity(
    store: "Place", run: str, layers: list[str] | None, every: int, asks: "Sequence[tuple[str, dict[str, Any]]]"
) -> "xr.Dataset":
    """Measure one layer, by default the last hidden one, at epochs that are multiples of `every`, 60 at most."""
    import ipstore
    from ipstore.analysis import layer_activity
    from ipstore.analysis.plane import View
    from ipstore.analysis.spacing import log_spaced

    tree = ipstore.open(store, run=run)
    if layers is not None and len(layers) != 1:
        raise ParameterError(f"activations shows one layer: name it with --layers, but got {', '.join(layers)}")
    known = [str(name) for name in tree.attrs["layers"]]
    epochs = tree["epoch"].to_numpy()[View(every=every).epochs(tree)]
    layer = layers[0] if layers else known[max(len(known) - 2, 0)]
    ((name, params),) = asks
    return layer_activity(tree, layer, name, epochs=epochs[log_spaced(epochs, 60)].tolist(), **params)


def _crossing(training: "xr.Dataset") -> "xr.DataArray":
    from ipstore.analysis.dynamics import crossing

    return crossing(training)["crossing"]


def _check_sweep(figure: str, draw: "Figure", over: str | None, at: "Sequence[str]") -> None:
    """Refuse a sweep without an axis, and an axis without a sweep."""
    from ipstore.analysis.figures import FIGURES

    if draw.takes == "a sweep":
        if over is None:
            raise ParameterError(
                f"{figure} shows a sweep along one of its axes: name it, such as --over train_fraction, or with "
                "some of its values, --over train_fraction=0.05,0.85"
            )
    elif over is not None or at:
        able = [name for name, each in FIGURES.items() if each.takes == "a sweep"]
        raise ParameterError(f"--over and --at are those of a sweep, which {' and '.join(able)} show, not {figure}")


def _swept(store: "Place", name: str | None, over: str, at: "Sequence[str]", ask: _Ask) -> "tuple[xr.Dataset, str]":
    """Put together what the runs of a sweep answer, along one axis; give it with the name of one of the runs."""
    import ipstore

    asked: list[str] = []

    def of(run: "xr.DataTree") -> "xr.Dataset":
        asked.append(str(run.name))
        return ask(store, asked[-1])[0]

    axis, _, values = over.partition("=")
    fixed = dict(_assignment(text) for text in at)
    plane: xr.Dataset = ipstore.open(store).ip.sweep(axis, of=of, name=name, **fixed)
    return (_at_values(plane, axis, values.split(",")) if values else plane), asked[0]


def _assignment(text: str) -> tuple[str, str]:
    axis, equals, value = text.partition("=")
    if not (axis and equals and value):
        raise ParameterError(f"--at is written AXIS=VALUE, such as activation=tanh, but got {text!r}")
    return axis, value


def _at_values(plane: "xr.Dataset", axis: str, texts: "Sequence[str]") -> "xr.Dataset":
    """Choose some values along an axis, as they are written."""
    numbers = plane[axis].dtype.kind in "iuf"
    known = {str(value): i for i, value in enumerate(plane[axis].values)}
    places = []
    for text in texts:
        try:
            found = [i for word, i in known.items() if word == text or (numbers and float(word) == float(text))]
        except ValueError:
            found = []
        if not found:
            raise UnknownNameError(f"value of {axis}", text, known)
        places += found
    return plane.isel({axis: list(dict.fromkeys(places))})


def figures(json: Json = False) -> None:
    """List the figures of `ipstore plot`.

    By itself each shows the estimators named beside it.
    """
    from ipstore.analysis.figures import FIGURES

    if json:
        listed = [
            {"name": name, "summary": each.summary, "takes": each.takes, "estimators": list(each.estimators)}
            for name, each in FIGURES.items()
        ]
        print_json({"figures": listed})
        return
    rows = [[name, each.summary, each.takes, " ".join(each.estimators)] for name, each in FIGURES.items()]
    print_table(("name", "shows", "takes", "by itself"), rows)
