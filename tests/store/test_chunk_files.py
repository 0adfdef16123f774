"""Chunk files are read as zarr-python reads them, and never give what is not in them."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import LocalStore, StorePath

from ipstore.errors import CorruptionError
from ipstore.group import open_array
from ipstore.pipeline import codecs

EPOCHS, SEEDS, SAMPLES, UNITS = 13, 3, 7, 2
CHUNK, SHARD = 2, 6


def make(folder: Path, dtype: str = "float32", sharded: bool = True) -> "zarr.Array[Any]":
    """Write an array by zarr-python alone."""
    shape = (EPOCHS, SEEDS, SAMPLES, UNITS)
    array = zarr.create_array(
        folder,
        shape=shape,
        chunks=(CHUNK, 1, SAMPLES, UNITS),
        shards=(SHARD, 1, SAMPLES, UNITS) if sharded else None,
        dtype=dtype,
        compressors=codecs(np.dtype(dtype)),
        fill_value=0,
        chunk_key_encoding={"name": "default", "separator": "."},
        config={"write_empty_chunks": True},
    )
    array[...] = np.random.default_rng(0).integers(1, 200, shape).astype(dtype)
    return array


def reopened(array: "zarr.Array[Any]", folder: Path) -> "zarr.Array[Any]":
    """Open it as ipstore does."""
    metadata = json.loads((folder / "zarr.json").read_text())
    return open_array(StorePath(LocalStore(folder)), metadata)


def along(length: int, lists: bool) -> st.SearchStrategy[Any]:
    """Anything that selects along an axis."""
    ends = st.integers(-length - 2, length + 2) | st.none()
    slices = st.builds(slice, ends, ends, st.integers(1, 5) | st.none())
    places = st.lists(st.integers(0, length - 1), min_size=1, max_size=6)
    basic = st.integers(-length, length - 1) | slices
    return basic | places if lists else basic


@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize(
    "dtype", ["float32", "uint8", *(pytest.param(name, marks=pytest.mark.long) for name in ("float16", "int64"))]
)
@given(data=st.data())
def test_whatever_is_selected_is_what_zarr_python_gives(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, sharded: bool, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"{dtype}-{sharded}"
    theirs = zarr.open_array(folder, mode="r") if folder.exists() else make(folder, dtype, sharded)
    ours = reopened(theirs, folder)
    orthogonal = data.draw(st.booleans())
    chosen = tuple(data.draw(along(length, orthogonal)) for length in theirs.shape)
    if orthogonal:
        np.testing.assert_array_equal(ours.oindex[chosen], theirs.oindex[chosen])
    else:
        np.testing.assert_array_equal(ours[chosen], theirs[chosen])


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_no_bit_flips_unseen_where_it_is_read(tmp_path: Path, dtype: str) -> None:
    array = make(tmp_path, dtype)
    file = tmp_path / "c.1.2.0.0"
    whole, content = np.asarray(array[SHARD : 2 * SHARD, 2]), file.read_bytes()
    ours, found = reopened(array, tmp_path), 0
    for bit in range(0, 8 * len(content), 11):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        for epoch in range(SHARD):
            try:
                np.testing.assert_array_equal(ours[SHARD + epoch, 2], whole[epoch])
            except CorruptionError:
                found += 1
    assert found >= 8 * len(content) // 11 * CHUNK  # each bit is in a chunk of two epochs, or in the index of all


def without_file(file: Path) -> None:
    file.unlink()


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def replaced_by_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def cut_in_the_index(file: Path) -> None:
    file.write_bytes(file.read_bytes()[-20:])


def sealed(file: Path, change: Callable[[NDArray[np.uint64]], None]) -> None:
    """Change the index of a shard, under a checksum that is right."""
    content = file.read_bytes()
    length = SHARD // CHUNK * 16
    index = np.frombuffer(content[-length - 4 : -4], "<u8").reshape(-1, 2).copy()
    change(index)
    checksum = int(google_crc32c.value(index.tobytes())).to_bytes(4, "little")
    file.write_bytes(content[: -length - 4] + index.tobytes() + checksum)


def with_a_chunk_that_is_absent(file: Path) -> None:
    def change(index: NDArray[np.uint64]) -> None:
        index[0] = 2**64 - 1

    sealed(file, change)


def with_a_chunk_beyond_the_end(file: Path) -> None:
    def change(index: NDArray[np.uint64]) -> None:
        index[0, 0] = 2**62

    sealed(file, change)


def with_a_chunk_of_no_bytes(file: Path) -> None:
    def change(index: NDArray[np.uint64]) -> None:
        index[0, 1] = 4

    sealed(file, change)


def with_a_chunk_that_is_longer(file: Path) -> None:
    def change(index: NDArray[np.uint64]) -> None:
        index[0, 1] += 1

    sealed(file, change)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_file, "missing or empty"),
        (emptied, "missing or empty"),
        (replaced_by_a_pipe, "missing or empty"),
        (cut_in_the_index, "its index alone has 52"),
        (with_a_chunk_that_is_absent, "never written"),
        (with_a_chunk_beyond_the_end, "cannot be in"),
        (with_a_chunk_of_no_bytes, "cannot be in"),
        (with_a_chunk_that_is_longer, "its values and checksum take|its checksum does not match"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, dtype: str, damage: Callable[[Path], None], reason: str) -> None:
    array = make(tmp_path, dtype)
    file = tmp_path / "c.0.1.0.0"
    damage(file)
    with pytest.raises(CorruptionError, match=reason) as error:
        reopened(array, tmp_path)[0, 1]
    assert str(file) in str(error.value)
    np.testing.assert_array_equal(reopened(array, tmp_path)[:, 0], array[:, 0])


def test_a_compressed_chunk_of_fewer_values_leaves_none_of_another(tmp_path: Path) -> None:
    """Its checksum is right; its header says how much it holds."""
    array = make(tmp_path, "uint8", sharded=False)
    blosc = numcodecs.Blosc(cname="lz4", clevel=9, shuffle=numcodecs.Blosc.BITSHUFFLE)
    short = blosc.encode(np.ones(CHUNK * SAMPLES * UNITS - 1, np.uint8))
    (tmp_path / "c.0.0.0.0").write_bytes(short + int(google_crc32c.value(short)).to_bytes(4, "little"))
    with pytest.raises(CorruptionError, match="holds 27 bytes of values where 28 should be"):
        reopened(array, tmp_path)[0, 0]


def test_noise_under_a_right_checksum_is_not_decoded(tmp_path: Path) -> None:
    array = make(tmp_path, "uint8", sharded=False)
    noise = bytes(4) + (28).to_bytes(4, "little") + bytes(range(40))
    (tmp_path / "c.0.0.0.0").write_bytes(noise + int(google_crc32c.value(noise)).to_bytes(4, "little"))
    with pytest.raises(CorruptionError, match="is damaged"):
        reopened(array, tmp_path)[0, 0]


def test_a_read_that_is_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = make(tmp_path)
    ours, preadv = reopened(array, tmp_path), os.preadv
    calls = 0

    def short(descriptor: int, buffers: Sequence[memoryview], begin: int) -> int:
        nonlocal calls
        calls += 1
        return preadv(descriptor, [buffers[0][: max(1, len(buffers[0]) // 3)]], begin)

    monkeypatch.setattr(os, "preadv", short)
    for chosen in (np.s_[:], np.s_[3], np.s_[::2, 1], np.s_[:, :, 2]):
        np.testing.assert_array_equal(ours[chosen], array[chosen])
    assert calls > 1000


def test_a_file_that_is_cut_while_it_is_read_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = make(tmp_path)
    file, preadv = tmp_path / "c.0.0.0.0", os.preadv

    def cut(descriptor: int, buffers: Sequence[memoryview], begin: int) -> int:
        if begin == 0:
            os.truncate(file, 60)
        return preadv(descriptor, buffers, begin)

    monkeypatch.setattr(os, "preadv", cut)
    with pytest.raises(CorruptionError, match="it ends at 60, in the middle of a chunk"):
        reopened(array, tmp_path)[0, 0]


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = make(tmp_path, "uint8")
    file, preadv = tmp_path / "c.0.0.0.0", os.preadv
    before = array[:SHARD, 0]

    def replaced(descriptor: int, buffers: Sequence[memoryview], begin: int) -> int:
        done = preadv(descriptor, buffers, begin)
        (tmp_path / "new").write_bytes((tmp_path / "c.0.1.0.0").read_bytes())
        os.replace(tmp_path / "new", file)
        return done

    monkeypatch.setattr(os, "preadv", replaced)
    np.testing.assert_array_equal(reopened(array, tmp_path)[:SHARD, 0], before)
    monkeypatch.undo()
    np.testing.assert_array_equal(reopened(array, tmp_path)[:SHARD, 0], array[:SHARD, 1])


def test_shards_that_are_cut_along_another_axis_are_left_to_zarr_python(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path,
        shape=(4, 6),
        chunks=(2, 3),
        shards=(4, 6),
        dtype="float32",
        compressors=codecs(np.dtype("float32")),
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    array[...] = np.arange(24).reshape(4, 6)
    np.testing.assert_array_equal(reopened(array, tmp_path)[...], np.arange(24).reshape(4, 6))


def test_an_array_of_another_kind_is_left_to_zarr_python(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path,
        shape=(8,),
        chunks=(4,),
        dtype="float32",
        serializer=BytesCodec(endian="big"),
        compressors=[Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    array[...] = np.arange(8)
    np.testing.assert_array_equal(reopened(array, tmp_path)[1:7:2], [1, 3, 5])
