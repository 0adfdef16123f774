"""The recorder as a callback of Lightning."""

from typing import Any

from torch.optim import Optimizer
from typing_extensions import override  # PyTorch brings it

from ipstore.errors import MissingPackageError
from ipstore.places import Location
from ipstore.trainers.integrations.attachments import Attachment, Names
from ipstore.trainers.modules import unwrap
from ipstore.trainers.recorder import Recorder

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingPackageError(
        "LightningRecorder is a callback of Lightning, which is not installed: pip install 'ipstore[lightning]'"
    ) from error

__all__ = ["LightningRecorder"]


class LightningRecorder(Callback):
    """Records a LightningModule at the end of each training epoch.

    The module's ``forward`` is run on the probe, in the precision of its parameters: mixed precision is the training's
    alone. Recording begins when training does, after the sanity check of validation, and ends with it; an epoch that
    ``max_steps`` broke off counts. The moments of the gradients are those that Lightning has *before* it clips them;
    of several optimizers, each parameter's are those of the steps of its own. Under DDP the first process records;
    strategies that spread parameters over processes are refused.

    The callback's state in a checkpoint is the run and the epoch: ``trainer.fit(ckpt_path=...)`` goes on there, and
    takes back what was recorded after it. Of an epoch that a checkpoint divides, metrics and moments are those of the
    steps after it, if there are any.

    Parameters
    ----------
    store, probe, run
        See `ipstore.trainers.Recorder`.
    loss, accuracy : str or mapping of str to str, optional
        What of ``trainer.callback_metrics`` to store with each epoch: a name, or ``{"train": ..., "test": ...}``. The
        test split's is stored in epochs with a validation. What ``LightningModule.on_train_epoch_end`` logs comes too
        late.
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

        recorder = LightningRecorder("runs.zarr", (x, y), "mine", loss={"train": "train_loss", "test": "val_loss"})
        Trainer(max_epochs=100, callbacks=[recorder]).fit(module, loader, val_loader)
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
        metrics = {"loss": loss, "accuracy": accuracy}
        self._attachment = Attachment(store, probe, run, options, metrics, asked=list(metrics))
        self._state: dict[str, Any] | None = None
        self._trained = self._validated = False  # in this epoch

    @property
    def run(self) -> str:
        """Name under which it is stored."""
        return self._attachment.run

    @property
    def recorder(self) -> Recorder | None:
        """The recorder, while training."""
        return self._attachment.recorder

    @property
    @override
    def state_key(self) -> str:
        return self._generate_state_key(run=self.run)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        state, self._state = self._state, None
        if state is None and trainer.current_epoch:
            left = self._attachment.state()
            state = left if left["epoch"] == trainer.current_epoch else None  # fit was called again, to go on
        if trainer.model is not None:
            unwrap(trainer.model)  # what a strategy puts around the module is seen here alone
        batches = trainer.fit_loop.epoch_loop.batch_progress
        self._attachment.begin(
            pl_module,
            completed=trainer.current_epoch,
            whole=batches.current.ready == 0 or batches.is_last_batch,
            epochs=trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None,
            state=state,
        )

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._trained = self._validated = False

    @override
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        # An optimizer's own hook would come before Lightning's closure has run backward.
        self._trained = True
        self._attachment.step(optimizer)

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        available = trainer.callback_metrics  # in every process: the first look at a metric gathers it from all
        # Between validations Lightning keeps the numbers of the last; and an epoch whose checkpoint was made after its
        # last step ends again when training goes on there.
        test = self._validated or not trainer.enable_validation
        fresh = [split for split, new in (("train", self._trained), ("test", test)) if new]
        self._attachment.epoch(trainer.current_epoch + 1, available, fresh)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._attachment.fail(exception, exception.__traceback__)

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._attachment.close("finished")

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._attachment.state()

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._state = dict(state_dict)
