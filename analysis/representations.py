"""What ``tree.ip`` shows of an opened run or store; nothing is read for it but what opening had read."""

from typing import Any

import xarray as xr

from ipstore.representations import facts_html, facts_text, glance, table_html, table_text
from ipstore.wording import moment, pairs, size

__all__ = ["tree_html", "tree_text"]


def tree_text(tree: xr.DataTree) -> str:
    """Describe a tree for a terminal."""
    return table_text(*_runs(tree)) if _holds_runs(tree) else facts_text(*_facts(tree))


def tree_html(tree: xr.DataTree) -> str:
    """Describe a tree for a notebook."""
    return table_html(*_runs(tree)) if _holds_runs(tree) else facts_html(*_facts(tree))


def _is_run(tree: xr.DataTree) -> bool:
    return "probe" in tree.children


def _holds_runs(tree: xr.DataTree) -> bool:
    return not _is_run(tree) and any(map(_is_run, tree.children.values()))


def _runs(store: xr.DataTree) -> tuple[str, list[dict[str, str]]]:
    rows = [{"run": name, **_glance(tree)} for name, tree in store.children.items() if _is_run(tree)]
    return f"store {store.name or ''!r}: {len(rows)} run{'' if len(rows) == 1 else 's'}", rows


def _glance(run: xr.DataTree) -> dict[str, str]:
    """Say in a few words each what the run was when it was opened."""
    epochs = run["epoch"].to_numpy() if "epoch" in run.coords else []
    attrs = {str(name): value for name, value in run.attrs.items()}
    told = glance(attrs, epochs=len(epochs), last_epoch=int(epochs[-1]) if len(epochs) else None)
    return {"status": str(run.attrs["status"]), **told} if "status" in run.attrs else told


def _facts(run: xr.DataTree) -> tuple[str, dict[str, str]]:
    if not _is_run(run):
        return f"{run.name or 'a tree'!r} is no run and no store: give what ipstore.open(store, run=name) returned", {}
    attrs = run.attrs
    results = run["results"].children if "results" in run.children else {}
    told = {
        **_glance(run),
        "layers": _layers(run),
        "training": pairs(attrs.get("config", {})),
        "created": moment(attrs["created_at"]) if "created_at" in attrs else "",
        "if all were read": size(run.nbytes),
        "results": "; ".join(f"{name}: {_result(result.attrs)}" for name, result in results.items()) or "none yet",
    }
    return f"run {run.name or ''!r}", {name: text for name, text in told.items() if text}


def _layers(run: xr.DataTree) -> str:
    if "layers" in run.attrs:
        return ", ".join(map(str, run.attrs["layers"]))
    return ", ".join(map(str, run["activations"].data_vars)) if "activations" in run.children else ""


def _result(attrs: dict[Any, Any]) -> str:
    given = pairs(attrs.get("parameters", {}))
    return f"{attrs.get('estimator', '')}{f' ({given})' if given else ''}"
