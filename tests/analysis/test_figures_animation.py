"""Figures as films: every frame, in one place, at the rate that was asked for."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from ipstore.analysis import figures
from ipstore.analysis.figures.planes import limits, prepare
from ipstore.errors import MissingPackageError, ParameterError
from tests.analysis.test_figures import plane_of


def moving(epochs: int = 5) -> xr.Dataset:
    """Layers that go from left to right as one, and are saturated at the last epoch, whose title names them all."""
    plane = plane_of(1, epochs, layers=[f"layer{i}" for i in range(1, 17)])
    at = xr.DataArray(np.linspace(2, 12, epochs), dims="epoch")
    return plane.assign(I_XT=0 * plane["I_XT"] + at, I_TY=0 * plane["I_TY"] + 0.5)


def film_frames(path: Path) -> tuple[list[NDArray[np.uint8]], list[int]]:
    """Pixels (row, column, colour) of every frame, and for how many milliseconds it stands."""
    with Image.open(path) as film:
        shown, times = [], []
        for frame in ImageSequence.Iterator(film):
            shown.append(np.asarray(frame.convert("RGB")))
            times.append(frame.info["duration"])
    return shown, times


def axes_box(frame: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Left, right, top and bottom of the axes' frame: the longest dark lines."""
    dark = frame.max(axis=2) < 60
    across, down = dark.sum(axis=1), dark.sum(axis=0)
    rows, columns = np.flatnonzero(across > 0.9 * across.max()), np.flatnonzero(down > 0.9 * down.max())
    return int(columns[0]), int(columns[-1]), int(rows[0]), int(rows[-1])


@pytest.fixture(scope="module")
def gif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return figures.save(figures.snapshots(moving()), tmp_path_factory.mktemp("films") / "moving.GIF")


@pytest.mark.long
def test_a_gif_has_every_frame_and_holds_the_last(gif: Path) -> None:
    shown, times = film_frames(gif)
    assert times == [100, 100, 100, 100, 2000]
    assert len({frame.shape for frame in shown}) == 1
    assert all((one != other).any() for one, other in pairwise(shown))
    with Image.open(gif) as film:
        assert film.info["loop"] == 0


def test_axes_stand_in_one_place_though_titles_differ_in_length(gif: Path) -> None:
    shown, _ = film_frames(gif)
    boxes = {axes_box(frame) for frame in shown}
    assert len(boxes) == 1
    left, right, top, bottom = boxes.pop()
    assert right - left > 500
    assert bottom - top > 300
    ends = [np.flatnonzero((frame < 128).any(axis=(0, 2)))[-1] for frame in shown]  # of the title, or of the legend
    assert ends[0] == ends[1] < ends[-1] < shown[-1].shape[1] - 5


def test_a_point_stands_where_its_data_say(gif: Path) -> None:
    shown, _ = film_frames(gif)
    left, right, top, bottom = axes_box(shown[0])
    plane = moving()
    # What differs from the frame in which the point is elsewhere is the point.
    centres = []
    for i, frame in enumerate(shown):
        inside = (slice(top + 3, bottom - 2), slice(left + 3, right - 2))
        other = shown[i - 1][inside].astype(int)
        gone = (np.abs(frame[inside].astype(int) - other).max(axis=2) > 60) & (other.min(axis=2) > 240)
        rows, columns = np.nonzero(gone)
        centres.append((columns.mean() + 3, rows.mean() + 3))
    (low, high), (floor, ceiling) = limits(prepare(plane))
    expected = (plane["I_XT"].values[:, 0, 0] - low) / (high - low) * (right - left)
    np.testing.assert_allclose([x for x, _ in centres], expected, atol=2)
    height = (ceiling - 0.5) / (ceiling - floor) * (bottom - top)
    np.testing.assert_allclose([y for _, y in centres], height, atol=2)


def test_colours_of_all_layers_survive_the_palette(tmp_path: Path) -> None:
    shown, _ = film_frames(figures.save(figures.snapshots(plane_of(), epochs=[0, 20, 39]), tmp_path / "x.gif"))
    for colour in ("#440154", "#31688e", "#35b779"):  # of viridis, at equal steps as layers have them
        wanted = np.array(mpl.colors.to_rgb(colour)) * 255
        faded = 0.85 * wanted + 0.15 * 255
        nearest = np.abs(shown[-1].astype(float) - faded).max(axis=2).min()
        assert nearest < 40, colour


@pytest.mark.long
@pytest.mark.parametrize(("rate", "each"), [(4, 250), (25, 40), (50, 20), (30, 30)])
def test_the_rate_is_that_which_was_asked_for(rate: float, each: int, tmp_path: Path) -> None:
    path = figures.save(figures.snapshots(moving(2)), tmp_path / "x.gif", rate=rate)
    assert film_frames(path)[1] == [each, 2000]


@pytest.mark.long
def test_a_slow_last_frame_is_not_cut_short(tmp_path: Path) -> None:
    path = figures.save(figures.snapshots(moving(2)), tmp_path / "x.gif", rate=0.2)
    assert film_frames(path)[1] == [5000, 5000]


@pytest.mark.long
def test_a_film_of_fifty_networks_is_light(tmp_path: Path) -> None:
    layers = ["layer1", "layer2", "layer3", "layer4", "layer5", "output"]
    path = figures.save(figures.snapshots(plane_of(50, 2001, layers=layers)), tmp_path / "x.gif")
    assert len(film_frames(path)[0]) >= 35
    assert path.stat().st_size < 1.5e6


@pytest.mark.long
def test_the_same_figure_gives_the_same_film(gif: Path, tmp_path: Path) -> None:
    assert figures.save(figures.snapshots(moving()), tmp_path / "again.gif").read_bytes() == gif.read_bytes()
    assert mpl.pyplot.get_fignums() == []


# What is refused --------------------------------------------------------------


def test_one_picture_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"a \.gif is made of frames, .* this figure is one picture; write it as"):
        figures.save(figures.information_plane(plane_of(1, 2)), tmp_path / "x.gif")
    with pytest.raises(ParameterError, match=r"a \.gif is made of frames"):
        figures.check_path(tmp_path / "x.gif", frames=figures.FIGURES["plane"].frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [0, -1, 0.05, 51, float("nan"), float("inf")])
def test_a_rate_that_no_film_has_is_refused(rate: float, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"rate is a number of frames per second, 0\.1 to 50, but got"):
        figures.check_path(tmp_path / "x.gif", rate=rate)


def test_a_picture_has_no_rate(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"rate is that of a film, \.gif or \.mp4, but the path given is .*x\.png"):
        figures.save(figures.snapshots(moving(2)), tmp_path / "x.png", rate=10)


def test_only_figures_with_frames_say_that_they_have_them() -> None:
    assert [name for name, figure in figures.FIGURES.items() if figure.frames] == ["snapshots"]


# mp4 --------------------------------------------------------------------------

RECORDER = """#!{python}
import json, sys
given = sys.stdin.buffer.read({limit})
if {code}:
    sys.exit("no encoder for you")
open(sys.argv[-1], "wb").write(json.dumps(sys.argv[1:]).encode() + b"\\n" + given)
"""


def ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch, *, limit: int = -1, code: int = 0) -> None:
    """Put a program in the place of ffmpeg that keeps what it is told, or fails after some bytes."""
    program = folder / "ffmpeg"
    program.write_text(RECORDER.format(python=sys.executable, limit=limit, code=code))
    program.chmod(0o755)
    monkeypatch.setitem(mpl.rcParams, "animation.ffmpeg_path", str(program))


@pytest.mark.long
def test_ffmpeg_is_told_every_frame_and_the_last_for_two_seconds(
    gif: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ffmpeg(tmp_path, monkeypatch)
    path = figures.save(figures.snapshots(moving()), tmp_path / "x.mp4", rate=5)
    told, _, pixels = path.read_bytes().partition(b"\n")
    options: list[str] = json.loads(told)
    width, height = map(int, options[options.index("-s") + 1].split("x"))
    assert width % 2 == height % 2 == 0
    assert options[options.index("-r") + 1] == "5"
    frames = np.frombuffer(pixels, np.uint8).reshape(-1, height, width, 3)
    assert len(frames) == 4 + 2 * 5
    assert (frames[5:] == frames[4]).all()
    shown, _ = film_frames(gif)
    for frame, other in zip(frames, shown, strict=False):
        assert axes_box(frame) == axes_box(other)
        assert np.abs(frame.astype(int) - other).mean() < 1  # but for the palette


@pytest.mark.long
@pytest.mark.parametrize("limit", [-1, 1000])
def test_what_ffmpeg_says_is_told(limit: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ffmpeg(tmp_path, monkeypatch, limit=limit, code=1)
    with pytest.raises(OSError, match="ffmpeg failed with exit code 1: no encoder for you"):
        figures.save(figures.snapshots(moving(2)), tmp_path / "x.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


def test_without_ffmpeg_a_way_out_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPackageError, match=r"install it \(apt install ffmpeg.*or write a \.gif"):
        figures.check_path(tmp_path / "x.mp4")


@pytest.mark.long
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")
def test_an_mp4_is_read_back_by_ffmpeg(gif: Path, tmp_path: Path) -> None:
    path = figures.save(figures.snapshots(moving()), tmp_path / "x.mp4")
    height, width, _ = film_frames(gif)[0][0].shape
    decode: list[Any] = ["ffmpeg", "-loglevel", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(decode, capture_output=True, check=True)
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    assert len(frames) == 4 + 20
    for frame, other in zip(frames, film_frames(gif)[0], strict=False):
        assert np.abs(frame.astype(int) - other).mean() < 5
