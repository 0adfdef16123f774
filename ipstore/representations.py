"""What a notebook and a terminal show of runs: of their attributes alone, so that nothing is read to show them.

A store may come from anyone, so all text is escaped before it becomes a part of a page.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ipstore.wording import model_text, ranges, task_text

__all__ = ["facts_html", "facts_text", "glance", "table_html", "table_text"]

_MOST = 200
"""Rows that are shown; of more, the rest is counted."""

_NUMBERS = ("epochs", "seeds", "results", "on disk")
_LEFT, _RIGHT = ' style="text-align:left"', ' style="text-align:right"'


def glance(attrs: Mapping[str, Any], *, epochs: int, last_epoch: int | None) -> dict[str, str]:
    """Say of a run what it is, in a few words each; what its attributes do not tell is left out.

    Parameters
    ----------
    attrs : mapping
        Of the run: task, model, sweep, level, seeds.
    epochs : int
        How many are stored.
    last_epoch : int or None
        None if there is none yet.
    """
    seeds = attrs.get("seeds", [])
    last = "" if last_epoch is None else str(last_epoch)
    sweep = attrs.get("sweep")
    place = sweep.get("at", {}) if isinstance(sweep, dict) else {}
    told = {
        "task": task_text(str(attrs.get("task", "")), attrs.get("task_params", {})),
        "model": model_text(attrs.get("model", {})),
        "sweep": ", ".join(f"{axis}={value}" for axis, value in place.items()),
        "level": str(attrs.get("level", "")),
        "epochs": last + (f" ({epochs} stored)" if last and epochs != int(last) + 1 else "") or "none yet",
        "seeds": f"{len(seeds)} ({ranges(sorted(seeds))})" if seeds else "",
    }
    return {name: text for name, text in told.items() if text}


def facts_text(title: str, facts: Mapping[str, str]) -> str:
    """Write facts for a terminal, one to a line."""
    indent = max(map(len, facts), default=0) + 2
    return "\n".join([title, *(f"  {name:<{indent}}{text}" for name, text in facts.items())])


def facts_html(title: str, facts: Mapping[str, str]) -> str:
    """Write facts for a notebook."""
    rows = "".join(
        f"<tr><th{_LEFT}>{escape(name)}</th><td{_LEFT}>{escape(text)}</td></tr>" for name, text in facts.items()
    )
    return f"<div><b>{escape(title)}</b><table>{rows}</table></div>"


def table_text(title: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Write a table for a terminal; a column that is empty everywhere is left out."""
    columns = _columns(rows)
    shown = [dict(zip(columns, columns, strict=True)), *rows[:_MOST]] if rows else []
    widths = {name: max(len(row.get(name, "")) for row in shown) for name in columns}
    lines = [
        "  ".join(f"{row.get(name, ''):{'>' if name in _NUMBERS else '<'}{widths[name]}}" for name in columns).rstrip()
        for row in shown
    ]
    return "\n".join([title, *lines, *_left_out(rows)])


def table_html(title: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Write a table for a notebook; a column that is empty everywhere is left out."""
    columns = _columns(rows)
    sides = {name: _RIGHT if name in _NUMBERS else _LEFT for name in columns}
    head = "".join(f"<th{sides[name]}>{escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td{sides[name]}>{escape(row.get(name, str()))}</td>' for name in columns)}</tr>"
        for row in rows[:_MOST]
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
    return f"<div><b>{escape(title)}</b>{table}{''.join(map(escape, _left_out(rows)))}</div>"


def _columns(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Give the columns in the order of the row that has most, and then those that it lacks."""
    names = dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row)
    return [name for name in names if any(row.get(name) for row in rows)]


def _left_out(rows: Sequence[Any]) -> list[str]:
    return [f"and {len(rows) - _MOST} more"] if len(rows) > _MOST else []
