"""Tasks: data with a known joint distribution of input and label.

To add one, write a factory that returns a `Task` in a file of its own here, and register it in one line of
`_TASKS`.
"""

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from ipstore.errors import ParameterError, UnknownNameError
from ipstore.trainers.tasks.base import Task

__all__ = ["Task", "available", "load"]

_TASKS = {
    "digits": "ipstore.trainers.tasks.digits:digits",
    "rule": "ipstore.trainers.tasks.rule:rule",
}


def available() -> tuple[str, ...]:
    """Names of the tasks that come with ipstore."""
    return tuple(sorted(_TASKS))


def load(name: str, **params: Any) -> Task:
    """Build a task by name.

    Parameters
    ----------
    name : str
        One of `available()`, or ``"module:factory"``: a function of your own that returns a `Task`.
    **params
        Parameters of the factory; JSON values, since a run keeps them.

    Returns
    -------
    Task

    Raises
    ------
    UnknownNameError
        If there is no such task, module or function.
    ParameterError
        If the factory takes no such parameters, refuses their values, or returns no `Task`.

    Examples
    --------
    >>> task = load("rule", information=0.99)
    >>> task.x.shape, task.labels
    ((4096, 12), 'soft')
    """
    factory = _factory(name)
    try:
        inspect.signature(factory).bind(**params)
        json.dumps(params, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"task {name!r} cannot take {params!r}: {error}. It takes {_parameters(factory)}, as JSON values"
        ) from error
    task = factory(**params)
    if not isinstance(task, Task):
        raise ParameterError(f"{name!r} returned a {type(task).__name__}; a task factory returns a Task")
    return replace(task, name=name, params=params)


def _factory(name: str) -> Callable[..., Any]:
    module, colon, attribute = _TASKS.get(name, name).partition(":")
    if not colon:
        raise UnknownNameError("task", name, [*_TASKS, "module:factory"])
    try:
        found = getattr(import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise UnknownNameError("task", name, [*_TASKS, "module:factory"]) from error
    if not callable(found):
        raise ParameterError(f"{name!r} is a {type(found).__name__}; a task factory is a function that returns a Task")
    factory: Callable[..., Any] = found
    return factory


def _parameters(factory: Callable[..., Any]) -> str:
    return str(inspect.signature(factory).replace(return_annotation=inspect.Signature.empty))
