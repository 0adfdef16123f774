"""How commands fail: a line on stderr, a JSON document where one was asked for, and an exit code."""

import errno
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from ipstore.cli.output import print_json
from ipstore.errors import IpstoreError, ParameterError, UnknownNameError

__all__ = ["Failure", "ReportingGroup"]


class Failure(Exception):
    """A failure of the command itself, for which the library has no error.

    Parameters
    ----------
    kind : str
    message : str
    code : int
        The exit code.
    details : dict
        Further members of the JSON error.
    """

    def __init__(self, kind: str, message: str, code: int = 1, **details: Any) -> None:
        super().__init__(message)
        self.kind, self.code, self.details = kind, code, details


class ReportingGroup(TyperGroup):
    """The commands; what they raise on purpose is reported. Any other exception is a bug and shows itself."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        as_json = "--json" in ctx.args
        try:
            with _readable_warnings():
                return super().invoke(ctx)
        except Failure as failure:
            raise _report(failure.kind, str(failure), failure.code, as_json, failure.details) from failure
        except IpstoreError as error:
            code = 2 if isinstance(error, ParameterError | UnknownNameError) else 1
            raise _report(error.kind, str(error), code, as_json) from error
        except typer.TyperException as error:
            if as_json:
                print_json({"error": {"kind": "usage", "message": error.format_message()}})
            raise  # typer prints it, with the usage
        except KeyboardInterrupt as error:
            raise _report("interrupted", "interrupted", 130, as_json) from error
        except OSError as error:
            if error.errno == errno.EPIPE or error.filename is None:
                raise
            raise _report("system", f"{error.filename}: {error.strerror}", 1, as_json) from error


def _report(kind: str, message: str, code: int, as_json: bool, details: dict[str, Any] | None = None) -> typer.Exit:
    typer.echo(f"{'' if code == 130 else 'error: '}{message}", err=True)
    if as_json:
        print_json({"error": {"kind": kind, "message": message, **(details or {})}})
    return typer.Exit(code)


@contextmanager
def _readable_warnings() -> Iterator[None]:
    """Print a warning as one line; from where in the code it comes is nothing to who sits at a terminal."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
