"""``ipstore analyze`` and ``ipstore estimators``: information under any estimator."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ipstore.cli import specs
from ipstore.cli.output import Json, bits, pairs, print_json, print_table, progress, say

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

__all__ = ["Estimator", "Run", "StoreOrRun", "analyze", "compute", "estimators"]

StoreOrRun = Annotated[str, typer.Argument(metavar="STORE[/RUN]", help="A store, or one run of it.")]
Run = Annotated[str | None, typer.Option("--run", metavar="NAME", help="One run; by default every run.")]
_ESTIMATOR = "NAME[:parameter=value,...], such as binned:bins=60; see `ipstore estimators`."
Estimator = Annotated[str, typer.Option("--estimator", metavar="NAME", help=_ESTIMATOR)]

_COLUMNS = ("layer", "peak I(X;T)", "epoch", "end I(X;T)", "sd", "drop", "end I(T;Y)", "sd")


def analyze(
    store: StoreOrRun,
    run: Run = None,
    estimator: Annotated[
        list[str], typer.Option("--estimator", metavar="NAME", help=f"{_ESTIMATOR} May be repeated.")
    ] = ["binned"],  # noqa: B006  (typer wants a list, and copies it)
    layers: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these layers; by default all.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Compute anew what is stored already.")] = False,
    json: Json = False,
) -> None:
    """Estimate information planes, and keep them.

    What is stored is not computed again; of a run that has grown, only the new epochs are.
    """
    from ipstore.analysis.estimators.registry import parse
    from ipstore.analysis.summaries import summary

    folder, runs = specs.choose_runs(store, run)
    chosen = layers.split(",") if layers else None
    questions = [parse(text) for text in estimator]
    documents = []
    for name in runs:
        for question, params in questions:
            plane = compute(folder, name, question, params, layers=chosen, again=again)
            table = summary(plane)
            documents.append(_document(name, plane, table))
            if not json:
                _print(documents[-1])
    if json:
        print_json({"store": str(folder), "analyses": documents})


def compute(
    store: "Path",
    run: str,
    estimator: str,
    params: dict[str, Any],
    *,
    layers: list[str] | None = None,
    again: bool = False,
) -> "xr.Dataset":
    """Analyse a run, showing how far it is."""
    from ipstore.analysis.stored import analyze

    with progress(f"{run} {estimator}", "epochs") as show:
        return analyze(store, run, estimator, layers=layers, again=again, on_progress=show, **params)


def _document(run: str, plane: "xr.Dataset", table: "xr.Dataset") -> dict[str, Any]:
    rows = [
        {"layer": str(layer), **{str(name): table[name].sel(layer=layer).item() for name in table.data_vars}}
        for layer in table["layer"].values
    ]
    for row in rows:
        row["peak_epoch"] = int(row["peak_epoch"]) if table.attrs["seeds"] else None
    return {
        "run": run,
        "result": plane.attrs["name"],
        "estimator": plane.attrs["estimator"],
        "parameters": plane.attrs["parameters"],
        "units": "bits",
        "labels": plane.attrs["labels"],
        "I_XY": plane.attrs["I_XY"],
        "epochs": plane.sizes["epoch"],
        "seeds": plane.sizes["seed"],
        "seeds_counted": table.attrs["seeds"],
        "layers": rows,
    }


def _print(document: dict[str, Any]) -> None:
    counted, every = document["seeds_counted"], document["seeds"]
    seeds = f"{every} seeds" if counted == every else f"{counted} of {every} seeds (the others have NaN)"
    say(f"{document['run']}: {document['estimator']}, {pairs(document['parameters'])}")
    say(f"{document['labels']} labels, I(X;Y) = {document['I_XY']:.4f} bits; stored as {document['result']}")
    say(f"in bits; mean and sd over {seeds}")
    rows = [
        [
            row["layer"],
            bits(row["peak_I_XT"]),
            "-" if row["peak_epoch"] is None else str(row["peak_epoch"]),
            bits(row["end_I_XT"]),
            bits(row["end_I_XT_sd"]),
            bits(row["drop"]),
            bits(row["end_I_TY"]),
            bits(row["end_I_TY_sd"]),
        ]
        for row in document["layers"]
    ]
    print_table(_COLUMNS, rows, numbers=_COLUMNS[1:])
    say("")


def estimators(json: Json = False) -> None:
    """List the estimators and their parameters."""
    from ipstore.analysis.estimators.registry import available, get

    found = [get(name) for name in available()]
    if json:
        print_json(
            {
                "estimators": [
                    {
                        "name": estimator.name,
                        "version": estimator.version,
                        "kind": estimator.kind,
                        "summary": estimator.summary,
                        "reference": estimator.reference,
                        "quantities": [quantity.name for quantity in estimator.quantities],
                        "parameters": [
                            {
                                "name": parameter.name,
                                "description": parameter.description,
                                "allowed": parameter.allowed,
                                "optional": parameter.optional,
                                "default": estimator.defaults[parameter.name],
                            }
                            for parameter in estimator.parameters
                        ],
                    }
                    for estimator in found
                ]
            }
        )
        return
    for estimator in found:
        say(f"{estimator.name}: {estimator.summary}")
        say(f"  gives {', '.join(quantity.name for quantity in estimator.quantities)}; kind: {estimator.kind}")
        say(f"  {estimator.reference}")
        rows = [
            [
                f"  {parameter.name}",
                parameter.description,
                parameter.allowed,
                str(estimator.defaults[parameter.name]).lower(),
            ]
            for parameter in estimator.parameters
        ]
        if rows:
            print_table(("  parameter", "meaning", "allowed", "default"), rows)
        say("")
