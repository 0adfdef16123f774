"""Figures with a slider as films: gif by pillow, mp4 by ffmpeg."""

import errno
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, NoReturn

import holoviews as hv
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.transforms import Bbox
from PIL import Image

from ipstore.errors import MissingPackageError, ParameterError

__all__ = ["FILMS", "RATE", "check_rate", "film", "find_ffmpeg", "has_ffmpeg", "refuse_still"]

Film = Literal["gif", "mp4"]
FILMS: tuple[Film, ...] = ("gif", "mp4")

RATE = 10.0
"""Frames per second, unless another number is given."""

_RATES = (0.1, 50.0)  # a gif counts hundredths of a second, and browsers slow down one of a single hundredth
_HOLD = 2.0
"""Seconds for which the last frame stands."""

_DPI = 100
_MARGIN = 0.1  # inches
_COLOURS = 128
_SAMPLED = 6  # frames from which the palette of all is taken


def film(frames: Any, form: Film, rate: float) -> bytes:
    """Draw every frame of a HoloMap, all of one size with the axes in one place.

    Parameters
    ----------
    frames : holoviews.HoloMap
    form : {"gif", "mp4"}
        A gif runs for ever, with one palette of 128 colours.
    rate : float
        Frames per second, as `check_rate` lets it pass; a gif rounds a frame's time to hundredths of a second. The last
        frame stands for two seconds.

    Returns
    -------
    bytes
        Of the file.

    Raises
    ------
    ParameterError
        `frames` is no HoloMap.
    MissingPackageError
        There is no ffmpeg for mp4.
    OSError
        ffmpeg failed.
    """
    if not isinstance(frames, hv.HoloMap):
        refuse_still(form)
    pages = [_draw(frame) for frame in frames]
    return _gif(pages, rate) if form == "gif" else _mp4(pages, rate)


def refuse_still(form: str) -> NoReturn:
    """Refuse a figure without frames.

    Raises
    ------
    ParameterError
    """
    raise ParameterError(
        f"a .{form} is made of frames, one for each epoch, but this figure is one picture; write it as .html, .png or "
        ".svg, or take a figure that has frames, such as `snapshots`"
    )


def check_rate(rate: float) -> float:
    """Refuse a rate that no film can have.

    Raises
    ------
    ParameterError
    """
    low, high = _RATES
    if not low <= rate <= high:
        raise ParameterError(f"rate is a number of frames per second, {low:g} to {high:g}, but got {rate:g}")
    return rate


def find_ffmpeg() -> str:
    """Find the program that makes an mp4: matplotlib's ``animation.ffmpeg_path``, which is ffmpeg on the PATH.

    Raises
    ------
    MissingPackageError
        There is none.
    """
    if (found := _ffmpeg()) is None:
        name = str(mpl.rcParams["animation.ffmpeg_path"])
        raise MissingPackageError(
            f"a .mp4 needs the program ffmpeg, but there is no {name!r} to run; install it (apt install ffmpeg, brew "
            "install ffmpeg, conda install ffmpeg), or write a .gif, which needs nothing more"
        )
    return found


def has_ffmpeg() -> bool:
    """Whether an mp4 can be made."""
    return _ffmpeg() is not None


def _ffmpeg() -> str | None:
    return shutil.which(str(mpl.rcParams["animation.ffmpeg_path"]))


class _Page(NamedTuple):
    """A frame as it was drawn: a png, and where its edges lie in pixels, counted to the right and upwards."""

    png: bytes
    left: int
    bottom: int
    right: int
    top: int


def _draw(frame: Any) -> _Page:
    """Draw a frame on whole pixels, with all that stands outside its figure.

    HoloViews can change a drawn frame into the next one, but its hooks then write over what they wrote before.
    """
    page = hv.Store.renderers["matplotlib"].get_plot(frame).state
    box = page.get_tightbbox().padded(_MARGIN).extents * _DPI
    left, bottom = (int(edge) for edge in np.floor(box[:2]))
    right, top = (int(edge) for edge in np.ceil(box[2:]))
    content = BytesIO()
    edges = Bbox.from_extents(left / _DPI, bottom / _DPI, right / _DPI, top / _DPI)
    page.savefig(content, format="png", dpi=_DPI, bbox_inches=edges)
    plt.close(page)
    return _Page(content.getvalue(), left, bottom, right, top)


def _placed(pages: Sequence[_Page]) -> Iterator[Image.Image]:
    """Lay every frame on a sheet that holds all of them, so that nothing jumps; of even size, as an mp4 wants it."""
    left, top = min(page.left for page in pages), max(page.top for page in pages)
    width = max(page.right for page in pages) - left
    height = top - min(page.bottom for page in pages)
    for page in pages:
        sheet = Image.new("RGB", (width + width % 2, height + height % 2), "white")
        with Image.open(BytesIO(page.png)) as drawn:
            sheet.paste(drawn.convert("RGB"), (page.left - left, top - page.top))
        yield sheet


def _gif(pages: Sequence[_Page], rate: float) -> bytes:
    palette = _palette([pages[i] for i in np.unique(np.linspace(0, len(pages) - 1, _SAMPLED).round().astype(int))])
    frames = [sheet.quantize(palette=palette, dither=Image.Dither.NONE) for sheet in _placed(pages)]
    content = BytesIO()
    each = 10 * max(round(100 / rate), 1)  # milliseconds
    frames[0].save(
        content,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[*[each] * (len(frames) - 1), max(each, round(1000 * _HOLD))],
        loop=0,
        optimize=False,
    )
    return content.getvalue()


def _palette(pages: Sequence[_Page]) -> Image.Image:
    sheets = list(_placed(pages))
    width, height = sheets[0].size
    joined = Image.new("RGB", (width, height * len(sheets)))
    for i, sheet in enumerate(sheets):
        joined.paste(sheet, (0, i * height))
    return joined.quantize(_COLOURS, method=Image.Quantize.MAXCOVERAGE)


def _mp4(pages: Sequence[_Page], rate: float) -> bytes:
    width, height = next(_placed(pages)).size
    with TemporaryDirectory() as folder:
        target = Path(folder) / "film.mp4"  # ffmpeg goes back in it at the end, so a pipe will not do
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{rate:g}", "-i", "-"]
        shape = ["-c:v", "h264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-bitexact"]
        command = [find_ffmpeg(), "-loglevel", "error", "-y", *source, "-an", *shape, str(target)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdin is not None
            try:
                for sheet in _placed(pages):
                    process.stdin.write(shown := sheet.tobytes())
                for _ in range(round(_HOLD * rate) - 1):
                    process.stdin.write(shown)
            except BrokenPipeError:
                pass  # it ended early, and says why
            said = process.communicate()[1].decode(errors="replace").strip()
        if process.returncode:
            raise OSError(
                errno.EIO, f"ffmpeg failed with exit code {process.returncode}: {said or 'it does not say why'}"
            )
        return target.read_bytes()
