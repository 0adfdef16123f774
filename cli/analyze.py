"""``ipstore analyze``: information under any estimator, several at once."""

from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ipstore.cli import specs
from ipstore.cli.output import Json, bits, print_json, print_table, progress, say
from ipstore.cli.reporting import Failure
from ipstore.wording import pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from ipstore.analysis.questions import Ask
    from ipstore.analysis.stored import Outcome
    from ipstore.places import Place

__all__ = [
    "Again",
    "Estimators",
    "Every",
    "Information",
    "Labels",
    "Layers",
    "Run",
    "Scheduler",
    "Split",
    "StoreOrRun",
    "analyze",
    "compute",
    "label_words",
]

StoreOrRun = Annotated[str, typer.Argument(metavar="STORE[/RUN]", help="A store, or one run of it.")]
Run = Annotated[str | None, typer.Option("--run", metavar="NAME", help="One run; by default every run.")]
Estimators = Annotated[
    list[str],
    typer.Option(
        "--estimator",
        metavar="NAME",
        help="NAME[:parameter=value,...], such as binned:bins=60; several values (bins=10,30,100) are a grid. May be "
        "repeated. See `ipstore estimators`.",
    ),
]
Layers = Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these layers; by default all.")]
Again = Annotated[bool, typer.Option("--again", help="Compute anew what is stored already.")]
Every = Annotated[int, typer.Option(metavar="N", help="Only epochs that are multiples of N.")]
Split = Annotated[str, typer.Option(metavar="PART", help="Samples that count: all, train or test.")]
Labels = Annotated[
    str | None, typer.Option(metavar="KIND", help="p(y|x) that results refer to: soft or hard; by default as captured.")
]
Information = Annotated[
    float | None, typer.Option(metavar="BITS", help="Soft labels of this I(X;Y), by the task of the run.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="A Dask scheduler, tcp://host:port, whose workers read the store and do the work; by default, none.",
    ),
]


def analyze(
    store: StoreOrRun,
    run: Run = None,
    estimator: Estimators = ["binned"],  # noqa: B006  (typer wants a list, and copies it)
    layers: Layers = None,
    every: Every = 1,
    split: Split = "all",
    target: Annotated[
        str, typer.Option(metavar="Y", help="What Y is: labels, or output, the network's own answer.")
    ] = "labels",
    labels: Labels = None,
    information: Information = None,
    scheduler: Scheduler = None,
    again: Again = False,
    json: Json = False,
) -> None:
    """Estimate information planes, and keep them.

    What is stored is not computed again; of a run that has grown, only the new epochs are. Every chunk is read once for
    all estimators, and one that fails does not stop the others.
    """
    from ipstore.analysis.estimators.registry import parse
    from ipstore.analysis.summaries import summary

    folder, runs = specs.choose_runs(store, run)
    asks = [parse(text) for text in estimator]
    view: dict[str, Any] = {"every": every, "split": split, "target": target}
    view["layers"] = None if layers is None else layers.split(",")
    chosen = [specs.labels(folder, name, labels, information) for name in runs]
    documents: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for name, meant in zip(runs, chosen, strict=True):
        for outcome in compute(folder, name, asks, scheduler=scheduler, again=again, **view, **meant):
            if outcome.error is not None:
                if len(runs) == len(asks) == 1:
                    raise outcome.error
                failures.append(_failure(name, outcome))
                continue
            assert outcome.result is not None
            documents.append(_document(name, outcome.result, summary(outcome.result)))
            if not json:
                _print(documents[-1])
    if json:
        print_json({"store": str(folder), "analyses": documents, "failures": failures})
    if failures:
        raise typer.Exit(1)


def compute(
    store: "Place",
    run: str,
    asks: "Sequence[Ask]",
    *,
    scheduler: str | None = None,
    again: bool = False,
    **view: Any,
) -> "list[Outcome]":
    """Analyse a run under some estimators, showing how far it is."""
    from ipstore.analysis.scheduling import connected
    from ipstore.analysis.stored import analyze_all

    with connected(scheduler), progress(run, "epochs") as show:
        try:
            return analyze_all(store, run, asks, again=again, on_progress=show, **view)
        except KeyboardInterrupt:
            message = (
                f"interrupted: the epochs of {run!r} that were analysed are kept; the same command goes on from there"
            )
            raise Failure("interrupted", message, 130) from None


def _failure(run: str, outcome: "Outcome") -> dict[str, str]:
    assert outcome.error is not None
    message = f"run {run!r}, {outcome.estimator}: {outcome.error}"
    typer.echo(f"error: {message}", err=True)
    return {"run": run, "estimator": outcome.estimator, "kind": outcome.error.kind, "message": str(outcome.error)}


def _document(run: str, plane: "xr.Dataset", table: "xr.Dataset") -> dict[str, Any]:
    grid = [str(dim) for dim in plane[next(iter(plane.data_vars))].dims if dim not in ("epoch", "seed", "layer")]
    rows = []
    for point in product(*(table[dim].values.tolist() for dim in (*grid, "layer"))):
        at = dict(zip((*grid, "layer"), point, strict=True))
        row = {**at, **{str(name): array.sel(at).item() for name, array in table.data_vars.items()}}
        if "peak_epoch" in row:
            row["peak_epoch"] = int(row["peak_epoch"]) if table.attrs["seeds"] else None
        rows.append(row)
    known = ("labels", "labels_from", "labels_name", "I_XY", "probe", "split", "target", "every")
    return {
        "run": run,
        "result": plane.attrs["name"] if not grid else None,
        "estimator": plane.attrs["estimator"],
        "parameters": plane.attrs["parameters"],
        "grid": grid,
        "units": "bits",
        **{name: plane.attrs.get(name) for name in known},
        "kinds": {str(name): array.attrs["kind"] for name, array in plane.data_vars.items() if "kind" in array.attrs},
        "epochs": plane.sizes["epoch"],
        "first_epoch": int(plane["epoch"][0]),
        "last_epoch": int(plane["epoch"][-1]),
        "seeds": plane.sizes["seed"],
        "seeds_counted": table.attrs["seeds"],
        "layers": rows,
    }


def _print(document: dict[str, Any]) -> None:
    counted, every = document["seeds_counted"], document["seeds"]
    seeds = f"{every} seeds" if counted == every else f"{counted} of {every} seeds (the others have NaN)"
    kinds = ", ".join(f"{name} {kind}" for name, kind in document["kinds"].items() if name in ("I_XT", "I_TY"))
    about = "Y is the network's own answer" if document["target"] == "output" else label_words(document)
    about += "" if document["split"] == "all" else f", {document['split']} samples only"
    stored = f"; stored as {document['result']}" if document["result"] else ""
    several = {name: ",".join(dict.fromkeys(str(row[name]) for row in document["layers"])) for name in document["grid"]}
    say(f"{document['run']}: {document['estimator']}, {pairs(document['parameters'] | several)}")
    say(f"{about}{stored}")
    epochs = "one epoch" if document["epochs"] == 1 else f"{document['epochs']} epochs"
    when = f"{epochs}, {document['first_epoch']} to {document['last_epoch']}"
    interval = "and its 95% interval" if counted >= 5 else "too few for an interval"
    say(f"{when}; mean over {seeds}, {interval}; bits ({kinds})")
    columns, cells = _columns(document)
    print_table(columns, [cells(row) for row in document["layers"]], numbers=columns[len(document["grid"]) + 1 :])
    say("")


def label_words(document: dict[str, Any]) -> str:
    """Write to which p(y|x) a document refers."""
    words = f"{document['labels']} labels"
    words += f" of {document['labels_name']}" if document["labels_name"] else ""
    words += " in place of those captured" if document["labels_from"] else ""
    return f"{words}, I(X;Y) = {document['I_XY']:.4f} bits"


def _columns(document: dict[str, Any]) -> tuple[list[str], Any]:
    """Choose the columns of a document's table, and what writes a row of it."""
    row = document["layers"][0]
    columns = [*document["grid"], "layer"]
    if "end_I_XT" in row:
        columns += ["peak I(X;T)", "epoch", "end I(X;T)", "interval", "drop"]
    if "end_I_TY" in row:
        columns += ["end I(T;Y)", "interval"]
    if "end_H_Y" in row:
        columns += ["end H(Y)"]
    if "end_coverage" in row:
        columns += ["coverage"]

    def cells(row: dict[str, Any]) -> list[str]:
        made = [str(row[name]) for name in (*document["grid"], "layer")]
        if "end_I_XT" in row:
            epoch = "-" if row["peak_epoch"] is None else str(row["peak_epoch"])
            made += [bits(row["peak_I_XT"]), epoch, bits(row["end_I_XT"]), _interval(row, "I_XT"), bits(row["drop"])]
        if "end_I_TY" in row:
            made += [bits(row["end_I_TY"]), _interval(row, "I_TY")]
        return [*made, *(bits(row[name]) for name in ("end_H_Y", "end_coverage") if name in row)]

    return columns, cells


def _interval(row: dict[str, Any], name: str) -> str:
    low, high = row[f"end_{name}_low"], row[f"end_{name}_high"]
    return "-" if low != low else f"{bits(low)}..{bits(high)}"
