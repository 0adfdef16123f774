"""The application: every command, under the one name ``ipstore``."""

from typing import Annotated

import typer

from ipstore.cli import analyze, bound, capture, estimators, moving, plot, reproduce, runs, serve
from ipstore.cli.reporting import ReportingGroup
from ipstore.version import __version__

__all__ = ["app", "main"]

# Without a markup mode typer leaves rich alone, whose import would double the time of --help.
app = typer.Typer(
    name="ipstore",
    cls=ReportingGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(capture.capture)
app.command()(analyze.analyze)
app.command()(bound.bound)
app.command()(plot.plot)
app.command()(plot.figures)
app.command()(reproduce.reproduce)
app.command()(runs.runs)
app.command()(runs.info)
app.command()(runs.verify)
app.command()(serve.serve)
app.command()(moving.copy)
app.command()(moving.merge)
app.command()(moving.materialise)
app.command()(estimators.estimators)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ipstore {__version__}")
        raise typer.Exit(0)


@app.callback()
def _ipstore(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Capture training into a store, and ask information-theoretic questions of it.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """


def main() -> None:
    """Run the command line."""
    app()
