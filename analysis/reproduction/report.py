"""The report on all claims: one HTML page that holds everything it shows, and the same as JSON."""

import base64
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ipstore.analysis.reproduction.claims import CLAIMS
from ipstore.analysis.reproduction.verdicts import RULE, Finding, verdict
from ipstore.version import __version__

__all__ = ["Picture", "as_document", "as_page"]


@dataclass(frozen=True)
class Picture:
    """A figure in the report.

    Attributes
    ----------
    title : str
    file : path
        A png.
    """

    title: str
    file: Path


def as_document(findings: Mapping[str, Sequence[Finding]], **about: Any) -> dict[str, Any]:
    """Give the report as JSON values.

    Parameters
    ----------
    findings : mapping of str to sequence of Finding
        By the names of the claims in `CLAIMS`.
    **about
        What else is to be said of the reproduction, such as ``store`` and ``form``.

    Returns
    -------
    dict
    """
    return {
        "about": {
            **about,
            "ipstore": __version__,
            "versions": {name: version(name) for name in ("numpy", "scipy", "xarray")},
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        },
        "rule": RULE,
        "claims": [_claim(name, each) for name, each in findings.items()],
    }


def _claim(name: str, findings: Sequence[Finding]) -> dict[str, Any]:
    claim, found = CLAIMS[name], verdict(findings)
    return {
        "name": name,
        "kind": "objection" if claim.objection else "claim",
        **{key: getattr(claim, key) for key in ("title", "sentence", "source", "measure", "rule")},
        "verdict": str(found),
        "word": found.word,
        "depends_on": list(found.on),
        "figures": list(claim.figures),
        "findings": [_finding(finding) for finding in findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "conditions": dict(finding.conditions),
        "numbers": {name: _plain(asdict(number)) for name, number in finding.numbers.items()},
        "holds": finding.holds,
        "remark": finding.remark,
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()
    }


def as_page(document: Mapping[str, Any], pictures: Mapping[str, Picture]) -> str:
    """Set the report as a page of HTML that asks no host for anything.

    Parameters
    ----------
    document : mapping
        As `as_document` gives it.
    pictures : mapping of str to Picture
        By the names of the figures.

    Returns
    -------
    str
    """
    environment = Environment(
        loader=PackageLoader("ipstore.analysis.reproduction", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _digits, "interval": _interval}
    shown = {
        name: {"title": each.title, "data": base64.b64encode(each.file.read_bytes()).decode()}
        for name, each in pictures.items()
    }
    return environment.get_template("report.html").render(**document, pictures=shown)


def _interval(number: Mapping[str, Any]) -> str:
    """Write the interval of a number: ``0.79 to 0.86``; nothing where there is none."""
    return "" if number["low"] is None else f"{_digits(number['low'])} to {_digits(number['high'])}"


def _digits(value: float | None) -> str:
    """Write three significant digits, and no more than three decimals; a dash for what is no number."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    decimals = min(3, max(0, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}"
