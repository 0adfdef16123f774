"""``ipstore bound``: how the layers of a run stand to the information bottleneck."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ipstore.cli import specs
from ipstore.cli.analyze import Again, Every, Information, Labels, Layers, Run, Scheduler, StoreOrRun, label_words
from ipstore.cli.output import Json, bits, print_json, print_table, progress, say
from ipstore.cli.reporting import Failure
from ipstore.errors import IpstoreError, ParameterError, UnreachableError
from ipstore.wording import pairs

if TYPE_CHECKING:
    import xarray as xr

    from ipstore.places import Place

__all__ = ["bound", "compute_bound"]

Tolerance = Annotated[
    float, typer.Option("--tol", metavar="BITS", help="To how many bits of I(T;Y) the curve is known.")
]
Within = Annotated[float, typer.Option(metavar="BITS", help="Distance to its right at which a layer is on the curve.")]

_COLUMNS = {
    "I(X;T)": "end_I_XT",
    "I(T;Y)": "end_I_TY",
    "residual": "end_residual",
    "IB right": "end_IB_distance_I_XT",
    "IB below": "end_IB_distance_I_TY",
    "hard right": "end_deterministic_distance_H_T",
    "hard below": "end_deterministic_distance_I_TY",
}
"""Columns of the table, in bits, and where they come from."""


def bound(
    store: StoreOrRun,
    run: Run = None,
    estimator: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What makes T discrete: binned, quantised or discrete, NAME[:parameter=value]."
        ),
    ] = "binned",
    layers: Layers = None,
    every: Every = 1,
    labels: Labels = None,
    information: Information = None,
    tol: Tolerance = 1e-4,
    within: Within = 0.01,
    scheduler: Scheduler = None,
    again: Again = False,
    json: Json = False,
) -> None:
    """Hold layers against the information-bottleneck curve.

    For every epoch, seed and layer: beta*, at which the layer's encoder comes nearest to the one that its own decoder
    asks for, what is left between them, and the distances to the curve, which is proven to a tolerance, and to the
    curve of deterministic (hard) T. What is stored is not computed again.
    """
    from ipstore.analysis.estimators.registry import parse
    from ipstore.analysis.questions import expand
    from ipstore.analysis.summaries import summary

    folder, runs = specs.choose_runs(store, run)
    name, params = parse(estimator)
    if grid := expand(name, params, "bound")[0]:
        raise ParameterError(f"bound takes one value of {', '.join(grid)}; ask once for each of them")
    params |= {"tol": tol, "within": within}
    chosen = [specs.labels(folder, each, labels, information) for each in runs]
    documents: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for each, meant in zip(runs, chosen, strict=True):
        view = {"layers": None if layers is None else layers.split(","), "every": every, **meant}
        try:
            found = compute_bound(folder, each, name, params, scheduler=scheduler, again=again, **view)
        except IpstoreError as error:
            if len(runs) == 1 or isinstance(error, UnreachableError):
                raise
            typer.echo(f"error: run {each!r}: {error}", err=True)
            failures.append({"run": each, "kind": error.kind, "message": str(error)})
            continue
        documents.append(_document(each, found, summary(found)))
        if not json:
            _print(documents[-1])
    if json:
        print_json({"store": str(folder), "bounds": documents, "failures": failures})
    if failures:
        raise typer.Exit(1)


def compute_bound(
    store: "Place",
    run: str,
    estimator: str,
    params: dict[str, Any],
    *,
    scheduler: str | None = None,
    again: bool = False,
    **view: Any,
) -> "xr.Dataset":
    """Hold a run against the bound, showing how far it is."""
    from ipstore.analysis import analyze_bound
    from ipstore.analysis.scheduling import connected

    with connected(scheduler), progress(run, "epochs") as show:
        try:
            return analyze_bound(store, run, estimator, again=again, on_progress=show, **view, **params)
        except KeyboardInterrupt:
            message = f"interrupted: the epochs of {run!r} that were done are kept; the same command goes on from there"
            raise Failure("interrupted", message, 130) from None


def _document(run: str, found: "xr.Dataset", table: "xr.Dataset") -> dict[str, Any]:
    known = ("labels", "labels_from", "labels_name", "I_XY", "H_X", "probe", "every", "onset_beta", "certificate")
    curve = {name: found[f"curve_{name}"].values.tolist() for name in ("I_XT", "I_TY", "beta", "gap")}
    hard = {name: found[f"deterministic_{name}"].values.tolist() for name in ("H_T", "I_TY")}
    rows = [
        {"layer": layer, **{str(name): array.sel(layer=layer).item() for name, array in table.data_vars.items()}}
        for layer in table["layer"].values.tolist()
    ]
    return {
        "run": run,
        "result": found.attrs["name"],
        "estimator": found.attrs["estimator"],
        "parameters": found.attrs["parameters"],
        "units": "bits",
        **{name: found.attrs.get(name) for name in known},
        "curve_error": found.attrs["curve_error"],
        "epochs": found.sizes["epoch"],
        "first_epoch": int(found["epoch"][0]),
        "last_epoch": int(found["epoch"][-1]),
        "seeds": found.sizes["seed"],
        "seeds_counted": table.attrs["seeds"],
        "curve": curve,
        "deterministic_curve": hard,
        "layers": rows,
    }


def _print(document: dict[str, Any]) -> None:
    proof = "proven" if document["certificate"] == "rigorous" else "as far as a search found"
    points, cap = len(document["curve"]["beta"]), document["parameters"]["beta_max"]
    own = {key: value for key, value in document["parameters"].items() if key not in ("tol", "within", "beta_max")}
    say(f"{document['run']}: {', '.join(filter(None, [document['estimator'], pairs(own)]))}")
    say(f"{label_words(document)}; stored as {document['result']}")
    sample = "" if document["probe"] == "population" else " of the sampled inputs"
    say(
        f"IB curve{sample}: {points} points from beta {document['onset_beta']:.6g} on, {proof} to "
        f"{document['curve_error']:.1g} bits of I(T;Y)"
    )
    seeds = document["seeds_counted"]
    counted = f"{seeds} seeds" if seeds == document["seeds"] else f"{seeds} of {document['seeds']} seeds"
    say(f"epoch {document['last_epoch']}; means over {counted}, of beta* the median; bits. Right of a curve, below it:")
    say(f"at most so far. Hard: the curve of T that are functions of X. Capped: share of seeds with beta* >= {cap:g}")
    if document["labels"] == "hard":
        say("Hard labels make the curve the line I(T;Y) = I(X;T); soft ones, as by --information 0.99, say more")
    rows = []
    for row in document["layers"]:
        beta, missing = row["end_beta"], row["end_beta"] != row["end_beta"]
        last = ["-"] * 3 if missing else [f"{beta:.4g}", f"{row['end_beta_capped']:.0%}", f"{row['end_at_bound']:.0%}"]
        rows.append([row["layer"], *(bits(row[name]) for name in _COLUMNS.values()), *last])
    columns = ["layer", *_COLUMNS, "beta*", "capped", "at bound"]
    print_table(columns, rows, numbers=columns[1:])
    say("")
