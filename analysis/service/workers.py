"""A process that analyses runs for a server, so that an estimator that hangs or crashes takes nothing else with it.

A worker is a fresh interpreter, kept for one order after the other because its imports take seconds. Over a socket pair
it is given an `Order` and answers ``progress``, then ``finished`` or ``failed``. It leads a process group of its own,
and does not outlive the server, however that ends.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple, NoReturn, TextIO

from ipstore.analysis.plane import Split, Target, View
from ipstore.analysis.questions import About, Question, expand
from ipstore.analysis.stored import NonFiniteWarning, analyze_view
from ipstore.errors import EstimatorError, IpstoreError, ParameterError, WorkerError

__all__ = ["News", "Order", "Worker", "worker_main"]

_COMMAND = "import sys; from ipstore.analysis.service.workers import worker_main; worker_main(*map(int, sys.argv[1:]))"

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""One thread each: Dask keeps every processor busy with blocks already."""

_NICER = 5
"""By how much a worker gives way to the server, and to captures on the same machine."""

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


@dataclass(frozen=True)
class Order:
    """What to analyse; see `ipstore.analysis.analyze`.

    Parameters
    ----------
    store : str
        Path or URL.
    run : str
    estimator : str
    parameters : mapping
    layers : sequence of str, optional
    every : int
    split : {"all", "train", "test"}
    target : {"labels", "output"}
    about : {"information", "bound"}
    """

    store: str
    run: str
    estimator: str
    parameters: Mapping[str, Any]
    layers: Sequence[str] | None
    every: int
    split: Split
    target: Target
    about: About

    def do(self, tell: Callable[[int, int], None]) -> str:
        """Do it in this process, and give the name of the result."""
        self.questions()
        asks = [(self.estimator, self.parameters)]
        (outcome,) = analyze_view(self.store, self.run, asks, self.view, None, False, tell, self.about)
        return str(outcome.get().attrs["name"])

    @property
    def view(self) -> View:
        """What of the run is looked at."""
        return View(self.layers, self.every, self.split, self.target)

    def questions(self) -> list[Question]:
        """Give the one question that is asked."""
        grid, questions = expand(self.estimator, self.parameters, self.about)
        if grid:
            raise ParameterError(f"an analysis takes one value of {', '.join(grid)}; ask once for each of them")
        return questions


class News(NamedTuple):
    """What a worker says of the order that it was given.

    Attributes
    ----------
    kind : {"progress", "finished", "failed"}
    done, total : int
        Epochs, of "progress".
    result : str
        Name, of "finished".
    words : str
        Why it failed, or what is to be said of a result.
    trace : str
        Where it failed, if that is not the fault of who asked.
    """

    kind: Literal["progress", "finished", "failed"]
    done: int = 0
    total: int = 0
    result: str = ""
    words: str = ""
    trace: str = ""


class Worker:
    """The server's end of a worker. The thread that makes it must live as long as it does."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1"), "PYTHONPATH": path}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno()), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
            env=environment,
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C at a terminal reaches the server alone
        )
        theirs.close()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether its process has not ended."""
        return self._process.poll() is None

    def begin(self, order: Order) -> None:
        """Give it something to do."""
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended: `news` says how
            self._connection.send(order)

    def news(self, seconds: float) -> News | None:
        """Give what it says next, or None if it has said nothing for so long.

        Raises
        ------
        WorkerError
            If its process has ended.
        """
        try:
            # What the worker has started may hold the connection open when the worker has ended.
            if self._connection.poll(seconds) or (not self.is_alive and self._connection.poll(0)):
                found: News = self._connection.recv()
                return found
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        if self.is_alive:
            return None
        raise WorkerError(_ending(self._process.returncode))

    def end(self, patience: float) -> None:
        """End its process, and what that has started: by force where it has not ended after so many seconds."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        with suppress(ProcessLookupError, PermissionError):  # nobody is left; macOS says so of those that have ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()


def _ending(code: int) -> str:
    kept = "what it had stored is kept, and asking again goes on from there"
    if code >= 0:
        return f"its process ended with exit code {code}; {kept}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "of real time"
    often = ", as it does where memory runs out" if -code == signal.SIGKILL else ""
    return f"its process ended with signal {-code} ({name}){often}; {kept}"


# In the process of the worker ---------------------------------------------------


class _Ended(BaseException):
    """The server wants the worker to end: no handler of errors is to take it for one."""


def worker_main(descriptor: int, server: int) -> NoReturn:
    """Be a worker, until the server says so or is gone.

    Parameters
    ----------
    descriptor : int
        Of the worker's end of the connection.
    server : int
        Process id.
    """
    _end_with(server)
    signal.signal(signal.SIGTERM, _end)
    code = 1
    try:
        os.nice(_NICER)
        os.set_inheritable(descriptor, False)
        connection = Connection(descriptor)
        orders: SimpleQueue[Order] = SimpleQueue()
        threading.Thread(target=_listen, args=(connection, orders), daemon=True).start()
        while True:
            connection.send(_answer(orders.get(), connection))
    except (_Ended, BrokenPipeError, ConnectionResetError):
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)  # threads of an estimator may be at work still, and would be waited for


def _end_with(server: int) -> None:
    """Have the kernel end this process with the server, where it can: also while a kernel of C holds the interpreter.

    Where it cannot, `_listen` notices that the server is gone.
    """
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is not None:
        prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)


def _end(number: int, frame: object) -> NoReturn:
    """Leave off in good order: a result that is being written gives back its lease."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Ended


def _listen(connection: Connection, orders: "SimpleQueue[Order]") -> None:
    """Take orders, and end the worker with all that it has started when the server is gone."""
    try:
        while True:
            orders.put(connection.recv())
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


def _answer(order: Order, connection: Connection) -> News:
    notes: list[str] = []
    show = warnings.showwarning

    def note(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, NonFiniteWarning):
            notes.append(str(message))
        else:
            show(message, category, filename, lineno, file, line)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", NonFiniteWarning)
            warnings.showwarning = note
            result = order.do(lambda done, total: connection.send(News("progress", done, total)))
        return News("finished", result=result, words="; ".join(dict.fromkeys(notes)))
    except (_Ended, BrokenPipeError, ConnectionResetError):
        raise
    except IpstoreError as error:
        # Whose fault it is: the others say what to do about them.
        trace = traceback.format_exc() if isinstance(error, EstimatorError) else ""
        return News("failed", words=" ".join(str(error).split()), trace=trace)
    except BaseException as error:  # an estimator may call sys.exit
        words = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
        return News("failed", words=words, trace=traceback.format_exc())
