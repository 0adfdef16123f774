"""What a layer loses of the label after it knew most of it."""

import xarray as xr

from ipstore.analysis.dynamics.labelled_curves import Meaning, measured, variable
from ipstore.analysis.dynamics.phase_kernels import falls
from ipstore.analysis.dynamics.phases import check_fall

__all__ = ["label_loss"]

_MEANINGS = {
    "peak_epoch": Meaning("epoch of the maximum of I(T;Y)", "epochs", "the first epoch at which I(T;Y) is highest"),
    "peak": Meaning("maximum of I(T;Y)", "bits", "the highest I(T;Y) of all epochs"),
    "end_value": Meaning("end of I(T;Y)", "bits", "the median of I(T;Y) over the last stretch of epochs"),
    "drop": Meaning(
        "bits lost of the label",
        "bits",
        "the drop from the maximum of I(T;Y) to its end; 0 where the maximum lies in the last stretch",
    ),
    "noise": Meaning(
        "noise of I(T;Y)", "bits", "the standard deviation of I(T;Y) from epoch to epoch, apart from its trend"
    ),
    "falls": Meaning(
        "whether the layer loses of the label",
        "1",
        "1 where the drop from the maximum of I(T;Y) to its end is at least `least` and 6 times the noise, otherwise 0",
    ),
}

_NAMES = {
    "peak_epoch": "label_peak_epoch",
    "peak": "peak_I_TY",
    "end_value": "end_I_TY",
    "drop": "label_lost",
    "noise": "label_noise",
    "falls": "loses_label",
}


def label_loss(plane: xr.Dataset, *, least: float = 0.02, stretch: float = 0.1) -> xr.Dataset:
    """Measure what every layer loses of I(T;Y) after its maximum, as when a network overfits.

    As with `compression`, the drop from a maximum is never negative, and of a noisy curve that does not fall about
    four times the noise: only where it is at least `least` and six times the noise does ``loses_label`` say so.

    Parameters
    ----------
    plane : Dataset
        With I_TY (..., epoch, seed, layer) in bits, three epochs or more; may be lazy.
    least : float
        Bits, 0 or more. By default 0.02: networks of the paper trained on 85% of the patterns end about 0.01 below
        their maximum in the output, by chance; on 5% they lose 0.1 and more.
    stretch : float
        Share of all epochs, in (0, 1), the last of them, whose median is the end. A maximum in that stretch is no loss.

    Returns
    -------
    Dataset
        Over (..., seed, layer), in memory: ``label_peak_epoch``; ``peak_I_TY``, ``end_I_TY``, ``label_lost`` and
        ``label_noise`` in bits; ``loses_label``, 1 or 0. A curve with a NaN is NaN in all.

    Raises
    ------
    ParameterError
        If a variable, a dimension or epochs are missing, or a value is not allowed.
    """
    check_fall(0.05, least, stretch)
    curves = variable(plane, "I_TY", "epoch", "seed", "layer", epochs=3)
    found = measured(curves, falls, _MEANINGS, least=least, stretch=stretch)
    return found.rename(_NAMES).assign_attrs(least=least, stretch=stretch)
