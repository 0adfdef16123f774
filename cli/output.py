"""What commands print: tables, one JSON document, and progress."""

import math
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from ipstore.describing import as_json

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Json",
    "Show",
    "bits",
    "print_facts",
    "print_json",
    "print_table",
    "progress",
    "say",
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def print_json(document: Any) -> None:
    """Print the one document of a command; what is not a number becomes null."""
    typer.echo(as_json(document))


def say(text: str) -> None:
    """Print a line on stdout, unbroken."""
    typer.echo(text)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """Print a table on stdout.

    Parameters
    ----------
    columns : sequence of str
    rows : sequence of sequence of str
    numbers : sequence of str
        The columns that are set flush right.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for name in columns:
        right = name in numbers
        table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*row)
    _stdout().print(table)


def print_facts(facts: dict[str, str]) -> None:
    """Print names with their values on stdout, one to a line."""
    indent = max(map(len, facts)) + 2
    for name, value in facts.items():
        lines = textwrap.wrap(value, _stdout().width - indent, break_long_words=False, break_on_hyphens=False)
        say(f"{name:<{indent}}" + f"\n{'':{indent}}".join(lines))


def _stdout() -> "Console":
    from rich.console import Console

    # Into a file or a pipe, nothing is broken to fit a window that is not there.
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 200)


class Show(Protocol):
    """Shows how many are done, of how many, and what is being done if that has changed."""

    def __call__(self, done: int, total: int, what: str | None = None, /) -> None:
        """Show it."""


@contextmanager
def progress(what: str, unit: str) -> Iterator[Show]:
    """Show how far long work is, on stderr and only where that is a terminal.

    Parameters
    ----------
    what : str
        What is being done.
    unit : str
        What is counted, in the plural; the rate is in it, per second.

    Yields
    ------
    Show
        To be told how many are done, of how many, and what is being done where that changes.
    """
    if not sys.stderr.isatty():
        yield lambda done, total, what=None, /: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            if task.total is None:
                return Text("")
            rate = f"{task.speed:,.0f}" if task.speed else "-"
            return Text(f"{task.completed:,.0f}/{task.total:,.0f}  {rate} {unit}/s")

    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None),  # alone gives way where the line is short
        Count(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
    )
    console = Console(stderr=True)
    most = max(10, console.width - 50)  # beside it stand a bar, two counts, a rate and a time

    def shown(what: str | None) -> str | None:
        return what if what is None or len(what) <= most else f"{what[: most - 1]}…"

    with Progress(*columns, console=console, transient=True, expand=True) as bar:
        task = bar.add_task(str(shown(what)), total=None)
        yield lambda done, total, what=None, /: bar.update(task, completed=done, total=total, description=shown(what))


def bits(value: float) -> str:
    """Write an information in bits: three decimals, and a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.3f}"
