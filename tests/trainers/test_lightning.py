"""Lightning trains the same to the bit whether it is recorded or not, and goes on from its checkpoints with the record.

All of this is long: importing Lightning takes six seconds.
"""

import pickle
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ipstore
from ipstore.errors import MissingPackageError, ParameterError, ResumeError, RunExistsError
from ipstore.trainers import Recorder
from tests.store.synthetic import array
from tests.trainers.same import assert_same_tensors, generators

if TYPE_CHECKING:
    from ipstore.trainers.integrations import LightningRecorder

pytestmark = [
    # Lightning advises more processes for loading; 64 samples need none.
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    # Lightning 2.6 calls what PyTorch 2.13 is about to take away.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    # PyTorch 2.13 looks at the gradient of a loss as it compiles what follows a call that it leaves out.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor"),
    # One of our checkpoints is made in the midst of an epoch, and the order of the samples does not matter to it.
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
    # Our checkpoints are where our tests' folders are.
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


class Attention(nn.Module):
    """A small transformer, of sequences of 6 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embed(x.reshape(len(x), 6, 2))).mean(1))  # type: ignore[no-any-return]


def network(kind: str) -> nn.Module:
    """Build a classifier of 12 features into 3 classes."""
    if kind == "mlp":
        return nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3))
    if kind == "cnn":
        convolution = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        return nn.Sequential(nn.Unflatten(1, (1, 3, 4)), *convolution, nn.Flatten(), nn.Linear(48, 3))
    return Attention()


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(64, 12, generator=generator), torch.randint(0, 3, (64,), generator=generator)


X, Y = samples()
PROBE = (X[:20], Y[:20])


def module(kind: str = "mlp", *, seed: int = 0, fail_at: tuple[int, BaseException] | None = None) -> Any:
    """Build a LightningModule; it keeps every gradient and the weights of every epoch."""
    from lightning.pytorch import LightningModule

    class Classifier(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(kind)
            self.gradients: list[dict[str, Tensor]] = []
            self.epochs: list[dict[str, Tensor]] = []
            self.losses: list[float] = []

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)  # type: ignore[no-any-return]

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            if fail_at is not None and self.global_step == fail_at[0]:
                raise fail_at[1]
            loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
            self.note(loss.detach())
            return loss

        @torch.compiler.disable  # type: ignore[untyped-decorator]  # PyTorch 2.13 cannot compile what Lightning's log does
        def note(self, loss: Tensor) -> None:
            self.log("train_loss", loss, on_epoch=True, on_step=False)
            self.losses.append(loss.item())

        def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
            output = self(batch[0])
            self.log("val_loss", nn.functional.cross_entropy(output, batch[1]))
            self.log("val_accuracy", (output.argmax(1) == batch[1]).float().mean())

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            self.gradients.append({name: each.grad.clone() for name, each in self.named_parameters()})  # type: ignore[union-attr]

        def on_train_epoch_end(self) -> None:
            self.epochs.append({name: each.clone() for name, each in self.state_dict().items()})

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.01)

    torch.manual_seed(seed)
    return Classifier()


def loader(shuffle: bool = True) -> Any:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=16, shuffle=shuffle)


def fit(model: Any, *callbacks: Any, epochs: int = 3, validation: bool = False, **options: Any) -> Any:
    """Train, without what Lightning prints and writes of itself."""
    from lightning.pytorch import Trainer

    path = options.pop("ckpt_path", None)
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    if not validation:
        options.setdefault("limit_val_batches", 0)
    trainer = Trainer(max_epochs=epochs, callbacks=list(callbacks), **{**quiet, **options})
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002  (the legacy generator is one of those that must stay)
    random.seed(7)
    checked = loader(shuffle=False) if hasattr(model, "note") else None
    trainer.fit(model, loader(), checked, ckpt_path=path)
    return trainer


def recorder(store: Path, **options: Any) -> "LightningRecorder":
    from ipstore.trainers.integrations import LightningRecorder

    return LightningRecorder(store, PROBE, **{"run": "mine", "shard_epochs": 2, **options})


def by_hand(store: Path, kind: str, epochs: list[dict[str, Tensor]], seed: int = 0) -> Any:
    """Record the weights of all epochs with a recorder of its own."""
    model = module(kind, seed=seed)
    with Recorder(store, model, PROBE, "by-hand") as plain:
        for weights in epochs:
            model.load_state_dict(weights)
            plain.epoch()
    return ipstore.open(store, run="by-hand")


def assert_same_activations(first: Any, second: Any) -> None:
    names = list(first["activations"].data_vars)
    assert names == list(second["activations"].data_vars)
    for name in names:
        a, b = array(first, f"activations/{name}"), array(second, f"activations/{name}")
        assert a.sizes == b.sizes
        assert a.values.tobytes() == b.values.tobytes(), name


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("mlp", {}),
    "cnn": ("cnn", {}),
    "transformer": ("transformer", {}),
    "clipped and accumulated": ("transformer", {"gradient_clip_val": 0.01, "accumulate_grad_batches": 2}),
    "bf16": ("transformer", {"precision": "bf16-mixed"}),
    "bf16 cnn": ("cnn", {"precision": "bf16-mixed", "gradient_clip_val": 0.01}),
    "validated": ("cnn", {"validation": True}),
}


@pytest.mark.long
@pytest.mark.parametrize("compiled", [False, True], ids=["", "compiled"])
@pytest.mark.parametrize("case", CASES)
def test_training_is_unchanged_and_recorded_as_by_hand(case: str, compiled: bool, tmp_path: Path) -> None:
    kind, options = CASES[case]
    results = []
    for recorded in (False, True):
        torch._dynamo.reset()
        model = module(kind)
        callbacks = [recorder(tmp_path / "runs.zarr")] if recorded else []
        trainer = fit(torch.compile(model, backend="eager") if compiled else model, *callbacks, **options)
        results.append((model, trainer.optimizers[0].state_dict()["state"], generators()))
    (bare, bare_moments, bare_generators), (model, moments, after) = results
    assert_same_tensors(bare.state_dict(), model.state_dict())
    for key, state in bare_moments.items():
        assert_same_tensors(state, moments[key])
    assert bare.losses == model.losses
    assert bare_generators == after
    assert [each.training for each in bare.modules()] == [each.training for each in model.modules()]
    run = ipstore.open(tmp_path / "runs.zarr", run="mine")
    assert run.attrs["status"] == "finished"
    assert array(run, "epoch").values.tolist() == [0, 1, 2, 3]
    assert_same_activations(run, by_hand(tmp_path / "runs.zarr", kind, model.epochs))


@pytest.mark.long
def test_gradients_are_those_of_the_steps_before_they_are_clipped(tmp_path: Path) -> None:
    model = module()
    fit(model, recorder(tmp_path, layers=["net.0"]), epochs=2, gradient_clip_val=1e-3)
    run = ipstore.open(tmp_path, run="mine")
    assert len(model.gradients) == 8
    for epoch, steps in enumerate((model.gradients[:4], model.gradients[4:]), start=1):
        names = ("net.0.weight", "net.0.bias")
        each = np.stack([np.concatenate([step[name].double().numpy().ravel() for name in names]) for step in steps])
        assert np.linalg.norm(each, axis=1).min() > 0.01  # the clipped ones were a thousandth in all
        mean = array(run, "training/grad_mean_norm").sel(epoch=epoch, seed=0, layer="net.0")
        std = array(run, "training/grad_std_norm").sel(epoch=epoch, seed=0, layer="net.0")
        assert float(mean) == pytest.approx(np.linalg.norm(each.mean(0)), rel=1e-5)
        assert float(std) == pytest.approx(np.sqrt(each.var(0).sum()), rel=1e-5)


@pytest.mark.long
def test_metrics_are_stored_with_the_epoch_they_are_of(tmp_path: Path) -> None:
    """Validation runs every second epoch; between, Lightning keeps its old numbers, and they are not stored."""
    from lightning.pytorch import Callback

    seen: list[dict[str, float]] = []

    class Watch(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    names = {"loss": {"train": "train_loss", "test": "val_loss"}, "accuracy": {"test": "val_accuracy"}}
    fit(module(), recorder(tmp_path, **names), Watch(), epochs=4, validation=True, check_val_every_n_epoch=2)
    run = ipstore.open(tmp_path, run="mine")
    loss, accuracy = array(run, "training/loss").isel(seed=0), array(run, "training/accuracy").isel(seed=0)
    expected = np.array([np.nan, *(each["train_loss"] for each in seen)], np.float32)
    np.testing.assert_array_equal(loss.sel(split="train"), expected)
    for name, stored in (("val_loss", loss), ("val_accuracy", accuracy)):
        assert seen[2][name] == seen[1][name]  # kept
        expected = np.array([np.nan, np.nan, seen[1][name], np.nan, seen[3][name]], np.float32)
        np.testing.assert_array_equal(stored.sel(split="test"), expected)
    assert np.isnan(accuracy.sel(split="train")).all()


@pytest.mark.long
def test_a_metric_that_is_not_there_is_warned_of_once(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no metric 'trainloss' .* There are: train_loss") as told:
        fit(module(), recorder(tmp_path, loss="trainloss"))
    assert len([each for each in told if "trainloss" in str(each.message)]) == 1
    assert np.isnan(array(ipstore.open(tmp_path, run="mine"), "training/loss")).all()


@pytest.mark.long
@pytest.mark.parametrize("error", [RuntimeError("the user's own"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_what_is_whole_is_committed_when_training_breaks_off(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises((RuntimeError, SystemExit)) as caught:  # Lightning exits on Ctrl-C
        fit(module(fail_at=(9, error)), recorder(tmp_path, shard_epochs=50), epochs=5)
    assert isinstance(error, KeyboardInterrupt) or caught.value is error
    run = ipstore.open(tmp_path, run="mine")
    assert run.attrs["status"] == "interrupted"
    assert array(run, "epoch").values.tolist() == [0, 1, 2]


def stored(store: Path) -> dict[str, bytes]:
    """Everything that is stored along epochs."""
    run = ipstore.open(store, run="mine")
    paths = [f"{node.path}/{name}" for node in run.subtree for name in node.data_vars]
    return {path: array(run, path).values.tobytes() for path in paths if "epoch" in array(run, path).dims}


@pytest.mark.long
@pytest.mark.parametrize("when", ["at the epoch's end", "after validation", "after the last step", "within an epoch"])
def test_a_checkpoint_is_gone_on_with_at_its_epoch(when: str, tmp_path: Path) -> None:
    """Training goes on to another end than it came to: the record is that of an unbroken training's weights."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    saving: dict[str, Any] = {
        "at the epoch's end": {"every_n_epochs": 1, "save_on_train_epoch_end": True},
        "after validation": {"every_n_epochs": 1, "save_on_train_epoch_end": False},
        "after the last step": {"every_n_train_steps": 4},
        "within an epoch": {"every_n_train_steps": 6},
    }[when]
    names = {"loss": {"train": "train_loss", "test": "val_loss"}}
    options: dict[str, Any] = {"validation": True, "enable_checkpointing": True}

    def keep() -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path, "{epoch}-{step}", save_top_k=-1, **saving)

    whole = module()
    fit(whole, recorder(tmp_path / "runs.zarr", **names), keep(), epochs=5, **options)
    before = stored(tmp_path / "runs.zarr")
    path = {"within an epoch": "epoch=1-step=6.ckpt"}.get(when, "epoch=1-step=8.ckpt")
    again = module(seed=3)
    fit(again, recorder(tmp_path / "runs.zarr", **names), keep(), epochs=5, ckpt_path=tmp_path / path, **options)
    run = ipstore.open(tmp_path / "runs.zarr", run="mine")
    assert array(run, "epoch").values.tolist() == [0, 1, 2, 3, 4, 5]
    assert run.attrs["status"] == "finished"
    assert stored(tmp_path / "runs.zarr") != before  # other mini-batches came after the checkpoint
    kept = 2 if when != "within an epoch" else 1
    weights = [*whole.epochs[:kept], *again.epochs[-(5 - kept) :]]
    assert_same_activations(run, by_hand(tmp_path / "runs.zarr", "mlp", weights))


@pytest.mark.long
def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    trainer = fit(module(), epochs=2)
    trainer.save_checkpoint(tmp_path / "bare.ckpt")
    with pytest.raises(ResumeError, match="goes on after 2 epochs, from a checkpoint that knows nothing of run 'mine'"):
        fit(module(), recorder(tmp_path / "runs.zarr"), ckpt_path=tmp_path / "bare.ckpt")


@pytest.mark.long
def test_fit_called_again_goes_on(tmp_path: Path) -> None:
    callback, model = recorder(tmp_path), module()
    trainer = fit(model, callback, epochs=2)
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    assert next(iter(torch.load(tmp_path / "after.ckpt", weights_only=True)["callbacks"].values())) == {
        "run": "mine",
        "epoch": 2,
        "recorded": 2,
    }
    trainer.fit_loop.max_epochs = 4
    trainer.fit(model, loader(), loader(shuffle=False))
    run = ipstore.open(tmp_path, run="mine")
    assert array(run, "epoch").values.tolist() == [0, 1, 2, 3, 4]
    assert_same_activations(run, by_hand(tmp_path, "mlp", model.epochs))
    with pytest.raises(RunExistsError):
        fit(module(), callback)


@pytest.mark.long
def test_a_strategy_that_spreads_parameters_is_refused(tmp_path: Path) -> None:
    """Lightning's own needs a GPU; this one puts a wrapper of that name around the module, as it does."""
    from lightning.pytorch.strategies import SingleDeviceStrategy

    class FullyShardedDataParallel(nn.Module):
        def __init__(self, wrapped: nn.Module) -> None:
            super().__init__()
            self.wrapped = wrapped

    class Sharding(SingleDeviceStrategy):
        def setup(self, trainer: Any) -> None:
            super().setup(trainer)
            assert self.model is not None
            self.model = FullyShardedDataParallel(self.model)

    with pytest.raises(ParameterError, match="has its parameters spread over processes"):
        fit(module(), recorder(tmp_path), strategy=Sharding("cpu"))
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_recorder_goes_to_processes_that_are_spawned(tmp_path: Path) -> None:
    """As under ``ddp_spawn``: all that it was given goes along."""
    callback = pickle.loads(pickle.dumps(recorder(tmp_path, loss="train_loss", layers=["net.0"])))
    fit(module(), callback)
    run = ipstore.open(tmp_path, run="mine")
    assert list(run["activations"].data_vars) == ["net.0"]
    assert array(run, "training/loss").isel(seed=0, split=0)[1:].notnull().all()


@pytest.mark.long
def test_two_recorders_of_one_training(tmp_path: Path) -> None:
    """Each finds its own state in the checkpoint."""
    model = module()
    trainer = fit(model, *(recorder(tmp_path, run="a", seed=seed) for seed in (0, 3)), recorder(tmp_path, run="b"))
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    states = torch.load(tmp_path / "after.ckpt", weights_only=True)["callbacks"]
    assert sorted(state["run"] for state in states.values()) == ["a+0", "a+3", "b"]


@pytest.mark.long
def test_manual_optimisation(tmp_path: Path) -> None:
    """Two optimizers in turn; the moments of a layer are those of its own steps."""
    from lightning.pytorch import LightningModule

    class Both(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.first, self.second = nn.Linear(12, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.tanh(self.first(x)))  # type: ignore[no-any-return]

        def training_step(self, batch: tuple[Tensor, Tensor]) -> None:
            for optimizer, layer in zip(self.optimizers(), (self.first, self.second), strict=True):
                self.toggle_optimizer(optimizer)
                optimizer.zero_grad()
                self.manual_backward(nn.functional.cross_entropy(self(batch[0]), batch[1]))
                gradients = [each.grad for each in layer.parameters() if each.grad is not None]
                norms.append(float(sum(each.square().sum() for each in gradients)))
                optimizer.step()
                self.untoggle_optimizer(optimizer)

        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            return [torch.optim.SGD(each.parameters(), lr=0.1) for each in (self.first, self.second)]

    states = []
    for recorded in (False, True):
        torch.manual_seed(0)
        norms: list[float] = []
        model = Both()
        fit(model, *([recorder(tmp_path)] if recorded else []))
        states.append(model.state_dict())
    assert_same_tensors(*states)
    run = ipstore.open(tmp_path, run="mine")
    assert array(run, "epoch").values.tolist() == [0, 1, 2, 3]
    mean, std = (array(run, f"training/grad_{which}_norm").isel(seed=0).values for which in ("mean", "std"))
    squares = np.array(norms).reshape(3, 4, 2).mean(1)  # (epoch, step, layer): the mean of |g|^2
    np.testing.assert_allclose(mean[1:] ** 2 + std[1:] ** 2, squares, rtol=1e-5)


def test_without_lightning_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ipstore.trainers.integrations.lightning"
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    import ipstore.trainers.integrations as integrations

    with pytest.raises(MissingPackageError, match=r"pip install 'ipstore\[lightning\]'"):
        _ = integrations.LightningRecorder


def test_the_package_of_callbacks_imports_no_framework() -> None:
    script = """
        import sys
        import ipstore.trainers.integrations as integrations
        assert {"HuggingFaceRecorder", "LightningRecorder"} <= set(dir(integrations))
        print(*{"torch", "lightning", "transformers"} & sys.modules.keys())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": ["net.0"]}, "takes no layer: its options are .*layers"),
        ({"optimizer": 1}, "the framework gives it the model and the optimizers"),
        ({"resume": True}, "its checkpoint says where to go on"),
        ({"loss": {"val": "val_loss"}}, r"loss is the name of a metric, or a mapping with train and test, .*\['val'\]"),
    ],
)
def test_options_that_are_none_are_refused_at_once(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=message):
        recorder(tmp_path, **options)
