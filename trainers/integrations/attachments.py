"""What every callback does: a recorder that begins with a framework's training, and goes on with its checkpoints."""

import warnings
from collections.abc import Collection, Iterable, Mapping
from inspect import signature
from math import ceil
from types import TracebackType
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from ipstore.errors import ParameterError, ResumeError
from ipstore.parts import part_name
from ipstore.places import Location
from ipstore.plan import SPLITS
from ipstore.schema import check_name
from ipstore.trainers.recorder import Recorder

__all__ = ["Attachment", "Names"]

Names = str | Mapping[str, str] | None
"""Under which name a framework has a metric of the training samples; or ``{"train": ..., "test": ...}``."""


class Attachment:
    """A recorder that is still to be attached to a model.

    Parameters
    ----------
    store, probe, run
        See `ipstore.trainers.Recorder`.
    options : mapping
        Its others, save those that the framework gives: ``model``, ``optimizer`` and ``resume``.
    metrics : mapping of str to Names
        Of ``loss`` and ``accuracy``.
    asked : collection of str
        Which of the two the user named, and so has to hear of where they are missing.

    Attributes
    ----------
    run : str
        Name under which it is stored.
    recorder : Recorder or None
        Before training none.

    Raises
    ------
    ParameterError
        If an option is none of the recorder's, or a split is unknown.
    """

    def __init__(
        self,
        store: Location,
        probe: object,
        run: str,
        options: Mapping[str, Any],
        metrics: Mapping[str, Names],
        asked: Collection[str],
    ) -> None:
        allowed = set(signature(Recorder).parameters) - {"store", "model", "probe", "run", "optimizer", "resume"}
        if unknown := options.keys() - allowed:
            raise ParameterError(
                f"the callback takes no {', '.join(sorted(unknown))}: its options are {', '.join(sorted(allowed))}; "
                "the framework gives it the model and the optimizers, and its checkpoint says where to go on"
            )
        self._names = {metric: _per_split(metric, names) for metric, names in metrics.items()}
        self._asked = {name for metric in asked for name in self._names[metric].values()}
        self._given = (store, probe, run, dict(options))
        seed = options.get("seed")
        self.run = check_name("run", run) if seed is None else part_name(run, str(seed))
        self.recorder: Recorder | None = None
        self._left: dict[str, Any] = {"run": self.run, "epoch": 0, "recorded": 0}

    def begin(
        self,
        model: nn.Module,
        *,
        completed: int,
        whole: bool,
        epochs: int | None,
        state: Mapping[str, Any] | None,
    ) -> None:
        """Attach the recorder.

        Parameters
        ----------
        model : Module
            To be recorded.
        completed : int
            Epochs that training has behind it.
        whole : bool
            Whether it stands at the end of an epoch.
        epochs : int or None
            After how many it will end, if that is known.
        state : mapping or None
            What `state` gave when the checkpoint was made from which training goes on.

        Raises
        ------
        ParameterError, ResumeError, and what else `Recorder` raises
        """
        self.close("interrupted")
        store, probe, run, options = self._given
        if epochs:
            options = {"epochs": max(1, ceil(epochs / options.get("every", 1))), **options}
        if completed and state is None:
            raise ResumeError(
                f"training goes on after {completed} epochs, from a checkpoint that knows nothing of run {self.run!r}: "
                "record from the first step on, or go on from a checkpoint that was made with this callback"
            )
        if state is not None:
            # A recording beyond the checkpoint's epochs is of an epoch that broke off, and is gone through again.
            epoch = min(state["epoch"], completed)
            options["resume"] = {**state, "epoch": epoch, "recorded": min(state["recorded"], epoch)}
        self.recorder = Recorder(store, model, probe, run, **options)
        if self.recorder.last_epoch < completed and whole:
            # The checkpoint is older than the recording of its epoch, and the model is what it was then.
            self.recorder.epoch(completed)

    def step(self, optimizer: Optimizer | None = None) -> None:
        """Take in the gradients, as `Recorder.step` does."""
        if self.recorder is not None:
            self.recorder.step(optimizer)

    def epoch(self, number: int, available: Mapping[str, Any], splits: Iterable[str]) -> None:
        """Record.

        Parameters
        ----------
        number : int
            Completed epochs.
        available : mapping of str to number
            What the framework knows now.
        splits : iterable of str
            Of which splits it is new.
        """
        if self.recorder is None:
            return
        current = set(splits)
        found: dict[str, dict[str, Any]] = {}
        for metric, names in self._names.items():
            for split, name in names.items():
                if split in current and name in available:
                    found.setdefault(metric, {})[split] = available[name]
                elif split in current and name in self._asked:
                    self._asked.remove(name)
                    there = ", ".join(sorted(available)) or "none"
                    warnings.warn(
                        f"run {self.run!r}: there is no metric {name!r} to record as {metric} of {split}. There are: "
                        f"{there}",
                        UserWarning,
                        stacklevel=3,
                    )
        self.recorder.epoch(number, **found)

    def state(self) -> dict[str, Any]:
        """Commit, and say where the recording is: for a checkpoint. Before training, it is at epoch 0."""
        return self._left if self.recorder is None else self.recorder.state_dict()

    def close(self, status: Literal["finished", "interrupted"]) -> None:
        """Detach, if attached; ``status`` is that of `Recorder.close`."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.close(status)
            self._left = recorder.state_dict()

    def fail(self, error: BaseException, trace: TracebackType | None = None) -> None:
        """Detach since training ended with an error, which goes on as it is."""
        recorder, self.recorder = self.recorder, None
        if recorder is not None:
            recorder.__exit__(type(error), error, trace)
            self._left = recorder.state_dict()


def _per_split(metric: str, names: Names) -> dict[str, str]:
    given = dict(names) if isinstance(names, Mapping) else {} if names is None else {"train": names}
    if unknown := given.keys() - set(SPLITS):
        raise ParameterError(
            f"{metric} is the name of a metric, or a mapping with {' and '.join(SPLITS)}, but got {sorted(unknown)}"
        )
    return given
