"""Record any network in any training loop: the activations of its layers on a probe, epoch by epoch, into a store."""

import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite, sqrt
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.optim import Optimizer

from ipstore.binning import Binning
from ipstore.errors import IpstoreError, ParameterError, ResumeError, RunExistsError, SpaceError
from ipstore.group import remove_group
from ipstore.levels import encode
from ipstore.parts import part_name
from ipstore.places import DOCUMENT, Location, locate
from ipstore.plan import SPLITS, RunPlan
from ipstore.trainers.modules import unwrap
from ipstore.trainers.moments import RunningMoments, squared_norms, watch
from ipstore.trainers.probe_sets import probe_set
from ipstore.trainers.recorded_layers import RecordedLayers, Rules
from ipstore.trainers.recorded_runs import ASSUMED_EPOCHS, check_same, epoch_of, how_to_record_less, recorded_plan
from ipstore.trainers.recordings import Recording, shard_of
from ipstore.trainers.streaming import DivergedWarning
from ipstore.writer import RunWriter

__all__ = ["Metric", "Recorder"]

Metric = float | Tensor | Mapping[str, float | Tensor]
"""One number, of the training samples; or ``{"train": ..., "test": ...}``."""


class Recorder:
    """Streams the activations of a network in training into a store.

    Attaches to any ``nn.Module`` and any loop. Whenever `epoch` is called, the chosen layers are run on the probe, in
    eval mode and without gradients, and stored in the background. The training's result does not change by one bit:
    parameters, buffers, random number generators and the modes of modules are left as they were. Between two calls
    no hook is on the model.

    Parameters
    ----------
    store : path or URL
        Made if there is none; see `ipstore.places.locate`.
    model : torch.nn.Module
        Before its first step: it is recorded at once, as epoch 0. Under DDP the first process alone records.
    probe : (x, y) or Task
        The samples on which layers are recorded, the same at every epoch. `x` is what the model takes: a tensor or
        array (sample, ...), a tuple of these, or a mapping of arguments by name. `y` (sample,) holds classes or
        continuous labels, which are binned by quantiles; or it is p(y|x) (sample, class). A `Task` of
        `ipstore.trainers.tasks` says whether it is all there is; any other probe is a sample.
    run : str
        Name of the run.
    layers : sequence of str, optional
        Names of modules, as ``model.named_modules()`` gives them. ``*`` stands for any part between two dots, ``**``
        for any parts; ``"model"`` is the model itself. By default every module without children that has parameters
        or is an activation function. What a pattern matches and gives no (sample, ...) tensor is left out.
    optimizer : torch.optim.Optimizer or sequence of these, optional
        At whose steps the gradients' moments are taken. Without one, call `step` between backward and step, or have
        none.
    seed : int, optional
        Place along ``seed``: the recording becomes part ``<seed>`` of the run, and recordings with other seeds, also
        from other processes, are opened with it as one. Without it, the run has the one seed 0.
    train : (sample,) array of bool, optional
        Which samples of the probe the network is trained on.
    level : {"full", "half", "codes"}
        How much of the activations is kept: float32, float16, or the bin of each value.
    binning : Binning, optional
        The rule of the codes.
    reduce : str or mapping of str to str
        What is kept of wide outputs: ``"flatten"``, all; ``"mean"`` over space (sample, channel, *place*) or a sequence
        (sample, *place*, feature), or ``"mean:2"`` over axes; ``"pca:K"``, principal components on the first recorded
        epoch; ``"random:K"``, a seeded Gaussian projection. A mapping gives a rule by pattern, as in `layers`; the
        first that matches holds.
    sample : int, optional
        Record so many samples of the probe, drawn at random, the same every time.
    label_bins : int
        Quantile bins of continuous labels.
    batch_size : int, optional
        Samples that the model is run on at once; by default as many as have 64 MB of outputs to record.
    every : int
        Record epochs that are multiples of it, and the network before training.
    epochs : int, optional
        How often it will be recorded, for the estimate of the disk space before it begins; by default 100.
    shard_epochs : int, optional
        Recorded epochs in one file, and so between two commits, unless these are more than a minute apart; by
        default as many as 256 MB hold, at most 64. Two blocks of so many epochs are held in memory.
    resume : bool or mapping
        Go on with the run, if there is one, after its last commit; or, with what `state_dict` gave, at that epoch.
        In distributed training only the latter.
    overwrite : bool
        Replace a run of that name.

    Attributes
    ----------
    run : str
        Name under which it is stored.
    layers : dict of str to int
        Recorded layers in the order in which the model calls them, each with its units. A module that is called
        again has further layers, ``"cell+2"``.
    left_out : dict of str to str
        Modules that were matched and are not recorded, and why.
    last_epoch : int
        Epochs that were completed at the last call of `epoch`.

    Raises
    ------
    UnknownNameError
        If a pattern of `layers` or `reduce` matches no module.
    ParameterError
        If the probe does not fit the model, or a parameter lies outside what is allowed.
    SpaceError
        If the run would not fit on the disk, or its blocks in memory.
    ResumeError
        If the run that is to be gone on with is of something else.
    RunExistsError, RunLockedError, NotAStoreError, FormatVersionError, StoreWriteError

    Examples
    --------
    ::

        with Recorder("runs.zarr", model, probe=(x, y), run="mine", optimizer=optimizer) as recorder:
            for epoch in range(100):
                train_one_epoch(model, loader, optimizer)
                recorder.epoch(loss=loss, accuracy=accuracy)
    """

    def __init__(
        self,
        store: Location,
        model: nn.Module,
        probe: object,
        run: str,
        *,
        layers: Sequence[str] | None = None,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        seed: int | None = None,
        train: ArrayLike | None = None,
        level: str = "full",
        binning: Binning | None = None,
        reduce: Rules = "flatten",
        sample: int | None = None,
        label_bins: int = 10,
        batch_size: int | None = None,
        every: int = 1,
        epochs: int | None = None,
        shard_epochs: int | None = None,
        resume: bool | Mapping[str, Any] = False,
        overwrite: bool = False,
    ) -> None:
        if seed is not None and (type(seed) is not int or seed < 0):
            raise ParameterError(f"seed must be an integer of at least 0, its place along seed, but got {seed!r}")
        self.run = run if seed is None else part_name(run, str(seed))
        self.layers: dict[str, int] = {}
        self.left_out: dict[str, str] = {}
        self.last_epoch = 0
        self._every = every
        self._warned = False
        self._recorded = 0
        self._recording: Recording | None = None
        self._moments: dict[Optimizer | None, RunningMoments] = {}
        self._watched: list[Any] = []
        if not isinstance(model, nn.Module):
            raise ParameterError(f"model must be a torch.nn.Module but got {type(model).__name__}")
        bare = unwrap(model)  # whatever is refused of it is refused in each process
        rank, processes = _place()
        if processes > 1 and resume is True:
            raise ParameterError(
                "resume=True goes on where the store stands, and of several processes the first alone sees that: give "
                "each what state_dict() gave, resume=state"
            )
        if rank:
            if isinstance(resume, Mapping):
                self.last_epoch = epoch_of(resume, self.run)
            return
        for what, value in (("batch_size", batch_size), ("every", every), ("epochs", epochs)):
            if value is not None and (type(value) is not int or value < 1):
                raise ParameterError(f"{what} must be an integer of at least 1 but got {value!r}")
        optimizers = _optimizers(optimizer)
        self._binning = binning
        found = probe_set(probe, sample=sample, label_bins=label_bins)
        patterns = [layers] if isinstance(layers, str) else None if layers is None else list(layers)
        self._layers = RecordedLayers(bare, found, patterns, reduce, batch_size)
        self.layers, self.left_out = self._layers.widths, self._layers.left_out
        parameters = [parameter for own in self._layers.parameters().values() for parameter in own]
        self._moments = {each: RunningMoments(parameters, each) for each in optimizers or (None,)}
        self._parameters = parameters
        plan = recorded_plan(
            bare,
            found,
            self._layers,
            {"every": every, "layers": patterns, "reduce": reduce if isinstance(reduce, str) else dict(reduce)},
            seed=seed or 0,
            train=train,
            level=level,
            binning=binning,
            shard=shard_epochs,
        )
        whole = locate(store) / run
        if seed is not None:
            plan = replace(plan, attrs={**plan.attrs, "part_of": run})
            if whole.exists(DOCUMENT):
                raise RunExistsError(
                    f"run {run!r} exists already in {str(store)!r}, whole: record seeds under another name"
                )
        again = resume is not False and (locate(store) / self.run).exists(DOCUMENT)
        if isinstance(resume, Mapping):
            self.last_epoch = epoch_of(resume, self.run)
            if not again:
                raise ResumeError(
                    f"there is no run {self.run!r} to go on with at epoch {self.last_epoch}: give the store that holds "
                    "it, or record anew, without resume="
                )
        try:
            plan = replace(plan, shard=shard_of(plan))
            writer = (
                RunWriter.resume(store, self.run)
                if again
                else RunWriter.create(store, self.run, plan, epochs or ASSUMED_EPOCHS, overwrite=overwrite)
            )
        except SpaceError as error:
            raise SpaceError(f"{error}. {how_to_record_less(self.layers, found, epochs)}") from error
        try:
            if again:
                self._go_on(writer, plan, resume)
            self._recording = Recording(writer, plan)
            if not writer.epochs:  # a run that was killed before its first commit begins anew
                self._capture(0, {}, {})
        except BaseException:
            if self._recording is None:
                writer.close()
            else:
                self.close("interrupted")
            if not again:
                remove_group(writer.place)
            raise
        self._watched = [watch(each, self._moments[each].step) for each in optimizers]

    def _go_on(self, writer: RunWriter, plan: RunPlan, resume: bool | Mapping[str, Any]) -> None:
        """Go on after a stored run."""
        check_same(writer, plan)
        reached = writer.last_epoch or 0
        if isinstance(resume, Mapping):
            if reached < resume["recorded"] or (self.last_epoch and not writer.epochs):
                raise ResumeError(
                    f"run {self.run!r} is stored to epoch {reached}, and the state is of epoch {self.last_epoch}: the "
                    "run has lost what came between. Go on from an earlier state, or record anew with overwrite=True"
                )
            writer.take_back(self.last_epoch)
        else:
            self.last_epoch = reached
        self._recorded = writer.last_epoch or 0
        self._layers.load_state(writer.state())
        writer.attrs["status"] = "running"

    def step(self, optimizer: Optimizer | None = None) -> None:
        """Take in the gradients of a step; an `optimizer` that was given to the recorder does so by itself.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer, optional
            Whose step it is, where there are several that step in turn: its parameters alone count.
        """
        if self._recording is None:
            return
        if optimizer is not None and optimizer not in self._moments:
            self._moments[optimizer] = RunningMoments(self._parameters, optimizer)
        for moments in self._moments.values() if optimizer is None else [self._moments[optimizer]]:
            moments.step()

    def epoch(self, number: int | None = None, *, loss: Metric | None = None, accuracy: Metric | None = None) -> None:
        """Record the network as it is now.

        Parameters
        ----------
        number : int, optional
            Completed epochs; by default one more than at the last call.
        loss, accuracy : number, tensor, or mapping with ``"train"`` and ``"test"``
            To be stored with it.

        Raises
        ------
        ParameterError
            If `number` is not an integer beyond the last, or a metric no number; or if the model has changed so that
            the recorded layers are not there.
        StoreWriteError
            What the writing met since the last call. The run stands at its last commit.
        """
        try:
            number = self.last_epoch + 1 if number is None else operator.index(number)
        except TypeError as error:
            raise ParameterError(
                f"number counts completed epochs, so it must be an integer but got {number!r}"
            ) from error
        if number <= self.last_epoch:
            raise ParameterError(
                f"epoch {self.last_epoch} has been told already, so the next must be {self.last_epoch + 1} or later "
                f"but got {number}. Numbers count completed epochs: the first call is epoch 1"
            )
        metrics = {"loss": _by_split("loss", loss), "accuracy": _by_split("accuracy", accuracy)}
        self.last_epoch = number
        if self._recording is None:
            return
        moments = {parameter: pair for each in self._moments.values() for parameter, pair in each.take().items()}
        if number % self._every == 0:
            self._capture(number, metrics, moments)

    def state_dict(self) -> dict[str, Any]:
        """Commit what is recorded, and say where the recording is: for a checkpoint, and then for `resume`.

        Returns
        -------
        dict
            ``run``; ``epoch``, completed ones; ``recorded``, the last of them that was recorded.
        """
        if self._recording is not None:
            self._recording.commit()
        return {"run": self.run, "epoch": self.last_epoch, "recorded": self._recorded}

    def close(self, status: Literal["finished", "interrupted"] = "finished") -> None:
        """Commit what is recorded, and detach; what is called after it records nothing.

        Parameters
        ----------
        status : {"finished", "interrupted"}

        Raises
        ------
        StoreWriteError
        """
        for handle in self._watched:
            handle.remove()
        recording, self._recording, self._watched = self._recording, None, []
        if recording is not None:
            recording.close(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close("interrupted")
        except IpstoreError as ours:  # the user's own goes on
            error.add_note(f"ipstore: {ours}")

    def _capture(
        self,
        number: int,
        metrics: Mapping[str, Mapping[str, float]],
        moments: Mapping[nn.Parameter, tuple[float, float]],
    ) -> None:
        recording = self._recording
        assert recording is not None
        entry = recording.entry()
        odd: list[str] = []

        def put(layer: str, samples: slice, output: Tensor) -> None:
            kept = entry[f"activations/{layer}"][samples]
            if kept.dtype == np.uint8:
                encode(output.float().cpu().numpy(), kept, self._binning)
            else:
                output = torch.from_numpy(kept).copy_(output)  # what is too large for float16 is infinite there
            # A sum is not finite if any value is not; whether it overflowed is looked at only then.
            if not (isfinite(output.sum().item()) or bool(output.isfinite().all())) and layer not in odd:
                odd.append(layer)

        self._layers.capture(put)
        for name in ("loss", "accuracy"):
            entry[f"training/{name}"][:] = [metrics.get(name, {}).get(split, np.nan) for split in SPLITS]
        parameters = self._layers.parameters()
        weights = squared_norms(parameter for own in parameters.values() for parameter in own)
        for place, own in enumerate(parameters.values()):
            squares = np.array([moments[each] for each in own if each in moments]).reshape(-1, 2)
            mean, std = np.sqrt(squares.sum(0)) if len(squares) else (np.nan, np.nan)
            entry["training/grad_mean_norm"][place], entry["training/grad_std_norm"][place] = mean, std
            entry["training/weight_norm"][place] = sqrt(sum(weights[each] for each in own)) if own else np.nan
        lost = not np.isfinite(metrics.get("loss", {}).get("train", 0.0))
        recording.add(number, bool(odd) or lost, self._layers.state())
        self._recorded = number
        self._warn(number, odd)

    def _warn(self, number: int, odd: Sequence[str]) -> None:
        if odd and not self._warned:
            self._warned = True
            warnings.warn(
                f"run {self.run!r}: from epoch {number} on, activations of {', '.join(odd)} hold NaN or infinite "
                "values. They are recorded, and marked in the attribute 'diverged'",
                DivergedWarning,
                stacklevel=4,
            )
        for name in self._layers.added():
            warnings.warn(
                f"run {self.run!r}: module {name!r} came into the model after recording began, so it is not recorded; "
                "a run's layers stay as they are",
                UserWarning,
                stacklevel=4,
            )


def _place() -> tuple[int, int]:
    """Give the rank of this process in distributed training, and of how many."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _optimizers(given: object) -> list[Optimizer]:
    """Take what wrappers, such as those of accelerate, have put around optimizers off."""
    several = list(given) if isinstance(given, Sequence) else [] if given is None else [given]
    found = []
    for each in several:
        while isinstance(inner := getattr(each, "optimizer", None), Optimizer):
            each = inner
        if not isinstance(each, Optimizer):
            raise ParameterError(
                f"optimizer must be a torch.optim.Optimizer, or several, but got {type(each).__name__}; without one, "
                "call the recorder's step() between backward and step"
            )
        found.append(each)
    return found


def _by_split(name: str, metric: Metric | None) -> dict[str, float]:
    """Give a metric by split, as far as it was given."""
    given = metric if isinstance(metric, Mapping) else {} if metric is None else {"train": metric}
    try:
        if given.keys() <= set(SPLITS):
            return {
                split: value.item() if isinstance(value, Tensor) else float(value) for split, value in given.items()
            }
    except (TypeError, ValueError, RuntimeError) as error:
        raise ParameterError(f"{name} must be one number for each split but got {metric!r}: {error}") from error
    raise ParameterError(
        f"{name} is a number, of the training samples, or a mapping with {' and '.join(map(repr, SPLITS))}, but got "
        f"{sorted(given)}"
    )
