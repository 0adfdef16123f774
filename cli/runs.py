"""``ipstore runs``, ``info`` and ``verify``: what a store holds, and whether it is whole."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ipstore.cli import specs
from ipstore.cli.analyze import Run, StoreOrRun
from ipstore.cli.output import (
    Json,
    moment,
    pairs,
    print_facts,
    print_json,
    print_table,
    progress,
    ranges,
    say,
    size,
)

if TYPE_CHECKING:
    from ipstore.integrity import Damage
    from ipstore.places import Place
    from ipstore.reader import RunInfo

__all__ = ["info", "runs", "verify"]

_DAMAGE = ("run", "array", "epochs", "seeds", "what is wrong")


def runs(store: Annotated[str, typer.Argument(metavar="STORE", help="A store.")], json: Json = False) -> None:
    """List the runs of a store."""
    from ipstore.reader import runs as list_runs

    place = specs.store_place(store)
    found = [_glance(run) for run in list_runs(place)]
    if json:
        print_json({"store": store, "runs": found})
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

    Of a store, its runs are listed.
    """
    from ipstore.format import split_run
    from ipstore.reader import run_info

    if run is None and split_run(store)[1] is None:
        runs(store, json)
        return
    place, (name,) = specs.choose_runs(store, run)
    described = run_info(place / name)
    found = _glance(described) | _details(place / name, described)
    if json:
        print_json({"store": str(place), **found})
    else:
        _print_run(place, found)


def verify(store: StoreOrRun, run: Run = None, json: Json = False) -> None:
    """Check every stored byte of runs.

    All that is stored is read and held against the checksums taken when it was written; what is damaged is
    named, and the exit code is then 1.
    """
    import ipstore

    place, names = specs.choose_runs(store, run)
    damages: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        with progress(f"verify {name}", "files") as show:
            damages[name] = _together(ipstore.verify(place / name, show))
    damaged = [name for name, found in damages.items() if found]
    if json:
        listed = [{"run": name, "whole": not found, "damage": found} for name, found in damages.items()]
        print_json({"store": str(place), "runs": listed})
    else:
        for name in names:
            say(f"{name}: {'damaged' if damages[name] else 'whole'}")
        rows = [
            [name, damage["array"], ranges(damage["epochs"]), ranges(damage["seeds"]), damage["reason"]]
            for name in damaged
            for damage in damages[name]
        ]
        if rows:
            print_table(_DAMAGE, rows)
    if damaged:
        raise typer.Exit(1)


def _glance(info: "RunInfo") -> dict[str, Any]:
    """Give what a list of runs says of one."""
    commit = info.attrs["commit"]
    return {
        "run": info.name,
        "status": info.status,
        "task": specs.task_text(info.attrs["task"], info.attrs.get("task_params", {})),
        "level": info.attrs["level"],
        "epochs": commit.get("last_epoch"),
        "captured_epochs": commit["epochs"],
        "seeds": info.attrs["seeds"],
        "diverged": {int(seed): epoch for seed, epoch in info.attrs["diverged"].items()},
        "results": list(info.results),
        "stored_bytes": info.stored_bytes,
    }


def _details(place: "Place", info: "RunInfo") -> dict[str, Any]:
    """Give what else there is to say of a run."""
    from ipstore.group import read_document

    provenance = {name: read_document(place / "results" / name)["attributes"] for name in info.results}
    attrs = {key: value for key, value in info.attrs.items() if key not in ("status", "diverged", "seeds")}
    by_group: dict[str, int] = {}
    sizes = place.sizes()
    for key, count in sorted(sizes.items()):
        group, inside, _ = key.partition("/")
        if inside:
            by_group[group] = by_group.get(group, 0) + count
    return {
        **attrs,
        "task": specs.task_text(info.attrs["task"], info.attrs.get("task_params", {})),
        "files": len(sizes),
        "stored_bytes": sum(sizes.values()),
        "bytes": by_group,
        "results": provenance,
    }


def _print_run(store: "Place", run: dict[str, Any]) -> None:
    model, commit = run.get("model", {}), run["commit"]
    facts = {
        "run": f"{run['run']} in {store}",
        "status": run["status"],
        "task": run["task"] + (f" ({run['labels']} labels)" if "labels" in run else ""),
        "model": pairs(model),
        "training": pairs(run.get("config", {})),
        "level": run["level"] + (f" ({pairs(run['binning'])})" if "binning" in run else ""),
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


def _together(damages: "list[Damage]") -> list[dict[str, Any]]:
    """Draw together what differs in the seed alone."""
    seeds: dict[tuple[str, str, tuple[int, ...]], set[int]] = {}
    for damage in damages:
        seeds.setdefault((damage.array, damage.reason, damage.epochs), set()).update(damage.seeds)
    return [
        {"array": array, "epochs": list(epochs), "seeds": sorted(hit), "reason": reason}
        for (array, reason, epochs), hit in seeds.items()
    ]
