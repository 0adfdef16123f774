"""What an estimator's parameters may be: one declaration for the check, the command line and the listing."""

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from math import inf, isfinite
from numbers import Real
from operator import index
from typing import Any

import numpy as np

from ipstore.errors import ParameterError

__all__ = ["Choice", "Integer", "Interval", "Number", "Parameter"]


@dataclass(frozen=True)
class Parameter(ABC):
    """A parameter of an estimator; its default stands in the signature of the kernel.

    Parameters
    ----------
    name : str
    description : str
        What it means, in one line, with its units.
    optional : bool, keyword only
        Whether None is allowed too; the command line writes it ``none``.
    """

    name: str
    description: str
    _: KW_ONLY
    optional: bool = False

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What is allowed, in words that fit after "must be"."""

    @abstractmethod
    def _accept(self, value: Any) -> Any:
        """Give `value` in its own type, or raise ValueError."""

    @abstractmethod
    def _read(self, text: str) -> Any:
        """Give what `text` means, or raise ValueError."""

    def check(self, value: Any) -> Any:
        """Give `value` in the parameter's own type.

        Raises
        ------
        ParameterError
            If it is not what `allowed` says.
        """
        if value is None and self.optional:
            return None
        try:
            return self._accept(value)
        except (TypeError, ValueError):
            raise ParameterError(f"{self.name} must be {self.allowed} but got {value!r}") from None

    def grid(self, value: Any) -> list[Any] | None:
        """Give the values of a grid, each as `check` has it, or None if `value` is a single one.

        Parameters
        ----------
        value : object
            A list, a range or an array is a grid.

        Raises
        ------
        ParameterError
            If a value of the grid is not allowed or stands in it twice, or if there is none.
        """
        if not self._is_grid(value):
            return None
        values = [self.check(each) for each in value]
        if not values or any(each in values[:place] for place, each in enumerate(values)):
            raise ParameterError(f"a grid of {self.name} needs one value or more, each once, but got {list(value)}")
        return values

    def _is_grid(self, value: Any) -> bool:
        return isinstance(value, list | range | np.ndarray)

    def parse(self, text: str) -> Any:
        """Give the value that the command line writes as `text`.

        Raises
        ------
        ParameterError
            If it is not what `allowed` says.
        """
        if text.lower() == "none" and self.optional:
            return None
        try:
            return self._accept(self._read(text))
        except ValueError:
            raise ParameterError(f"{self.name} must be {self.allowed} but got {text!r}") from None


@dataclass(frozen=True)
class Integer(Parameter):
    """A whole number in [`low`, `high`]."""

    _: KW_ONLY
    low: int
    high: int

    @property
    def allowed(self) -> str:  # noqa: D102  # documented where it is declared
        return f"an integer in [{self.low}, {self.high}]"

    def _accept(self, value: Any) -> int:
        number = index(value)
        if isinstance(value, bool) or not self.low <= number <= self.high:
            raise ValueError
        return number

    def _read(self, text: str) -> int:
        return int(text)


@dataclass(frozen=True)
class Number(Parameter):
    """A finite real number in the open interval (`low`, `high`)."""

    _: KW_ONLY
    low: float = -inf
    high: float = inf

    @property
    def allowed(self) -> str:  # noqa: D102  # documented where it is declared
        return f"a number in ({self.low:g}, {self.high:g})"

    def _accept(self, value: Any) -> float:
        if isinstance(value, bool | str) or not self.low < float(value) < self.high:
            raise ValueError
        return float(value)

    def _read(self, text: str) -> float:
        return float(text)


@dataclass(frozen=True)
class Choice(Parameter):
    """One of some words."""

    _: KW_ONLY
    words: tuple[str, ...]

    @property
    def allowed(self) -> str:  # noqa: D102  # documented where it is declared
        return f"one of {', '.join(map(repr, self.words))}"

    def _accept(self, value: Any) -> str:
        if value not in self.words:
            raise ValueError
        return str(value)

    def _read(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Interval(Parameter):
    """Two finite numbers, low < high, or a word; the command line writes the numbers ``low..high``."""

    _: KW_ONLY
    words: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:  # noqa: D102  # documented where it is declared
        words = "".join(f" or {word!r}" for word in self.words)
        return f"two finite numbers, low < high (on the command line low..high){words}"

    def _accept(self, value: Any) -> tuple[float, float] | str:
        if isinstance(value, str):
            if value not in self.words:
                raise ValueError
            return value
        low, high = map(float, value)
        if not (low < high and isfinite(high - low)):
            raise ValueError
        return low, high

    def _is_grid(self, value: Any) -> bool:
        pair = super()._is_grid(value) and len(value) == 2 and all(isinstance(end, Real) for end in value)
        return super()._is_grid(value) and not pair

    def _read(self, text: str) -> Any:
        low, dots, high = text.partition("..")
        return (float(low), float(high)) if dots else text
