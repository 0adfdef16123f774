"""How training moves in the information plane: phases, drift and diffusion, relaxation, over seeds and layers.

Every function takes a plane, as `ipstore.analysis.information_plane` gives it, or the group ``training`` of a run, and
gives labelled arrays of every seed on its own; `measure` calls all of them, `over_seeds` sums up what they give. Places
are epochs and not positions along them, so a run of which few epochs were captured, log-spaced say, is measured as one
of which all were, as finely as its epochs allow.
"""

from ipstore.analysis.dynamics.error import ErrorMeasure, change_point
from ipstore.analysis.dynamics.generalisation import epochs_to
from ipstore.analysis.dynamics.gradients import crossing, signal_to_noise
from ipstore.analysis.dynamics.labels import label_loss
from ipstore.analysis.dynamics.lags import lag
from ipstore.analysis.dynamics.overview import measure, measure_run
from ipstore.analysis.dynamics.phases import compression
from ipstore.analysis.dynamics.relaxation import relaxation_law, relaxation_time
from ipstore.analysis.dynamics.seeds import over_seeds

__all__ = [
    "ErrorMeasure",
    "change_point",
    "compression",
    "crossing",
    "epochs_to",
    "label_loss",
    "lag",
    "measure",
    "measure_run",
    "over_seeds",
    "relaxation_law",
    "relaxation_time",
    "signal_to_noise",
]
