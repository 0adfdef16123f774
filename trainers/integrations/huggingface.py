"""The recorder as a callback of the Hugging Face Trainer."""

from collections.abc import Mapping
from math import ceil
from types import TracebackType
from typing import Any, Self

from torch import nn
from typing_extensions import override  # PyTorch brings it

from ipstore.errors import MissingPackageError
from ipstore.places import Location
from ipstore.trainers.integrations.attachments import Attachment, Names
from ipstore.trainers.recorder import Recorder

try:
    from transformers.trainer_callback import ExportableState, TrainerCallback, TrainerControl, TrainerState
    from transformers.training_args import TrainingArguments
except ImportError as error:
    raise MissingPackageError(
        "HuggingFaceRecorder is a callback of transformers' Trainer, which is not installed: pip install 'ipstore[hf]'"
    ) from error

__all__ = ["HuggingFaceRecorder"]

_METRICS: dict[str, Names] = {
    "loss": {"train": "loss", "test": "eval_loss"},
    "accuracy": {"test": "eval_accuracy"},
}


class HuggingFaceRecorder(TrainerCallback, ExportableState):
    """Records a model at the end of each epoch of a Hugging Face ``Trainer``.

    The probe is a mapping of the model's arguments, such as ``input_ids`` and ``attention_mask``. The model is run on
    it in the precision of its parameters: mixed precision is the training's alone. An epoch that ``max_steps`` broke
    off counts. The moments of the gradients are those of the optimizer's steps, *after* the Trainer has clipped them,
    as it does at a norm of 1 unless told ``max_grad_norm``. Under DDP the first process records; FSDP is refused.

    The Trainer tells no callback of an exception. Used as a context manager, the recorder commits what it has then, and
    the run is ``"interrupted"``; else the run stands at its last commit.

    A checkpoint knows the run and the epoch: ``trainer.train(resume_from_checkpoint=...)`` goes on there, and takes
    back what was recorded after it. It needs no ``restore_callback_states_from_checkpoint``, and cannot be had with
    it: the Trainer would make a new recorder, without a probe.

    Parameters
    ----------
    store, probe, run
        See `ipstore.trainers.Recorder`.
    loss, accuracy : str or mapping of str to str, optional
        What of the Trainer's logs to store with each epoch: a name, or ``{"train": ..., "test": ...}``. It is the last
        that was logged in the epoch or at its end: ``logging_strategy="epoch"`` has one of each. By default ``loss``,
        ``eval_loss`` and ``eval_accuracy``, where there are such.
    **options
        Those of `ipstore.trainers.Recorder`, save ``optimizer`` and ``resume``.

    Raises
    ------
    ParameterError
        If an option is unknown; and, as training begins, what `ipstore.trainers.Recorder` raises.
    ResumeError
        As training begins: if the checkpoint is from a training that was not recorded.

    Examples
    --------
    ::

        with HuggingFaceRecorder("runs.zarr", ({"input_ids": tokens}, y), "mine", reduce="mean") as recorder:
            Trainer(model, args, train_dataset=data, callbacks=[recorder]).train()
    """

    def __init__(
        self,
        store: Location,
        probe: object,
        run: str,
        *,
        loss: Names = None,
        accuracy: Names = None,
        **options: Any,
    ) -> None:
        asked = {name: given for name, given in {"loss": loss, "accuracy": accuracy}.items() if given is not None}
        self._attachment = Attachment(store, probe, run, options, _METRICS | asked, asked=asked)
        self._ended: int | None = None  # this epoch ended, and its numbers are still to come
        self._logged: dict[str, float] = {}
        self._evaluated = False

    @property
    def run(self) -> str:
        """Name under which it is stored."""
        return self._attachment.run

    @property
    def recorder(self) -> Recorder | None:
        """The recorder, while training."""
        return self._attachment.recorder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._attachment.close("interrupted")  # training was over, or it never came to its end
        else:
            self._attachment.fail(error, trace)

    @override
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        model: nn.Module = others["model"]
        self._ended, self._logged, self._evaluated = None, {}, False
        reached = state.epoch or 0.0
        self._attachment.begin(
            model,
            completed=int(reached),
            whole=reached == int(reached),
            epochs=state.num_train_epochs,
            state=self._saved(state) if state.global_step else None,
        )

    @override
    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self._record()
        self._logged, self._evaluated = {}, False

    @override
    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self._attachment.step()

    @override
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        # The Trainer logs, evaluates and saves after this, and the model stays as it is meanwhile.
        self._ended = ceil(state.epoch or 0.0)

    @override
    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any) -> None:
        logs: Mapping[str, float] = others["logs"]
        if "train_runtime" in logs:  # its summary; after it, the Trainer may load the best model
            self._record()
        self._logged.update(logs)

    @override
    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any) -> None:
        metrics: Mapping[str, float] = others["metrics"]
        self._evaluated = True
        self._logged.update(metrics)

    @override
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self._record()
        self._attachment.close("finished")

    @override
    def state(self) -> dict[str, Any]:
        self._record()
        return {"args": {}, "attributes": self._attachment.state()}

    def _record(self) -> None:
        number, self._ended = self._ended, None
        if number is not None:
            splits = [*(["train"] if self._logged else []), *(["test"] if self._evaluated else [])]
            self._attachment.epoch(number, self._logged, splits)

    def _saved(self, state: TrainerState) -> dict[str, Any] | None:
        """Find what `state` gave when the checkpoint was made."""
        stored: Any = state.stateful_callbacks
        saved = stored.get(type(self).__name__, [])
        for each in reversed(saved if isinstance(saved, list) else [saved]):  # the Trainer adds to the end
            if each["attributes"].get("run") == self.run:
                return dict(each["attributes"])
        return None
