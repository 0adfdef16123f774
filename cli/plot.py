"""``ipstore plot``: a run as a figure."""

from pathlib import Path
from typing import Annotated

import typer

from ipstore.cli import specs
from ipstore.cli.analyze import Estimator, StoreOrRun, compute
from ipstore.cli.output import Json, print_json, say
from ipstore.cli.reporting import Failure
from ipstore.errors import ParameterError, UnknownNameError

__all__ = ["plot"]


def plot(
    store: StoreOrRun,
    figure: Annotated[
        str,
        typer.Argument(metavar="FIGURE", help="plane (trajectories) or snapshots (every network at chosen epochs)."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to: .html, .png or .svg.")],
    run: Annotated[str | None, typer.Option(metavar="NAME", help="The run, if the store holds several.")] = None,
    estimator: Estimator = "binned",
    json: Json = False,
) -> None:
    """Draw a figure of a run.

    What it shows is computed first where it is not stored yet, and kept.
    """
    from ipstore.analysis.estimators.registry import parse

    folder, runs = specs.choose_runs(store, run)
    if len(runs) > 1:
        raise ParameterError(f"a figure shows one run: name it with --run, one of {', '.join(runs)}")
    name, params = parse(estimator)
    from ipstore.analysis.figures import FIGURES, check_path, save

    check_path(output)
    if figure not in FIGURES:
        raise UnknownNameError("figure", figure, FIGURES)
    plane = compute(folder, runs[0], name, params)
    drawn = FIGURES[figure](plane)
    try:
        written = save(drawn, output)
    except OSError as error:
        raise Failure("write", f"cannot write {str(output)!r}: {error.strerror}") from error
    if json:
        print_json({"figure": figure, "run": runs[0], "result": plane.attrs["name"], "file": str(written)})
    else:
        say(f"{figure} of {runs[0]} is in {written}")
