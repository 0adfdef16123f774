"""Shards are what any Zarr implementation reads, whole or partial, compressed or not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BytesCodec, ShardingCodec

from ipstore.local import LocalPlace
from ipstore.pipeline import codecs, compressor
from ipstore.shards import Geometry, ShardWriter


@given(
    dtype=st.sampled_from(["float32", "float16", "uint8"]),
    chunk=st.sampled_from([1, 2, 4]),
    chunks=st.integers(1, 4),
    stored=st.integers(1, 16),
    samples=st.integers(1, 40),
    units=st.integers(1, 5),
)
def test_zarr_python_reads_what_was_put_in(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, chunk: int, chunks: int, stored: int, samples: int, units: int
) -> None:
    epochs = chunk * chunks
    stored = min(stored, epochs)
    rng = np.random.default_rng(samples)
    values = (rng.standard_normal((stored, 3, samples, units)) * 20).astype(dtype)
    folder = tmp_path_factory.mktemp("shard")
    fill: Any = 255 if dtype == "uint8" else float("nan")
    array = zarr.create_array(
        folder,
        shape=(epochs, samples, units),
        chunks=(chunk, samples, units),
        shards=(epochs, samples, units),
        dtype=dtype,
        compressors=codecs(np.dtype(dtype)),
        fill_value=fill,
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    assert isinstance(array.metadata.codecs[0], ShardingCodec | BytesCodec)  # type: ignore[union-attr]
    writer = ShardWriter(LocalPlace(folder))
    writer.write("c.0.0.0", values[:, 1], Geometry(epochs, chunk, fill, compressor(np.dtype(dtype))), over=False)
    writer.flush()
    writer.close()
    np.testing.assert_array_equal(array[:stored], values[:, 1])
    np.testing.assert_array_equal(array[stored:], np.full((epochs - stored, samples, units), fill, dtype))


def test_a_shard_that_shrinks_leaves_nothing_of_the_larger(tmp_path: Path) -> None:
    writer = ShardWriter(LocalPlace(tmp_path))
    large, small = np.zeros((4, 1000, 10), np.float32), np.ones((4, 10, 10), np.float32)
    path, geometry = tmp_path / "c.0.0.0", Geometry(4, 4, 0.0, None)
    writer.write(path.name, large, geometry, over=False)
    writer.flush()
    before = path.stat().st_size
    assert (writer.files, writer.stored_bytes) == (1, before)
    writer.write(path.name, small, geometry, over=True)
    writer.flush()
    writer.close()
    assert path.stat().st_size < before
    assert (writer.files, writer.stored_bytes) == (1, path.stat().st_size)
    array = zarr.create_array(
        tmp_path,
        shape=small.shape,
        chunks=small.shape,
        shards=small.shape,
        dtype="float32",
        compressors=codecs(small.dtype),
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    np.testing.assert_array_equal(array[...], small)


def test_an_error_of_the_disk_reaches_the_caller(tmp_path: Path) -> None:
    writer = ShardWriter(LocalPlace(tmp_path))
    for place in range(5):
        writer.write(f"nowhere/c.{place}", np.zeros((4, 5), np.float32), Geometry(4, 4, 0.0, None), over=False)
    with pytest.raises(FileNotFoundError):
        writer.flush()
    writer.close()
