"""``ipstore plot``: a run as a figure."""

from pathlib import Path
from typing import Annotated

import typer

from ipstore.cli import specs
from ipstore.cli.analyze import Estimators, Every, Split, StoreOrRun, compute
from ipstore.cli.output import Json, print_json, print_table, say
from ipstore.cli.reporting import Failure
from ipstore.errors import ParameterError, UnknownNameError

__all__ = ["figures", "plot"]


def plot(
    store: StoreOrRun,
    figure: Annotated[
        str,
        typer.Argument(
            metavar="FIGURE", help="plane, snapshots, sensitivity, compare or bounds; see `ipstore figures`."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to: .html, .png or .svg.")],
    run: Annotated[str | None, typer.Option(metavar="NAME", help="The run, if the store holds several.")] = None,
    estimator: Estimators = [],  # noqa: B006  (typer wants a list, and copies it)
    layers: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these layers; by default all.")] = None,
    every: Every = 1,
    split: Split = "all",
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

    check_path(output)
    if figure not in FIGURES:
        raise UnknownNameError("figure", figure, FIGURES)
    draw = FIGURES[figure]
    asks = [parse(text) for text in estimator or draw.estimators]
    draw.check([list(expand(name, params)[0]) for name, params in asks])
    chosen = None if layers is None else layers.split(",")
    outcomes = compute(folder, runs[0], asks, layers=chosen, every=every, split=split)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    drawn = draw(*(outcome.result for outcome in outcomes if outcome.result is not None))
    try:
        written = save(drawn, output)
    except OSError as error:
        raise Failure("write", f"cannot write {str(output)!r}: {error.strerror}") from error
    if json:
        results = [outcome.result.attrs for outcome in outcomes if outcome.result is not None]
        asked = [{"estimator": each["estimator"], "parameters": each["parameters"]} for each in results]
        print_json({"figure": figure, "run": runs[0], "shows": asked, "file": str(written)})
    else:
        say(f"{figure} of {runs[0]} is in {written}")


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
