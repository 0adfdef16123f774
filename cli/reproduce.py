"""``ipstore reproduce``: the paper's figures and claims, from training to picture and verdict."""

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ipstore.cli import specs
from ipstore.cli.output import Json, print_json, print_table, progress, say
from ipstore.cli.reporting import Failure
from ipstore.errors import UnknownNameError
from ipstore.wording import size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipstore.analysis.reproduction import Evidence
    from ipstore.places import Place
    from ipstore.trainers.experiments import Experiment

__all__ = ["reproduce"]

_ALL, _CLAIMS = "all", "claims"


def reproduce(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="fig2 to fig7, claims, or all.")],
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="STORE",
            help="Where runs are kept; by default reproduction.zarr or reproduction-quick.zarr.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FOLDER", help="Where to; by default reproduction or reproduction-quick."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer networks and epochs: minutes, and wider intervals.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option("--processes", metavar="N", help="Processes to train in; by default one per core.")
    ] = None,
    json: Json = False,
) -> None:
    """Reproduce the paper's figures and claims.

    fig2: networks in the plane; fig3: paths by training data; fig4: gradients; fig5: paths by depth; fig6: where layers
    end; fig7: the bound; claims: every claim with a verdict, as a page and as JSON.

    What is in the store is not trained or estimated again. Ctrl-C stops at any time, and the same command goes on.
    """
    from ipstore.analysis.reproduction import CLAIMS, PAPER_FIGURES, Picture, as_document, as_page, draw
    from ipstore.trainers.experiments import experiments

    if what not in (known := [*PAPER_FIGURES, _CLAIMS, _ALL]):
        raise UnknownNameError("figure or report", what, known)
    form = "quick" if quick else "full"
    name = "reproduction-quick" if quick else "reproduction"
    place, folder = specs.store_place(store or f"{name}.zarr"), output or Path(name)
    claims = list(CLAIMS) if what in (_CLAIMS, _ALL) else []
    shown = {each for claim in claims for each in CLAIMS[claim].figures}
    figures = [each for each in PAPER_FIGURES if what in (each, _ALL) or each in shown]
    needed = {each for figure in figures for each in PAPER_FIGURES[figure].experiments}
    needed |= {each for claim in claims for each in CLAIMS[claim].experiments}
    wanted = [each for each in experiments(quick).values() if each.name in needed]
    begun = time.monotonic()
    try:
        _train(place, wanted, processes, silent=json)
        with _asking(place) as evidence:
            written = {each: draw(evidence, each, folder) for each in _aloud(figures, "drawing", silent=json)}
            pictures = {each: Picture(PAPER_FIGURES[each].title, files[0]) for each, files in written.items()}
            found = {each: CLAIMS[each].find(evidence) for each in _aloud(claims, "measuring", silent=json)}
    except KeyboardInterrupt:
        message = "interrupted: what was trained and estimated is kept, and the same command goes on from there"
        raise Failure("interrupted", message, 130) from None
    seconds = time.monotonic() - begun
    report: dict[str, Any] | None = None
    files = [file for some in written.values() for file in some]
    if found:
        report = as_document(found, **_about(place, form, wanted))
        files += [
            _write(folder / "claims.html", as_page(report, pictures)),
            _write(folder / "claims.json", dumps(report, indent=1, ensure_ascii=False) + "\n"),
        ]
    if json:
        print_json(
            {"store": str(place), "form": form, "files": list(map(str, files)), "report": report, "seconds": seconds}
        )
        return
    if report:
        print_table(("claim", "verdict"), [[claim["title"], claim["verdict"]] for claim in report["claims"]])
    say(f"{len(files)} files in {folder}, from the runs in {place}; {seconds:.0f} s")


def _aloud(names: "Sequence[str]", doing: str, *, silent: bool) -> "Iterator[str]":
    """Give the names one by one, and say each."""
    for name in names:
        if not silent:
            say(f"{doing} {name}")
        yield name


@contextmanager
def _asking(store: "Place") -> "Iterator[Evidence]":
    """Give the evidence of a store; what it computes is shown as it goes on."""
    from ipstore.analysis.reproduction import Evidence

    with progress("estimates", "epochs") as show:
        yield Evidence(store, lambda run, done, total: show(done, total, run))


def _train(store: "Place", wanted: "Sequence[Experiment]", processes: int | None, *, silent: bool) -> None:
    """Capture what is missing, having said what that takes."""
    from ipstore.analysis.reproduction import seconds_per_cell
    from ipstore.format import make_store
    from ipstore.trainers.carrying_out import carry_out, cost, missing

    make_store(store)
    left = [experiment for experiment in wanted if missing(store, experiment)]
    if not left:
        return
    if find_spec("torch") is None:
        raise Failure("missing-package", "training needs PyTorch: pip install 'ipstore[train]'")
    takes = cost(store, left, processes)
    if not silent:
        runs = f"{takes.runs} run{'s' if takes.runs > 1 else ''}"
        say(f"to train: {takes.networks:,} networks in {runs}, {takes.epochs:,} epochs in all")
        estimates = _duration(takes.cells * seconds_per_cell())
        say(f"about {_duration(takes.seconds)} on this machine, then {estimates} or more for estimates and figures")
        say(f"about {size(takes.stored_bytes)} in {store}")
        say("Ctrl-C stops at any time, and the same command goes on")
    with progress("training", "epochs") as show:
        for experiment in left:
            carry_out(
                store, experiment, processes=processes, on_progress=lambda run, done, total: show(done, total, run)
            )


def _duration(seconds: float) -> str:
    """Write a time: ``24 min``, ``1 h 10 min``."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _about(store: "Place", form: str, wanted: "Sequence[Experiment]") -> dict[str, str]:
    networks = sum(experiment.networks for experiment in wanted)
    return {
        "form": f"{form}: {networks:,} networks in {sum(len(experiment.runs) for experiment in wanted)} runs",
        "made": f"{datetime.now(UTC):%Y-%m-%d}",
        "store": store.name,
    }


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
