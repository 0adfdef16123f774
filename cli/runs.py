"""``ipstore runs``, ``info`` and ``verify``: what a store holds, and whether it is whole."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ipstore.cli import specs
from ipstore.cli.analyze import Run, StoreOrRun
from ipstore.cli.output import (
    Json,
    print_facts,
    print_json,
    print_table,
    progress,
    say,
)
from ipstore.describing import described, listed
from ipstore.wording import moment, pairs, ranges, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipstore.integrity import Damage
    from ipstore.places import Place
    from ipstore.reader import RunInfo
    from ipstore.repairs import Repairs

__all__ = ["info", "runs", "verify"]


def runs(store: Annotated[str, typer.Argument(metavar="STORE", help="A store.")], json: Json = False) -> None:
    """List the runs of a store."""
    from ipstore.reader import runs as list_runs

    place = specs.store_place(store)
    _print_runs(place, list_runs(place), json)


def _print_runs(store: "Place", infos: "list[RunInfo]", json: bool) -> None:
    found = [listed(info) for info in infos]
    if json:
        print_json({"store": str(store), "runs": found})
    elif not found:
        say(f"{store} holds no run yet")
    else:
        columns = ("run", "status", "task", "level", "epochs", "seeds", "on disk")
        rows = [
            [
                run["run"],
                run["status"],
                run["task"],
                run["level"],
                "-" if run["epochs"] is None else str(run["epochs"]),
                str(len(run["seeds"])),
                size(run["stored_bytes"]),
            ]
            for run in found
        ]
        print_table(columns, rows, numbers=("epochs", "seeds", "on disk"))


def info(store: StoreOrRun, run: Run = None, json: Json = False) -> None:
    """Tell all about a run.

    Of a store, its runs are listed; of a run in parts, these.
    """
    from ipstore.format import split_run
    from ipstore.reader import run_info

    if run is None and split_run(store)[1] is None:
        runs(store, json)
        return
    place, names = specs.stored_runs(store, run)
    infos = [run_info(place / name) for name in names]
    if len(infos) > 1:
        _print_runs(place, infos, json)
        return
    found = described(place / names[0], infos[0])
    if json:
        print_json({"store": str(place), **found})
    else:
        _print_run(place, found)


def verify(
    store: StoreOrRun,
    run: Run = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; the run must not be written meanwhile.")
    ] = False,
    json: Json = False,
) -> None:
    """Check every stored byte of runs, and mend them.

    All that is stored is read and held against the checksums taken when it was written; what is damaged is
    named, and the exit code is then 1.

    With --repair, leftovers of killed writers go, and damaged activations are computed again from the weights, where
    they then agree with the digest taken at capture. The exit code is 1 if anything is damaged still.
    """
    from ipstore.format import split_run
    from ipstore.integrity import verify as verify_run
    from ipstore.repairs import Repairs, sweep_store
    from ipstore.repairs import repair as mend

    swept = sweep_store(store) if repair and run is None and split_run(store)[1] is None else ()
    place, names = specs.stored_runs(store, run)
    found: dict[str, Repairs] = {}
    for name in names:
        with progress(f"verify {name}", "files") as show:
            found[name] = mend(place / name, show) if repair else Repairs(damage=verify_run(place / name, show))
    if json:
        listed = [_verdict(name, repairs, repair) for name, repairs in found.items()]
        print_json({"store": str(place), **({"removed": list(swept)} if repair else {}), "runs": listed})
    else:
        _print_verdicts(found, swept)
    if any(repairs.damage for repairs in found.values()):
        raise typer.Exit(1)


def _verdict(name: str, repairs: "Repairs", repaired: bool) -> dict[str, Any]:
    mended = {"repaired": _together(repairs.mended), "removed": list(repairs.removed)} if repaired else {}
    return {"run": name, "whole": not repairs.damage, "damage": _together(repairs.damage), **mended}


def _print_verdicts(found: "dict[str, Repairs]", swept: "Sequence[str]") -> None:
    if swept:
        say(f"removed what killed processes had left of {', '.join(swept)}")
    for name, repairs in found.items():
        done = [f"{len(repairs.removed)} leftover files removed"] if repairs.removed else []
        done += ["repaired"] if repairs.mended else []
        say(f"{name}: {', '.join(['damaged' if repairs.damage else 'whole', *done])}")
    for title, part in (("repaired", "mended"), ("what is wrong", "damage")):
        rows = [
            [name, damage["array"], ranges(damage["epochs"]), ranges(damage["seeds"]), damage["reason"]]
            for name, repairs in found.items()
            for damage in _together(getattr(repairs, part))
        ]
        if rows:
            print_table(("run", "array", "epochs", "seeds", title), rows)


def _print_run(store: "Place", run: dict[str, Any]) -> None:
    model, commit = run.get("model", {}), run["commit"]
    facts = {
        "run": f"{run['run']} in {store}",
        "status": run["status"],
        "task": run["task"] + (f" ({run['labels']} labels)" if "labels" in run else ""),
        "sweep": f"{run['sweep']['name']}, at {pairs(run['sweep']['at'])}" if "sweep" in run else "",
        "model": pairs(model),
        "training": pairs(run.get("config", {})),
        "level": run["level"] + (f" ({pairs(run['binning'])})" if "binning" in run else ""),
        "activations": run.get("activations", ""),
        "layers": ", ".join(run["layers"]),
        "epochs": "none yet" if run["epochs"] is None else f"{run['epochs']} ({run['captured_epochs']} captured)",
        "seeds": f"{len(run['seeds'])} ({ranges(sorted(run['seeds']))})",
        "diverged": ", ".join(f"{seed} (from epoch {epoch})" for seed, epoch in run["diverged"].items()),
        "created": moment(run["created_at"]),
        "committed": f"{moment(commit['time'])} (commit {commit['sequence']})",
        "versions": pairs(run.get("versions", {})),
        "on disk": f"{size(run['stored_bytes'])} in {run['files']} files: "
        + ", ".join(f"{name} {size(count)}" for name, count in run["bytes"].items()),
    }
    print_facts({name: value for name, value in facts.items() if value})
    if run["results"]:
        say("")
        rows = [
            [
                name,
                attrs["estimator"],
                pairs(attrs["parameters"]),
                attrs.get("labels_name", attrs["labels"]),
                str(attrs["commit"]["epochs"]),
                moment(attrs["created_at"]),
            ]
            for name, attrs in run["results"].items()
        ]
        print_table(("result", "estimator", "parameters", "labels", "epochs", "created"), rows, numbers=("epochs",))


def _together(damages: "Sequence[Damage]") -> list[dict[str, Any]]:
    """Draw together what differs in the seed alone."""
    seeds: dict[tuple[str, str, tuple[int, ...]], set[int]] = {}
    for damage in damages:
        seeds.setdefault((damage.array, damage.reason, damage.epochs), set()).update(damage.seeds)
    return [
        {"array": array, "epochs": list(epochs), "seeds": sorted(hit), "reason": reason}
        for (array, reason, epochs), hit in seeds.items()
    ]
