"""``ipstore estimators``: what can be asked, and how far each can be trusted."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ipstore.cli.output import Json, bits, print_json, print_table, progress, say
from ipstore.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipstore.analysis.estimators import Estimator
    from ipstore.analysis.testing import Finding

__all__ = ["estimators"]


def estimators(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Only these, with their parameters.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Hold them to the contract, and to truths known in closed form.")
    ] = False,
    samples: Annotated[int | None, typer.Option(metavar="N", help="Of a run of the check; 1000.")] = None,
    repeats: Annotated[int | None, typer.Option(metavar="N", help="Runs of the check on each truth; 10.")] = None,
    json: Json = False,
) -> None:
    """List the estimators, or check them.

    Of those that are named it shows the parameters too. With --check, exit code 1 says that one of them does not keep
    what it claims.
    """
    from ipstore.analysis.estimators.registry import available, get

    if check:
        _check(names or available(), {"samples": samples, "repeats": repeats}, json)
        return
    if samples is not None or repeats is not None:
        raise ParameterError("--samples and --repeats are of a check; give --check too, or leave them out")
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


def _check(names: "Sequence[str]", given: dict[str, int | None], json: bool) -> None:
    from ipstore.analysis.testing import check_estimators

    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    findings: list[Finding] = []
    with progress("check", "estimators") as show:
        for done, name in enumerate(names):
            show(done, len(names))
            of_one = list(check_estimators([name], **options))
            findings += of_one
            if not json:
                _print_findings(of_one)
    failed = [finding for finding in findings if finding.fails]
    if json:
        print_json({"findings": [{**asdict(finding), "fails": finding.fails} for finding in findings]})
    else:
        breaches = f"{len(failed)} of {len(findings)} findings are failures" if failed else "nothing failed"
        say(f"{'one estimator' if len(names) == 1 else f'{len(names)} estimators'} checked: {breaches}")
    if failed:
        raise typer.Exit(1)


_COLUMNS = ("  bed", "quantity", "kind", "truth", "estimate", "error", "interval", "held", "runs", "s/run", "verdict")


def _print_findings(findings: "Sequence[Finding]") -> None:
    """Print what was found of one estimator."""
    for finding in findings:
        if finding.bed is None:
            where = f"{finding.promise}: " if finding.promise else ""
            seconds = "" if finding.seconds is None else f" ({finding.seconds:.1f} s)"
            say(f"{finding.estimator}: {finding.verdict}: {where}{finding.message}{seconds}")
    rows = [_row(finding) for finding in findings if finding.bed is not None]
    if rows:
        print_table(_COLUMNS, rows, numbers=_COLUMNS[3:-1])
    for finding in findings:
        if finding.bed is not None and finding.message:
            say(f"  {finding.bed} {finding.promise or ''}: {finding.message}")
    say("")


def _row(finding: "Finding") -> list[str]:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    interval = "-" if finding.interval is None else "..".join(map(bits, finding.interval))
    return [
        f"  {finding.bed}",
        finding.promise or "-",
        finding.kind or "-",
        number(finding.truth, ".6f"),
        number(finding.estimate, ".6f"),
        number(finding.error, "+.1e"),
        interval,
        number(finding.held, ".0%"),
        str(finding.runs),
        number(finding.seconds, ".3f"),
        finding.verdict,
    ]
