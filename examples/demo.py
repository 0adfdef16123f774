"""The paper's main experiment, end to end: train, stream every epoch, estimate, plot.

Twenty networks 12-10-7-5-4-3-2 learn the paper's rule (inputs -1/+1) by SGD; every epoch of all of them goes into
``demo/runs.zarr``; the information plane is estimated from there and drawn to ``demo/``.
"""

import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ipstore.analysis import figures
from ipstore.analysis.stored import analyze
from ipstore.analysis.summaries import summary
from ipstore.plan import largest_level
from ipstore.reader import run_info
from ipstore.trainers import tasks
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.streaming import capture, plan_run

FOLDER = Path("demo")
STORE = FOLDER / "runs.zarr"
BUDGET = 1_500_000_000


def main() -> None:
    """Run the experiment."""
    began = time.perf_counter()
    task = tasks.load("rule", signed=True)
    config = TrainConfig(learning_rate=0.2, batch_size=512, epochs=2000)
    seeds = range(20)
    level = largest_level(plan_run(task, config, seeds), config.epochs + 1, BUDGET)
    assert level is not None

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        training = progress.add_task("train and stream", total=config.epochs + 1)
        capture(
            task,
            STORE,
            "rule-tanh",
            config,
            seeds=seeds,
            level=level,
            overwrite=True,
            on_progress=lambda now: progress.update(training, completed=now.captured),
        )
        estimating = progress.add_task("estimate", total=config.epochs + 1)
        plane = analyze(
            STORE, "rule-tanh", "binned", on_progress=lambda done, _: progress.update(estimating, completed=done)
        )
    for name, figure in (("plane", figures.information_plane(plane)), ("snapshots", figures.snapshots(plane))):
        for suffix in ("html", "png"):
            figures.save(figure, FOLDER / f"{name}.{suffix}")

    info = run_info(STORE / "rule-tanh")
    table = Table(
        title=f"{len(seeds)} networks, {config.epochs} epochs, every epoch stored at level {level} "
        f"({info.stored_bytes / 1e9:.2f} GB); bits, mean ± sd over seeds"
    )
    for column in ("layer", "peak I(X;T)", "at epoch", "end I(X;T)", "drop", "end I(T;Y)"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    sums = summary(plane)
    for layer in sums["layer"].values:
        row = {name: float(value) for name, value in sums.sel(layer=layer).data_vars.items()}
        table.add_row(
            str(layer),
            f"{row['peak_I_XT']:.2f}",
            f"{row['peak_epoch']:.0f}",
            f"{row['end_I_XT']:.2f} ± {row['end_I_XT_sd']:.2f}",
            f"{row['drop']:.2f}",
            f"{row['end_I_TY']:.3f} ± {row['end_I_TY_sd']:.3f}",
        )
    console = Console()
    console.print(table)
    console.print(f"I(X;Y) = {plane.attrs['I_XY']:.4f} bits ({plane.attrs['labels']} labels). Look at:")
    for path in sorted(FOLDER.glob("*.html")):
        console.print(f"  {path}")
    console.print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
