"""``ipstore estimators``: what can be asked, and how far each can be trusted."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ipstore.cli.output import Json, print_json, print_table, say

if TYPE_CHECKING:
    from ipstore.analysis.estimators import Estimator

__all__ = ["estimators"]


def estimators(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Only these, with their parameters.")
    ] = None,
    json: Json = False,
) -> None:
    """List the estimators; of those that are named, the parameters too."""
    from ipstore.analysis.estimators.registry import available, get

    found = [get(name) for name in names or available()]
    if json:
        print_json({"estimators": [_document(estimator) for estimator in found]})
    elif names:
        for estimator in found:
            _print(estimator)
    else:
        rows = [[each.name, each.kind, _given(each), each.summary] for each in found]
        print_table(("name", "kind", "gives", "what it is"), rows)
        say("\nParameters and references: ipstore estimators NAME")


def _given(estimator: "Estimator") -> str:
    return " ".join(quantity.name for quantity in estimator.quantities if quantity.name in ("I_XT", "I_TY"))


def _document(estimator: "Estimator") -> dict[str, Any]:
    return {
        "name": estimator.name,
        "version": estimator.version,
        "kind": estimator.kind,
        "summary": estimator.summary,
        "reference": estimator.reference,
        "quantities": [
            {"name": each.name, "units": each.units, "kind": each.kind or estimator.kind}
            for each in estimator.quantities
        ],
        "refuses": dict(estimator.refuses),
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


def _print(estimator: "Estimator") -> None:
    say(f"{estimator.name}: {estimator.summary}")
    given = [
        quantity.name if quantity.kind in (None, estimator.kind) else f"{quantity.name} ({quantity.kind})"
        for quantity in estimator.quantities
    ]
    say(f"  gives {', '.join(given)}; kind: {estimator.kind}")
    for name, why in estimator.refuses.items():
        say(f"  does not give {name}, because {why}")
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
