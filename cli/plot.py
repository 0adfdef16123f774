"""``ipstore plot``: a run as a figure."""

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
    import xarray as xr

    from ipstore.places import Place

__all__ = ["figures", "plot"]


def plot(
    store: StoreOrRun,
    figure: Annotated[
        str,
        typer.Argument(
            metavar="FIGURE",
            help="plane, snapshots, sensitivity, compare, bounds, bound, beta or residual; see `ipstore figures`.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Where to: .html, .png or .svg; a film: .gif or .mp4."),
    ],
    run: Annotated[str | None, typer.Option(metavar="NAME", help="The run, if the store holds several.")] = None,
    estimator: Estimators = [],  # noqa: B006  (typer wants a list, and copies it)
    layers: Layers = None,
    every: Every = 1,
    split: Split = "all",
    labels: Labels = None,
    information: Information = None,
    bound: Annotated[
        bool, typer.Option("--bound", help="Draw the information-bottleneck curve under a plane or snapshots.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Frames per second of a .gif or .mp4; by default 10.")
    ] = None,
    json: Json = False,
) -> None:
    """Draw a figure of a run.

    What it shows is computed first where it is not stored yet, and kept. Without --estimator it shows those that
    `ipstore figures` names.
    """
    from ipstore.analysis.estimators.registry import parse
    from ipstore.analysis.questions import expand

    folder, runs = specs.choose_runs(store, run)
    if len(runs) > 1:
        raise ParameterError(f"a figure shows one run: name it with --run, one of {', '.join(runs)}")
    from ipstore.analysis.figures import FIGURES, check_path, save

    if figure not in FIGURES:
        raise UnknownNameError("figure", figure, FIGURES)
    draw = FIGURES[figure]
    check_path(output, rate=rate, frames=draw.frames)
    asks = [parse(text) for text in estimator or draw.estimators]
    draw.check([list(expand(name, params)[0]) for name, params in asks])
    about_bound, underlaid = draw.takes == "a bound", "bound" in signature(draw.draw).parameters
    if bound and not underlaid:
        able = [name for name, each in FIGURES.items() if "bound" in signature(each.draw).parameters]
        raise ParameterError(f"--bound goes under {' or '.join(able)}, not under {figure}")
    if (bound or about_bound) and split != "all":
        raise ParameterError(f"the bound is that of all samples, so --split must be all but got {split!r}")
    view: dict[str, Any] = {"layers": None if layers is None else layers.split(","), "every": every}
    view |= specs.labels(folder, runs[0], labels, information)
    if about_bound:
        results = [compute_bound(folder, runs[0], *asks[0], **view)]
    else:
        results = [outcome.get() for outcome in compute(folder, runs[0], asks, split=split, **view)]
    curve = {"bound": _curve(folder, runs[0], view)} if bound else {}
    drawn = draw(*results, **curve)
    try:
        written = save(drawn, output, rate=rate)
    except OSError as error:
        raise Failure("write", f"cannot write {str(output)!r}: {error.strerror}") from error
    if json:
        asked = [{key: result.attrs[key] for key in ("estimator", "parameters")} for result in results]
        print_json({"figure": figure, "run": runs[0], "shows": asked, "file": str(written)})
    else:
        say(f"{figure} of {runs[0]} is in {written}")


def _curve(store: "Place", run: str, view: dict[str, Any]) -> "xr.Dataset":
    import ipstore
    from ipstore.analysis import bound

    return bound(ipstore.open(store, run=run), labels=view.get("labels", "stored"))


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
