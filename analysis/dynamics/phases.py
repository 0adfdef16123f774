"""Fitting and compression: when a layer knows most of its input, when it starts to forget, and when it has."""

import xarray as xr

from ipstore.analysis.dynamics.labelled_curves import Meaning, check_share, measured, variable
from ipstore.analysis.dynamics.phase_kernels import phases
from ipstore.errors import ParameterError

__all__ = ["check_fall", "compression"]

_LOST = "the drop from the peak of I(X;T) to its end"
_RISES = "; 0 where the peak lies in the last stretch"

_MEANINGS = {
    "peak_epoch": Meaning("epoch of the peak of I(X;T)", "epochs", "the first epoch at which I(X;T) is highest"),
    "peak": Meaning("peak of I(X;T)", "bits", "the highest I(X;T) of all epochs"),
    "end_value": Meaning("end of I(X;T)", "bits", "the median of I(X;T) over the last stretch of epochs"),
    "drop": Meaning("bits compressed", "bits", _LOST + _RISES),
    "noise": Meaning(
        "noise of I(X;T)", "bits", "the standard deviation of I(X;T) from epoch to epoch, apart from its trend"
    ),
    "falls": Meaning(
        "whether the layer compresses", "1", f"1 where {_LOST} is at least `least` and 6 times the noise, otherwise 0"
    ),
    "onset": Meaning(
        "onset of compression",
        "epochs",
        f"the last epoch at which I(X;T) is within a share of {_LOST}, and 3 times the noise, of its peak",
    ),
    "halfway": Meaning(
        "half of the compression", "epochs", f"the last epoch at which I(X;T) has not lost half of {_LOST}"
    ),
    "compression_end": Meaning(
        "end of compression",
        "epochs",
        f"the first epoch from which I(X;T) stays within a share of {_LOST}, and 3 times the noise, of its end",
    ),
    "share_after_peak": Meaning(
        "share of epochs after the peak", "1", "epochs after the peak of I(X;T) by all epochs; 0 without compression"
    ),
    "share_compressing": Meaning(
        "share of epochs compressing",
        "1",
        "epochs from the onset to the end of compression by all epochs; 0 without compression",
    ),
    "regained": Meaning(
        "bits lost and regained",
        "bits",
        "the largest rise of I(X;T) after its peak, from any epoch to any later one",
    ),
}

_NAMES = {"peak": "peak_I_XT", "end_value": "end_I_XT", "drop": "compressed", "falls": "compresses"}


def compression(plane: xr.Dataset, *, share: float = 0.05, least: float = 0.1, stretch: float = 0.1) -> xr.Dataset:
    """Divide the training of every layer into fitting and compression.

    A drop from the highest of many values is never negative, also where there is only noise: of n normal values by
    sqrt(2 ln n) standard deviations, 0.2 bits for a flat curve of 2000 epochs with a noise of 0.05. So a layer counts
    as compressing only if it loses `least` bits and six times its noise; otherwise it has no onset, no halfway and
    no end, and compresses in no share of the epochs. A slow wandering of I(X;T) is not noise in this sense, nor are
    rare spikes: against them stands `least`.

    I(X;T) of a network of the paper can fall twice: by a bit about when the gradients pass from drift to diffusion, of
    which much is regained, and later for good. With a small `share` the onset is of some seeds the one, of others the
    other, as the first fall is more or less than that share. ``halfway`` lies in the lasting fall nearly always, and
    ``regained`` says how much of a fall did not last.

    Parameters
    ----------
    plane : Dataset
        With I_XT (..., epoch, seed, layer) in bits, three epochs or more; may be lazy.
    share : float
        Of the drop, in (0, 0.5): how near the peak a layer has not begun, how near the end it has finished. No
        nearer than three times the noise.
    least : float
        Bits, 0 or more: what has to be lost for a compression.
    stretch : float
        Share of all epochs, in (0, 1), the last of them, whose median is the end. The last epoch alone would carry
        its noise into every measure. Of a curve that still falls by s bits in that stretch, the end is s/2 too high.
        One whose peak lies in that stretch still rises, and has lost nothing.

    Returns
    -------
    Dataset
        Over (..., seed, layer), in memory. In epochs ``peak_epoch``, ``onset``, ``halfway`` and ``compression_end``;
        in bits ``peak_I_XT``, ``end_I_XT``, ``compressed``, ``noise`` and ``regained``; ``compresses`` (1 or 0),
        ``share_after_peak`` and ``share_compressing``. Each says in ``attrs["definition"]`` what it is. A curve with
        a NaN, as of a seed that diverged, is NaN in all.

    Raises
    ------
    ParameterError
        If a variable, a dimension or epochs are missing, or a value is not allowed.
    """
    check_fall(share, least, stretch)
    found = measured(
        variable(plane, "I_XT", "epoch", "seed", "layer", epochs=3),
        phases,
        _MEANINGS,
        share=share,
        least=least,
        stretch=stretch,
    )
    return found.rename(_NAMES).assign_attrs(share=share, least=least, stretch=stretch)


def check_fall(share: float, least: float, stretch: float) -> None:
    """Raise ParameterError unless the parameters of `compression` are allowed."""
    check_share("share", share, most=0.5)
    check_share("stretch", stretch)
    if not least >= 0:
        raise ParameterError(f"least must be a number of bits, 0 or more, but got {least!r}")
