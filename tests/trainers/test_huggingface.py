"""The Hugging Face Trainer trains the same to the bit whether it is recorded or not, and goes on with the record.

All of this is long: importing transformers takes six seconds. Nothing is fetched: models are made from configurations.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ipstore
from ipstore.errors import MissingPackageError, ParameterError, ResumeError
from ipstore.trainers import Recorder
from tests.store.synthetic import array
from tests.trainers.same import assert_same_tensors, generators

if TYPE_CHECKING:
    from ipstore.trainers.integrations import HuggingFaceRecorder

pytestmark = [
    # The Trainer asks for pinned memory, which a machine without accelerator cannot give.
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found"),
]

COUNT, LENGTH, VOCABULARY = 40, 8, 30
EPOCHS, STEPS = 3, 5


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    yield
    if "accelerate" in sys.modules:  # its settings are the process's; the next test has its own
        states = import_module("accelerate.state")
        for state in (states.AcceleratorState, states.GradientState, states.PartialState):
            state._reset_state()


def tokens() -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (COUNT, LENGTH), generator=generator)
    lengths = torch.randint(3, LENGTH + 1, (COUNT, 1), generator=generator)
    mask = (torch.arange(LENGTH) < lengths).long()
    return {"input_ids": ids * mask, "attention_mask": mask}, ids[:, 0] % 3


X, Y = tokens()
PROBE = ({name: each[:12] for name, each in X.items()}, Y[:12])


class Data(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, at: int) -> dict[str, Tensor]:
        return {**{name: each[at] for name, each in X.items()}, "labels": Y[at]}


def network(kind: str = "bert", seed: int = 0) -> Any:
    """Build a small transformer with dropout, which classifies sequences."""
    torch.manual_seed(seed)
    import transformers

    common: dict[str, Any] = {"vocab_size": VOCABULARY, "num_labels": 3, "pad_token_id": 0}
    sizes: dict[str, Any]
    if kind == "bert":
        sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        config = transformers.BertConfig(**common, **sizes, max_position_embeddings=LENGTH)
        return transformers.BertForSequenceClassification(config)
    if kind == "distilbert":
        sizes = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16, "max_position_embeddings": LENGTH}
        return transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**common, **sizes))
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": LENGTH}
    return transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**common, **sizes))


def accuracy(result: Any) -> dict[str, float]:
    return {"accuracy": float((result.predictions.argmax(1) == result.label_ids).mean())}


class Watch:
    """Keeps the gradients of each step and the weights of each epoch."""

    def __new__(cls) -> Any:
        from transformers import TrainerCallback

        class Watching(TrainerCallback):
            def __init__(self) -> None:
                self.gradients: list[dict[str, Tensor]] = []
                self.epochs: list[dict[str, Tensor]] = []

            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **others: Any) -> None:
                named = others["model"].named_parameters()
                self.gradients.append({name: each.grad.clone() for name, each in named if each.grad is not None})

            def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
                self.epochs.append({name: each.clone() for name, each in others["model"].state_dict().items()})

        return Watching()


def trainer(folder: Path, model: Any, *callbacks: Any, epochs: float = EPOCHS, **options: Any) -> Any:
    """Make a Trainer without what it prints and writes of itself."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    arguments = TrainingArguments(
        **{
            "output_dir": str(folder / "trainer"),
            "num_train_epochs": epochs,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-2,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "epoch",
            "disable_tqdm": True,
            "use_cpu": True,
            "seed": 5,
            **options,
        }
    )
    made = Trainer(
        model, arguments, train_dataset=Data(), eval_dataset=Data(), callbacks=[*callbacks], compute_metrics=accuracy
    )
    made.remove_callback(PrinterCallback)
    return made


def recorder(folder: Path, **options: Any) -> "HuggingFaceRecorder":
    from ipstore.trainers.integrations import HuggingFaceRecorder

    return HuggingFaceRecorder(folder / "runs.zarr", PROBE, **{"run": "mine", "shard_epochs": 2, **options})


def opened(folder: Path, run: str = "mine") -> Any:
    return ipstore.open(folder / "runs.zarr", run=run)


def assert_recorded_as_by_hand(folder: Path, kind: str, epochs: list[dict[str, Tensor]], seed: int = 0) -> None:
    """Record the weights of all epochs with a recorder of its own, and compare."""
    model = network(kind, seed)
    with Recorder(folder / "runs.zarr", model, PROBE, "by-hand") as plain:
        for weights in epochs:
            model.load_state_dict(weights)
            plain.epoch()
    first, second = opened(folder), opened(folder, "by-hand")
    assert array(first, "epoch").values.tolist() == list(range(len(epochs) + 1))
    names = list(first["activations"].data_vars)
    assert names == list(second["activations"].data_vars)
    for name in names:
        a, b = array(first, f"activations/{name}"), array(second, f"activations/{name}")
        assert a.values.tobytes() == b.values.tobytes(), name


CASES: dict[str, dict[str, Any]] = {
    "plain": {"max_grad_norm": 0.0},
    "clipped and accumulated": {"max_grad_norm": 0.01, "gradient_accumulation_steps": 2},
    "bf16": {"bf16": True},
    "bf16, accumulated": {"bf16": True, "gradient_accumulation_steps": 2},
    "compiled": {"torch_compile": True, "torch_compile_backend": "eager"},
    "compiled bf16": {"torch_compile": True, "torch_compile_backend": "eager", "bf16": True},
    "evaluated": {"eval_strategy": "epoch"},
    "the best": {
        "eval_strategy": "epoch",
        "save_strategy": "best",
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "greater_is_better": True,  # the first is the best, so that the last is not what is loaded
        "learning_rate": 1e-3,
    },
}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("case", CASES)
def test_training_is_unchanged_and_recorded_as_by_hand(case: str, kind: str, tmp_path: Path) -> None:
    results = []
    for recorded in (False, True):
        torch._dynamo.reset()
        model, watch = network(kind), Watch()
        made = trainer(tmp_path, model, watch, *([recorder(tmp_path)] if recorded else []), **CASES[case])
        made.train()
        losses = [each["loss"] for each in made.state.log_history if "loss" in each]
        results.append((model, watch, losses, made.optimizer.state_dict()["state"], generators()))
    (bare, bare_watch, bare_losses, bare_moments, bare_generators), (model, watch, losses, moments, after) = results
    assert_same_tensors(bare.state_dict(), model.state_dict())
    for first, second in zip(bare_watch.gradients, watch.gradients, strict=True):
        assert_same_tensors(first, second)
    for key, state in bare_moments.items():
        assert_same_tensors(state, moments[key])
    if case == "the best":
        assert made.state.best_global_step == STEPS
    assert bare_losses == losses
    assert len(losses) == EPOCHS
    assert bare_generators == after
    assert opened(tmp_path).attrs["status"] == "finished"
    assert_recorded_as_by_hand(tmp_path, kind, watch.epochs)


@pytest.mark.long
def test_gradients_are_those_of_the_steps_after_they_are_clipped(tmp_path: Path) -> None:
    watch = Watch()
    trainer(tmp_path, network(), watch, recorder(tmp_path), max_grad_norm=0.01).train()
    run = opened(tmp_path)
    for layer in ("classifier", "bert.encoder.layer.0.output.LayerNorm"):
        for epoch in range(EPOCHS):
            steps = watch.gradients[STEPS * epoch : STEPS * (epoch + 1)]
            flat = [[step[f"{layer}.{name}"].double().numpy().ravel() for name in ("weight", "bias")] for step in steps]
            each = np.stack([np.concatenate(own) for own in flat])
            assert np.linalg.norm(each, axis=1).max() <= 0.0101
            mean, std = (
                float(array(run, f"training/grad_{which}_norm").sel(epoch=epoch + 1, seed=0, layer=layer))
                for which in ("mean", "std")
            )
            assert mean == pytest.approx(np.linalg.norm(each.mean(0)), rel=1e-5)
            assert std == pytest.approx(np.sqrt(each.var(0).sum()), rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("logging", ["epoch", "steps"])
def test_metrics_are_stored_with_the_epoch_they_are_of(logging: str, tmp_path: Path) -> None:
    made = trainer(
        tmp_path, network(), recorder(tmp_path), eval_strategy="epoch", logging_strategy=logging, logging_steps=2
    )
    made.train()
    last: dict[str, dict[int, float]] = {"loss": {}, "eval_loss": {}, "eval_accuracy": {}}
    for entry in made.state.log_history:
        for name in last.keys() & entry.keys():
            last[name][int(np.ceil(entry["epoch"]))] = entry[name]
    run = opened(tmp_path)
    for metric, split, name in (
        ("loss", "train", "loss"),
        ("loss", "test", "eval_loss"),
        ("accuracy", "test", "eval_accuracy"),
    ):
        stored = array(run, f"training/{metric}").isel(seed=0).sel(split=split)
        expected = np.array([np.nan, *(last[name][epoch] for epoch in (1, 2, 3))], np.float32)
        np.testing.assert_array_equal(stored, expected)
    assert np.isnan(array(run, "training/accuracy").sel(split="train")).all()


@pytest.mark.long
def test_a_metric_that_is_not_there_is_warned_of_once(tmp_path: Path) -> None:
    named = recorder(tmp_path, accuracy={"test": "eval_f1"})
    with pytest.warns(UserWarning, match="no metric 'eval_f1' .* There are: .*eval_accuracy") as told:
        trainer(tmp_path, network(), named, eval_strategy="epoch").train()
    assert len([each for each in told if "eval_f1" in str(each.message)]) == 1


@pytest.mark.long
def test_what_is_whole_is_committed_when_training_breaks_off(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Fail(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step == 12:
                raise RuntimeError("the user's own")

    with (
        pytest.raises(RuntimeError, match="the user's own"),
        recorder(tmp_path, shard_epochs=50) as callback,
    ):
        trainer(tmp_path, network(), callback, Fail()).train()
    run = opened(tmp_path)
    assert run.attrs["status"] == "interrupted"
    assert array(run, "epoch").values.tolist() == [0, 1, 2]
    assert callback.recorder is None


@pytest.mark.long
@pytest.mark.parametrize(("strategy", "step"), [("epoch", 10), ("steps", 10), ("steps", 12)])
def test_a_checkpoint_is_gone_on_with_at_its_epoch(strategy: str, step: int, tmp_path: Path) -> None:
    """Training goes on to another end than it came to: the record is that of the weights that it had."""
    saving: dict[str, Any] = {"save_strategy": strategy, "save_steps": step}
    watch, again = Watch(), Watch()
    trainer(tmp_path, network(), watch, recorder(tmp_path), **saving).train()
    folder = tmp_path / "trainer" / f"checkpoint-{step}"
    made = trainer(tmp_path, network(seed=3), again, recorder(tmp_path), epochs=4, learning_rate=0.02)
    made.train(resume_from_checkpoint=str(folder))
    assert len(again.epochs) == 2
    assert opened(tmp_path).attrs["status"] == "finished"
    assert_recorded_as_by_hand(tmp_path, "bert", [*watch.epochs[:2], *again.epochs])


@pytest.mark.long
def test_an_epoch_that_was_broken_off_is_gone_through_again(tmp_path: Path) -> None:
    """``max_steps`` ends training within the second epoch, which counts; going on, it is recorded whole."""
    watch, again = Watch(), Watch()
    trainer(tmp_path, network(), watch, recorder(tmp_path), max_steps=8, save_strategy="steps", save_steps=8).train()
    assert array(opened(tmp_path), "epoch").values.tolist() == [0, 1, 2]
    made = trainer(tmp_path, network(seed=3), again, recorder(tmp_path), epochs=3)
    made.train(resume_from_checkpoint=str(tmp_path / "trainer" / "checkpoint-8"))
    assert_recorded_as_by_hand(tmp_path, "bert", [watch.epochs[0], *again.epochs])


@pytest.mark.long
def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, network(), epochs=1, save_strategy="epoch").train()
    with pytest.raises(ResumeError, match="goes on after 1 epochs, from a checkpoint that knows nothing of run 'mine'"):
        trainer(tmp_path, network(), recorder(tmp_path)).train(
            resume_from_checkpoint=str(tmp_path / "trainer" / "checkpoint-5")
        )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2"])
def test_the_layers_that_are_chosen(kind: str, tmp_path: Path) -> None:
    """Every layer with parameters or an activation; positions are the same for all samples, and are left out."""
    from transformers.pytorch_utils import Conv1D

    model = network(kind)
    with Recorder(tmp_path / "runs.zarr", model, PROBE, "mine") as plain:
        layers, left_out = plain.layers, plain.left_out
    linear = {name for name, each in model.named_modules() if isinstance(each, nn.Linear | nn.LayerNorm | Conv1D)}
    embeddings = {name for name, each in model.named_modules() if isinstance(each, nn.Embedding)}
    positions = {name for name in embeddings if "position" in name or name.endswith("wpe")}
    assert len(positions) == 1
    assert linear <= layers.keys()
    assert embeddings - positions <= layers.keys() | left_out.keys()
    assert any("word_embeddings" in name or name.endswith("wte") for name in layers)
    for name in positions:
        assert "the first dimension must be that of the samples" in left_out[name]
    widths = {name: LENGTH * each.out_features for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    for name in linear & widths.keys():
        per_sequence = {"classifier", "pre_classifier", "bert.pooler.dense"}
        assert layers[name] == widths[name] // (LENGTH if name in per_sequence else 1), name


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipstore.trainers.integrations.huggingface", raising=False)
    monkeypatch.setitem(sys.modules, "transformers.trainer_callback", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    import ipstore.trainers.integrations as integrations

    with pytest.raises(MissingPackageError, match=r"pip install 'ipstore\[hf\]'"):
        _ = integrations.HuggingFaceRecorder


@pytest.mark.long
def test_options_that_are_none_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"takes no layer: its options are .*layers"):
        recorder(tmp_path, layer=["classifier"])
