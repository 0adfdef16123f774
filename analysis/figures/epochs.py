"""Epochs on the scale log(1 + epoch), on which epoch 0 has a place."""

from typing import Any

import holoviews as hv
import numpy as np
from holoviews.plotting.util import process_cmap
from numpy.typing import NDArray

from ipstore.analysis.spacing import log_spaced

__all__ = ["EPOCH_COLOURS", "EpochScale", "log_spaced"]

EPOCH_COLOURS: list[str] = process_cmap("plasma", 256)[:225]  # the lightest yellow is lost on white


class EpochScale:
    """The scale log(1 + epoch), under the name and the ticks of the epochs.

    Parameters
    ----------
    epochs : (epoch,) int64
        Ascending.
    gap : float
        How near to the last epoch, as a part of the scale, a tick would print over it. Beside the first, which
        has fewer digits, a third of that is enough.
    """

    def __init__(self, epochs: NDArray[np.int64], gap: float = 0.06) -> None:
        first, last = int(epochs[0]), int(epochs[-1])
        # Not labelled "epoch": by that name HoloViews would find these numbers in the place of a column of epochs.
        self.dimension = hv.Dimension("log_epoch", label="log(1 + epoch)")
        self.limits = (self(first), self(last)) if first < last else (0.0, self(max(last, 1)))
        room = gap * np.ptp(self.limits)
        powers = [10**k for k in range(len(str(last)))]
        between = [e for e in powers if self(first) + room / 3 < self(e) < self(last) - room]
        shown = list(dict.fromkeys([first, *between, last]))
        self.ticks = [(self(epoch), str(epoch)) for epoch in shown]
        self.named_ticks = [(self(e), f"epoch {e}" if e in (first, last) else str(e)) for e in shown]

    def __call__(self, epoch: Any) -> Any:
        """Give the place of an epoch, or of an array of them, on the scale."""
        return np.log10(1.0 + epoch)

    @property
    def colours(self) -> dict[str, Any]:
        """Options of an element whose colour is the epoch."""
        return {"color": self.dimension.name, "cmap": EPOCH_COLOURS, "clim": self.limits}
