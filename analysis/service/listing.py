"""The tab that lists the runs of a store, to find and choose some."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import panel as pn

from ipstore.reader import RunInfo
from ipstore.representations import glance
from ipstore.wording import size

__all__ = ["RunsTab"]

_COLUMNS = ("run", "status", "task", "model", "sweep", "epochs", "seeds", "level", "on disk", "results")
_SMALL = ".tabulator { font-size: 13px; }"


class RunsTab:
    """A table of runs.

    Parameters
    ----------
    on_choice : callable
        Called with the names of the runs that a person selects.
    """

    def __init__(self, on_choice: Callable[[Sequence[str]], None]) -> None:
        self._on_choice = on_choice
        self._quiet = False
        self.table = pn.widgets.Tabulator(
            pd.DataFrame(columns=list(_COLUMNS)),
            show_index=False,
            disabled=True,
            selectable="checkbox",
            header_filters={name: {"type": "input", "func": "like", "placeholder": "filter"} for name in _COLUMNS[:5]},
            theme_classes=["table-sm"],
            stylesheets=[_SMALL],
            layout="fit_data_stretch",
            pagination="local",
            page_size=25,
            text_align={"epochs": "right", "seeds": "right", "on disk": "right", "results": "right"},
            sizing_mode="stretch_width",
        )
        self.table.param.watch(self._selected, "selection")
        self.body = pn.Column(self.table, sizing_mode="stretch_width")

    def show(self, runs: Mapping[str, RunInfo], problems: Mapping[str, str], chosen: Sequence[str]) -> None:
        """List these runs, and those that cannot be read."""
        rows = [_row(info) for info in runs.values()]
        rows += [dict.fromkeys(_COLUMNS, "") | {"run": name, "status": problem} for name, problem in problems.items()]
        rows.sort(key=lambda row: row["run"])
        frame = pd.DataFrame(rows, columns=list(_COLUMNS))
        names = list(frame["run"])
        self._quiet = True
        try:
            if not frame.equals(self.table.value):
                self.table.value = frame
            self.table.selection = [names.index(name) for name in chosen if name in names]
        finally:
            self._quiet = False

    def _selected(self, event: Any) -> None:
        if not self._quiet:
            self._on_choice([str(self.table.value["run"].iloc[place]) for place in event.new])


def _row(info: RunInfo) -> dict[str, str]:
    commit = info.attrs["commit"]
    told = glance(info.attrs, epochs=commit["epochs"], last_epoch=commit.get("last_epoch"))
    row = {
        "run": info.name,
        "status": info.status,
        "on disk": size(info.stored_bytes),
        "results": str(len(info.results)),
    }
    return {name: (row | told).get(name, "") for name in _COLUMNS}
