"""Every benchmark, one after the other, written to RESULTS.md with the machine's description.

Run: ``make bench`` (about forty minutes and 11 GB of disk, on a machine that does nothing else)
"""

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import (  # noqa: E402  (threads are set before NumPy loads)
    analysis,
    binned,
    bound,
    capture,
    cluster,
    consistency,
    figure2,
    ib_curve,
    kde,
    knn,
    noisy,
    recorder,
    remote,
    reproduction,
    scale,
    together,
    trainer,
    writing,
)
from ipstore.levels import Level  # noqa: E402

RESULTS = Path(__file__).parent / "RESULTS.md"


def machine() -> str:
    """Processor, memory and versions."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next(
        (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "processor unknown"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "numba", "zarr", "dask"))
    return (
        f"{model}, {os.cpu_count()} virtual processors, {memory:.0f} GiB; {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {packages}. Load at the start: {os.getloadavg()[0]:.2f}."
    )


def rows(repeats: int, folder: str | None) -> list[tuple[str, str, str, str]]:
    """What was measured, against what, the target and the figure."""
    found: list[tuple[str, str, str, str]] = []

    def add(what: str, baseline: str, target: str, figure: str) -> None:
        found.append((what, baseline, target, figure))
        print(f"{what}: {figure} ({target})", flush=True)

    for batch_size, one, two in ((512, "≥ 8", "≥ 14"), (128, "≥ 18", "-")):
        ratios = trainer.ratios(batch_size, repeats)
        loop = f"loop over 50 nn.Modules, {ratios['module_loop_ms']:.0f} ms an epoch"
        shape = f"50 networks, batch {batch_size}, gradient moments included"
        add(
            f"trainer, one process: {shape}",
            loop,
            one,
            f"{ratios['ensemble_ratio']:.1f}x, {ratios['ensemble_ms']:.1f} ms",
        )
        add(
            f"trainer, two processes: {shape}",
            loop,
            two,
            f"{ratios['two_processes_ratio']:.1f}x, {ratios['two_processes_ms']:.1f} ms",
        )
    kernel = binned.measure(repeats)
    nanoseconds = kernel["nanoseconds per activation"]
    baseline = "numpy digitise + pack + unique"
    add("`binned`, float32, 10 units x 4096", baseline, "≥ 8", f"{kernel['ratio, activations']:.1f}x")
    add("`binned`, stored codes", "numpy pack + unique", "-", f"{kernel['ratio, codes']:.1f}x")
    for case in ("binned, activations", "binned, activations, soft labels", "binned, codes", "binned, all six layers"):
        add(case, "-", "3 to 4", f"{nanoseconds[case]:.2f} ns per activation")
    scaled = next(key for key in kernel if key.startswith("seconds for"))
    add(
        scaled.removeprefix("seconds for "),
        "-",
        "stated",
        f"{kernel[scaled]:.1f} s, scaled from {kernel['scaled from']}",
    )
    add_estimators(repeats, add)
    add_bottleneck(repeats, folder, add)
    shared = together.measure(repeats, folder)
    add(
        "`analyze`, 3 questions at once",
        f"the same one after the other, {shared['seconds']['one by one']:.1f} s",
        "one read",
        f"{shared['ratio']:.2f}x",
    )
    published = figure2.measure(min(repeats, 3), folder)
    for whom, name, target in (
        ("the authors' way", "authors", "stated"),
        ("the same, each input not by itself", "lean", "-"),
    ):
        add(
            "estimates of figure 2, from a store of weights",
            f"{whom}, {published[f'{name}, seconds for figure 2']:,.0f} s",
            target,
            f"{published[f'ratio to {name}']:.1f}x, {published['analyze, seconds for figure 2']:.0f} s",
        )
    whole = reproduction.measure(folder)
    add("`reproduce all --quick`, from nothing", "-", "≤ 10 min", f"{whole['seconds'] / 60:.1f} min")
    levels: tuple[tuple[Level, str], ...] = (("full", "≤ 1.10"), ("codes", "-"))
    for level, target in levels:
        streaming = capture.measure(repeats=repeats, folder=folder, level=level)
        add(
            f"training with every epoch streamed at `{level}`, {streaming['megabytes_per_epoch']:.1f} MB an epoch",
            f"the same loop dropping the activations, {streaming['dropped_ms_per_epoch']:.1f} ms an epoch",
            target,
            f"{streaming['ratio']:.2f}x ({streaming['ratio_min']:.2f} to {streaming['ratio_max']:.2f}); "
            f"the bytes alone into one file: {streaming['plain_ratio']:.2f}x",
        )
    add_recorder(repeats, folder, add)
    durable = writing.measure(repeats=repeats, folder=folder)
    add(
        "durable writing of activations at `full`",
        f"plain write + fsync of the same bytes, {durable['raw_GB_per_s']:.2f} GB/s",
        "≥ 0.9",
        f"{durable['ratio']:.2f} ({durable['ratio_min']:.2f} to {durable['ratio_max']:.2f}), "
        f"{durable['run_GB_per_s']:.2f} GB/s",
    )
    stored = remote.measure(repeats=min(repeats, 3), folder=folder)
    for what, ratio in stored["ratio"].items():
        rates = stored["MB_per_s"][what]
        add(
            f"object store, {what}",
            f"zarr over s3fs, {rates['s3fs']:.0f} MB/s",
            "≥ 1.2",
            f"{ratio:.1f}x, {rates['ipstore']:.0f} MB/s",
        )
    add_scale(scale.measure(repeats, folder), add)
    add_analysis(analysis.measure(folder=folder), add)
    spread = cluster.measure(repeats, folder)
    add(
        f"`analyze` by two Dask workers, a store of {spread['stored_bytes'] / 1e9:.1f} GB",
        f"by one, {spread['seconds']['one worker']:.1f} s",
        "≥ 1.7",
        f"{spread['two workers over one']:.2f}x",
    )
    add(
        "`analyze` by one Dask worker of one thread",
        f"by one thread, {spread['seconds']['one thread']:.1f} s",
        "stated",
        f"{spread['overhead over one thread']:.2f}x",
    )
    return found


def add_estimators(repeats: int, add: Any) -> None:
    """The other estimators that have a target."""
    bounds = kde.measure(repeats)
    baseline = f"plain torch float32 of one bound, {bounds['milliseconds']['torch']:.0f} ms"
    for case, ratio in bounds["ratio"].items():
        target = "-" if "soft" in case else "≥ 40"
        add(f"both bounds of `kde`, 4096 x 10, {case}", baseline, target, f"{ratio:.0f}x")
    add("`kde`, largest deviation", "float64", "≤ 1e-5 bits", f"{bounds['deviation from float64, bits']:.1e} bits")
    many = bounds[f"{kde.MANY} rows"]
    add(
        f"`kde`, {kde.MANY} rows, memory",
        f"N x N float32, {many['N x N float32 would take, MB']:.0f} MB",
        "by tiles",
        f"{many['memory beyond 500 rows, MB']:.0f} MB; {many['seconds']['noise 0.001']:.2f} s at noise 0.001",
    )
    neighbours = knn.measure(repeats)["layers"]
    for rival in ("mi", "micd"):
        ratios = {case: each["ratio"][f"npeet_plus.{rival}"] for case, each in neighbours.items()}
        add(
            "`knn`, 4096 rows of 1 to 64 units",
            f"npeet_plus.{rival}",
            "≥ 1",
            f"{min(ratios.values()):.1f}x to {max(ratios.values()):.1f}x; 10 units: {ratios['10 units, gain 1']:.1f}x",
        )
    drawn = noisy.measure(repeats)
    for noise in noisy.NOISES:
        case = f"noise {noise:g}"
        add(
            f"`noisy`, 4096 x 10, {case}",
            "plain torch float32",
            "stated",
            f"{drawn['draws per second'][case]:,.0f} draws per second, {drawn['ratio'][case]:.0f}x",
        )


def add_recorder(repeats: int, folder: str | None, add: Any) -> None:
    """What it costs to record a loop that is not ours."""
    recorded = recorder.measure(repeats=repeats, folder=folder)
    milliseconds = recorded["milliseconds"]
    lean = "the paper's network in the leanest loop"
    for case, bare, what, target in (
        (
            "recorded, loader",
            "bare, loader",
            "the paper's network, a loop with a loader, every epoch recorded",
            "≤ 1.3",
        ),
        ("recorded", "bare", f"{lean}, batches by index, every epoch recorded", "≤ 1.3"),
        ("moments", "bare", f"{lean}, gradient moments alone", "≤ 1.15"),
        ("between", "bare", f"{lean}, a Recorder that does not record", "≤ 1.01"),
    ):
        low, high = recorded["range"][case]
        add(
            what,
            f"the bare loop, {milliseconds[bare]:.1f} ms an epoch",
            target,
            f"{recorded['ratio to the bare loop'][case]:.2f}x ({low:.2f} to {high:.2f})",
        )
    add(
        "what logging adds to an epoch",
        f"the network's pass over the probe, {milliseconds['probe']:.1f} ms",
        "stated",
        f"{recorded['added, over the bare pass']:.1f}x",
    )
    for case, ratio in recorded["torchlens, over what logging adds"].items():
        add("what logging adds to an epoch", f"{case}, {milliseconds[case]:.0f} ms", "≥ 20", f"{ratio:.0f}x less")
    held = recorder.memory(folder=folder)
    add(
        f"memory of a Recorder, {held['epoch_bytes'] / 1e6:.0f} MB an epoch",
        f"one batch, two blocks and one being written, {held['stated_bytes'] / 1e6:.0f} MB",
        "≤ 1",
        f"{held['measured over stated']:.2f}x, {held['measured_bytes'] / 1e6:.0f} MB",
    )


def add_bottleneck(repeats: int, folder: str | None, add: Any) -> None:
    """The bound: its curve, beta* of a layer, and a whole run."""
    solved = ib_curve.measure(repeats)
    for rival, target in (("embo at the same betas", "≥ 5"), ("embo by default", "-")):
        add(
            f"certified information-bottleneck curve to 1e-4 bits, {solved['points']} points",
            f"{rival}, {solved['seconds'][rival]:.1f} s",
            target,
            f"{solved['ratio'][rival]:.1f}x, {solved['seconds']['curve']:.2f} s; "
            f"it ends {solved['bits below the curve, at worst'][rival]:.1e} bits below at worst",
        )
    add("largest gap of its points", "-", "≤ 1e-8 nats", f"{solved['largest gap, nats']:.1e} nats")
    near = solved["onset times 1 + 1e-3"]
    add(
        "a point at the onset times 1 + 1e-3, iterations",
        f"alternating updates, {near['blahut_arimoto, iterations']:,}",
        "≤ 5",
        f"{near['outer iterations']}",
    )
    wide = solved[f"{ib_curve.MANY} states"]
    add(f"curve to 1e-3 bits, {ib_curve.MANY} states", "-", "< 20 s", f"{wide['seconds']:.1f} s")
    for layer, each in consistency.measure(repeats)["layers"].items():
        add(
            f"beta* of a layer, {layer}: {each['values of T']} values of T",
            f"NumPy at {len(consistency.GRID)} values of beta, {each['milliseconds']['grid']:.0f} ms",
            "≥ 50",
            f"{each['ratio']['grid']:,.0f}x, {each['milliseconds']['ours']:.2f} ms, of {consistency.CELLS} cells "
            f"at once; {each['ratio of the grid to one call']:,.0f}x alone; "
            f"deviation {each['relative deviation from the grid']:.0e}",
        )
    held = bound.measure(repeats, folder)
    add(
        f"`bound` of a run, {held['cells']:,} cells",
        f"`analyze` of the same, {held['seconds']['plane']:.1f} s",
        "≤ 60 s",
        f"{held['seconds']['bound']:.1f} s, {held['ratio']:.1f}x; peak memory {held['peak_bytes'] / 1e9:.2f} GB",
    )


def add_scale(measured: dict[str, Any], add: Any) -> None:
    """What a large store costs to open, list, read and commit to."""
    opened = measured["opening"]
    for level in ("full", "codes", "weights"):
        add(
            f"opening a run of {scale.EPOCHS:,} epochs x {scale.SEEDS} seeds at `{level}`",
            f"{opened[level]['files']:,} files, of which it reads {opened[level]['files read']}",
            "≤ 0.5 s",
            f"{opened[level]['seconds']:.2f} s",
        )
    add(f"listing {scale.RUNS} such runs with two results each", "-", "≤ 1 s", f"{opened['list']:.2f} s")
    for what, case in (
        ("layer", "one layer over all epochs, one seed"),
        ("epoch", "one epoch of all layers and seeds"),
    ):
        read = measured["reading"][what]
        add(
            f"reading {case}, {read['megabytes']:.0f} MB",
            f"np.fromfile of the same bytes, {read['fromfile_GB_per_s']:.2f} GB/s",
            "stated",
            f"{read['ratio']:.2f}, {read['GB_per_s']:.2f} GB/s",
        )
    cost = measured["commit"]
    baseline = f"one 4 KiB file written, synced and renamed, {cost['file']:.1f} ms"
    add("a commit, activations aside", baseline, "≤ 15 ms", f"{cost['commit']:.1f} ms")


def add_analysis(measured: dict[str, Any], add: Any) -> None:
    """Memory and growth of an analysis."""
    last = measured["rows"][-1]
    add(
        "`analyze`, peak memory",
        f"a store of {last['stored_bytes'] / 1e9:.1f} GB",
        "< 1 GB",
        f"{last['peak_bytes'] / 1e9:.2f} GB",
    )
    growth = ", ".join(
        f"{row['epochs']}: {ratio:.2f}"
        for row, ratio in zip(measured["rows"], measured["seconds_per_epoch_over_shortest"], strict=True)
    )
    add("`analyze`, time per epoch as the run grows", "the shortest run", "constant", growth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="where to write; by default the temporary directory")
    given = parser.parse_args()
    described, began = machine(), time.perf_counter()
    table = rows(given.repeats, given.folder)
    lines = [
        "# Results",
        "",
        f"Written by `make bench` on {time.strftime('%Y-%m-%d')}, in {(time.perf_counter() - began) / 60:.0f} minutes.",
        f"{described}",
        "",
        f"Medians over {given.repeats} repeats, in which the contestants take turns; ranges in brackets. What each",
        "benchmark does, and its floor, stands at the head of its file.",
        "",
        "| what | against | target | reached |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in table),
        "",
    ]
    RESULTS.write_text("\n".join(lines))
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
