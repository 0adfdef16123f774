"""How values are written for people, wherever they are shown: in tables, in notebooks, on pages."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["model_text", "moment", "pairs", "ranges", "size", "task_text"]


def size(count: int) -> str:
    """Write a number of bytes: ``"1.2 GB"``."""
    from rich.filesize import decimal

    return decimal(count)


def moment(text: str) -> str:
    """Write a stored time, ISO 8601 in UTC, to the minute."""
    return f"{text[:16].replace('T', ' ')} UTC"


def pairs(values: Mapping[str, Any]) -> str:
    """Write names with their values, leaving out None: ``"bins 30, range -1.0..1.0"``."""
    return ", ".join(f"{key} {_text(value)}" for key, value in values.items() if value is not None)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ("-" if all(isinstance(item, int) for item in value) else "..").join(map(str, value))
    return str(value)


def ranges(numbers: Sequence[int]) -> str:
    """Write ascending numbers with their runs drawn together: ``"0-3, 7"``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def task_text(name: str, params: Mapping[str, Any]) -> str:
    """Write a task so that the command line reads it: ``"rule:signed=true"``."""
    given = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in params.items()]
    return f"{name}:{','.join(given)}" if given else name


def model_text(model: Mapping[str, Any]) -> str:
    """Write what a network is: ``"12-10-7-5-4-3-2 tanh"``, or the class of a module; nothing if neither is told."""
    if "widths" in model:
        return f"{_text(model['widths'])} {model.get('activation', '')}".rstrip()
    return str(model.get("class", model.get("kind", "")))
