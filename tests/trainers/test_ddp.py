"""Two processes that train one network: the first alone records it, and both train as they would without.

Each test starts its processes anew, as ``python -m tests.trainers.test_ddp WHAT FOLDER``. All of this is long.
"""

import os
import random
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ipstore
from ipstore.errors import ParameterError
from ipstore.trainers import Recorder
from tests.store.synthetic import array
from tests.trainers.same import assert_same_tensors

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
EPOCHS = 3


# What each process does -------------------------------------------------------


def network() -> nn.Module:
    """Build a network with a buffer of the whole batch, and dropout: each process draws its own masks."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)),
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(48, 3),
    )


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(64, 12, generator=generator), torch.randint(0, 3, (64,), generator=generator)


X, Y = samples()
PROBE = (X[:20], Y[:20])


def begin() -> None:
    """Set the random number generators, in each process to something else."""
    seed = 10 + int(os.environ["RANK"])
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (the legacy generator is one of those that must stay)
    random.seed(seed)


def keep(folder: Path, recorded: bool, **results: Any) -> None:
    """Leave what a process came to, and where its random number generators stand."""
    legacy: Any = np.random.get_state()  # noqa: NPY002
    generators = torch.get_rng_state(), legacy[1].tobytes().hex(), legacy[2], str(random.getstate())
    name = f"{'recorded' if recorded else 'bare'}-{os.environ['RANK']}.pt"
    torch.save({"generators": generators, **results}, folder / name)


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in model.state_dict().items()}


def plain(folder: Path, recorded: bool) -> None:
    """Train in a loop of one's own; the second half goes on from the state of the first."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    model = nn.parallel.DistributedDataParallel(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    begin()
    epochs, states = [], []
    state: Any = False
    for numbers in ((1, 2), (3,)):
        options = {"optimizer": optimizer, "shard_epochs": 2, "resume": state}
        recorder = Recorder(folder / "runs.zarr", model, PROBE, "mine", **options) if recorded else None
        for _ in numbers:
            for batch in torch.arange(64).reshape(4, 2, 8)[:, rank]:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(X[batch]), Y[batch]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            epochs.append(copied(model.module))
            if recorder is not None:
                recorder.epoch(loss=0.5)
        if recorder is not None:
            state = recorder.state_dict()
            states.append(state)
            recorder.close()
    keep(folder, recorded, epochs=epochs, states=states)


def lightning(folder: Path, recorded: bool) -> None:
    from lightning.pytorch import LightningModule, Trainer

    from ipstore.trainers.integrations import LightningRecorder

    class Classifier(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            self.epochs: list[dict[str, Tensor]] = []

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)  # type: ignore[no-any-return]

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
            # The mean over processes, which each has to ask for.
            self.log("train_loss", loss, on_epoch=True, on_step=False, sync_dist=True)
            return loss

        def on_train_epoch_end(self) -> None:
            self.epochs.append(copied(self.net))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    model = Classifier()
    callback = LightningRecorder(folder / "runs.zarr", PROBE, "mine", loss="train_loss")
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=EPOCHS,
        callbacks=[callback] if recorded else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    begin()
    trainer.fit(model, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=8))
    trainer.save_checkpoint(folder / "after.ckpt")  # which both processes have to take part in
    loss = float(trainer.callback_metrics["train_loss"])
    keep(folder, recorded, epochs=model.epochs, states=[callback.state_dict()], loss=loss)


def huggingface(folder: Path, recorded: bool) -> None:
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    from ipstore.trainers.integrations import HuggingFaceRecorder

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            output = {"logits": self.net(x)}
            return output if labels is None else {"loss": nn.functional.cross_entropy(output["logits"], labels)}

    class Watch(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            epochs.append(copied(others["model"].net))

    epochs: list[dict[str, Tensor]] = []
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=8,
        report_to="none",
        logging_strategy="epoch",
        save_strategy="epoch",
        disable_tqdm=True,
        use_cpu=True,
        ddp_backend="gloo",
    )
    callback = HuggingFaceRecorder(folder / "runs.zarr", ({"x": PROBE[0]}, PROBE[1]), "mine")
    data = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]
    trainer = Trainer(
        Classifier(),
        arguments,
        train_dataset=data,
        callbacks=[Watch(), *([callback] if recorded else [])],
    )
    trainer.remove_callback(PrinterCallback)
    begin()
    trainer.train()
    loss = [each["loss"] for each in trainer.state.log_history if "loss" in each][-1]
    keep(folder, recorded, epochs=epochs, states=[callback.state()["attributes"]], loss=loss)


def sharded(folder: Path, recorded: bool) -> None:
    """Go on where the store stands; spread a layer over the processes: each is told that neither can be."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if not recorded:
        return
    torch.distributed.init_process_group("gloo")
    whole, spread = network(), network()
    fully_shard(spread.get_submodule("6"), mesh=init_device_mesh("cpu", (2,)))
    told = []
    for model, resume in ((whole, True), (spread, False)):
        try:
            Recorder(folder / "runs.zarr", model, PROBE, "mine", resume=resume)
        except ParameterError as error:
            told.append(str(error))
    keep(folder, recorded, told=told)


# What is asked of both --------------------------------------------------------


def both(what: str, folder: Path) -> None:
    """Run two processes to their end; each trains without a record, and then with one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "error", "-m", "tests.trainers.test_ddp", what, str(folder)]
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n\n".join(outputs)


def left(folder: Path, name: str) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("what", ["plain", "lightning", "huggingface"])
def test_two_processes_train_as_without_a_record(what: str, tmp_path: Path) -> None:
    both(what, tmp_path)
    bare, recorded = left(tmp_path, "bare"), left(tmp_path, "recorded")
    for before, after in zip(bare, recorded, strict=True):
        assert len(before["epochs"]) == len(after["epochs"]) == EPOCHS
        for first, second in zip(before["epochs"], after["epochs"], strict=True):
            assert_same_tensors(first, second)
        assert before["generators"][0].equal(after["generators"][0])
        assert before["generators"][1:] == after["generators"][1:]
        assert before.get("loss") == after.get("loss")
    assert [each["states"][-1]["epoch"] for each in recorded] == [EPOCHS, EPOCHS]
    run = ipstore.open(tmp_path / "runs.zarr", run="mine")
    assert run.attrs["status"] == "finished"
    assert array(run, "epoch").values.tolist() == [0, 1, 2, 3]
    if "loss" in recorded[0]:
        assert float(array(run, "training/loss").isel(seed=0, epoch=-1, split=0)) == np.float32(recorded[0]["loss"])
    model = network()
    with Recorder(tmp_path / "runs.zarr", model, PROBE, "by-hand") as recorder:
        for weights in recorded[0]["epochs"]:
            model.load_state_dict(weights)
            recorder.epoch()
    by_hand = ipstore.open(tmp_path / "runs.zarr", run="by-hand")
    prefix = "" if what == "plain" else "net."
    assert [f"{prefix}{name}" for name in by_hand["activations"].data_vars] == list(run["activations"].data_vars)
    for name in by_hand["activations"].data_vars:
        first, second = array(by_hand, f"activations/{name}"), array(run, f"activations/{prefix}{name}")
        assert first.values.tobytes() == second.values.tobytes(), name


def test_what_several_processes_cannot_record_is_refused_by_each(tmp_path: Path) -> None:
    both("sharded", tmp_path)
    for each in left(tmp_path, "recorded"):
        standing, spread = each["told"]
        assert "give each what state_dict() gave" in standing
        assert "has its parameters spread over processes" in spread
    assert not (tmp_path / "runs.zarr").exists()


if __name__ == "__main__":
    for message in (
        "The '.*_dataloader' does not have many workers",  # Lightning's advice; 64 samples need none
        "`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning 2.6 under PyTorch 2.13
        "'pin_memory' argument is set as true but no accelerator",  # transformers, on a machine without one
    ):
        warnings.filterwarnings("ignore", message)
    worker = {each.__name__: each for each in (plain, lightning, huggingface, sharded)}[sys.argv[1]]
    for with_record in (False, True):
        worker(Path(sys.argv[2]), with_record)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
