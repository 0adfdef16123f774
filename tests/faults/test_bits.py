"""One flipped bit, in every kind of byte that a run consists of: `verify` finds it wherever it can change a value."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ipstore
from ipstore.integrity import Damage
from ipstore.levels import Level
from tests.store.synthetic import make_plan, write_run

EPOCHS = 11
"""Two whole shards of 4 epochs, and one with 3: of its chunk the last epoch is filled up."""


def make_run(folder: Path, level: Level) -> Path:
    return write_run(folder, make_plan(level, seeds=2), EPOCHS)


def found_after_flip(run: Path, file: Path, byte: int, bit: int) -> list[Damage]:
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[byte] ^= 1 << bit
    file.write_bytes(flipped)
    try:
        return ipstore.verify(run)
    finally:
        file.write_bytes(whole)


def edges(*parts: tuple[int, int]) -> list[int]:
    """First byte, middle and last of each part that is not empty."""
    return sorted({byte for start, stop in parts if stop > start for byte in (start, (start + stop) // 2, stop - 1)})


def parts_of_shard(content: bytes, chunks: int) -> tuple[list[tuple[int, int]], tuple[int, int], tuple[int, int]]:
    """Where the chunks of a shard lie, what is unused, and its index."""
    index = len(content) - 16 * chunks - 4
    entries = [struct.unpack_from("<QQ", content, index + 16 * place) for place in range(chunks)]
    there = [(offset, offset + length) for offset, length in entries if offset != 2**64 - 1]
    return there, (max(stop for _, stop in there), index), (index, len(content))


@pytest.mark.parametrize("level", ["full", pytest.param("half", marks=pytest.mark.long), "codes"])
@pytest.mark.parametrize(("shard", "epochs"), [(0, (0, 1, 2, 3)), (2, (8, 9, 10))])
def test_a_shard(tmp_path: Path, level: Level, shard: int, epochs: tuple[int, ...]) -> None:
    """Only what lies unused between the last chunk and the index is no matter."""
    run = make_run(tmp_path, level)
    file = run / f"activations/layer1/c.{shard}.1.0.0"
    chunks, unused, index = parts_of_shard(file.read_bytes(), 1)
    assert unused[1] > unused[0]
    sums = [(stop - 4, stop) for _, stop in chunks]
    for byte in edges(*chunks, *sums, unused, index, (index[1] - 4, index[1])):
        found = found_after_flip(run, file, byte, byte % 8)
        if unused[0] <= byte < unused[1]:
            assert found == [], byte
        else:
            (damage,) = found
            assert (damage.run, damage.layer, damage.epochs, damage.seeds) == ("run", "layer1", epochs, (10,)), byte


def test_chunks_of_a_shard_are_told_apart(tmp_path: Path) -> None:
    plan = make_plan(seeds=2, shard=8)
    run = write_run(tmp_path, plan, EPOCHS)
    file = run / "activations/layer1/c.0.1.0.0"
    chunks, _, _ = parts_of_shard(file.read_bytes(), 2)
    for (start, _), epochs in zip(chunks, [(0, 1, 2, 3), (4, 5, 6, 7)], strict=True):
        (damage,) = found_after_flip(run, file, start + 5, 2)
        assert (damage.layer, damage.epochs, damage.seeds) == ("layer1", epochs, (10,))


@pytest.mark.parametrize(
    ("path", "epochs", "seeds"),
    [
        ("weights/layer1/c.1.0.0", (4, 5, 6, 7), (0, 10)),  # stored as they are
        ("digest/crc32c/c.0.0.0", (0, 1, 2, 3), (0, 10)),  # compressed
        ("epoch/c.0", tuple(range(EPOCHS)), ()),
        ("seed/c.0", (), (0, 1)),  # no seed can be named by its label any more, but by its place
        ("training/layer/c.0", (), ()),  # texts
    ],
)
def test_a_small_array(tmp_path: Path, path: str, epochs: tuple[int, ...], seeds: tuple[int, ...]) -> None:
    run = make_run(tmp_path, "full")
    file = run / path
    size = file.stat().st_size
    for byte in edges((0, 16), (16, size - 4), (size - 4, size)):
        (damage,) = found_after_flip(run, file, byte, byte % 8)
        assert damage.array == path.rpartition("/")[0]
        assert (damage.run, damage.epochs, damage.seeds) == ("run", epochs, seeds), byte


def test_the_resume_state(tmp_path: Path) -> None:
    run = make_run(tmp_path, "full")
    (file,) = (run / "state").iterdir()
    size = file.stat().st_size
    for byte in edges((0, 8), (8, size // 2), (size // 2, size)):
        (damage,) = found_after_flip(run, file, byte, byte % 8)
        assert damage.array == f"state/{file.name}"


@pytest.mark.parametrize("path", ["activations/layer1", "training/layer"])
def test_the_metadata_of_an_array(tmp_path: Path, path: str) -> None:
    """A length along epoch may lag behind; nothing else may be other than in the run's document."""
    run = make_run(tmp_path, "full")
    file = run / path / "zarr.json"
    content = file.read_bytes()
    there = content.find(b"shape") + 8
    rng = np.random.default_rng(5)
    for byte in {*range(there, there + 12), *rng.integers(0, len(content), 6).tolist()}:
        flipped = bytearray(content)
        flipped[byte % len(content)] ^= 1 << byte % 8
        found = found_after_flip(run, file, byte % len(content), byte % 8)
        assert [damage.array for damage in found] == ([f"{path}/zarr.json"] * _differs(content, bytes(flipped))), byte


def _differs(content: bytes, flipped: bytes) -> bool:
    """Whether flipped metadata say something else, other than a shorter length along epoch."""
    try:
        before, after = json.loads(content), json.loads(flipped)
        if before.get("dimension_names", [""])[0] == "epoch" and type(after["shape"][0]) is int:
            after["shape"][0] = max(after["shape"][0], EPOCHS)
    except (ValueError, LookupError, TypeError):
        return True
    return bool(before != after)


@pytest.mark.long
@pytest.mark.parametrize("level", ["full", "half", "codes", "weights"])
def test_any_bit_of_any_file(tmp_path: Path, level: Level) -> None:
    run = make_run(tmp_path, level)
    rng = np.random.default_rng(7)
    for file in sorted(path for path in run.rglob("*") if path.is_file() and path != run / "zarr.json"):
        content = file.read_bytes()
        for byte in rng.choice(len(content), min(6, len(content)), replace=False):
            bit = int(rng.integers(8))
            flipped = bytearray(content)
            flipped[byte] ^= 1 << bit
            found = found_after_flip(run, file, int(byte), bit)
            assert bool(found) == _matters(file, content, bytes(flipped), int(byte)), (file, byte, bit)


def _matters(file: Path, content: bytes, flipped: bytes, byte: int) -> bool:
    if file.name == "zarr.json":
        return _differs(content, flipped)
    if "activations" in file.parts:
        _, (start, stop), _ = parts_of_shard(content, 1)
        return not start <= byte < stop
    return file.name != ".lease"


# Whole files ------------------------------------------------------------------


def swapped(run: Path, one: str, other: str) -> Iterator[Damage]:
    a, b = (run / one).read_bytes(), (run / other).read_bytes()
    (run / one).write_bytes(b)
    (run / other).write_bytes(a)
    yield from ipstore.verify(run)


def test_chunks_of_two_epochs_that_were_swapped(tmp_path: Path) -> None:
    run = make_run(tmp_path, "full")
    found = list(swapped(run, "activations/layer1/c.0.1.0.0", "activations/layer1/c.1.1.0.0"))
    assert [(damage.layer, damage.epochs, damage.seeds) for damage in found] == [("layer1", tuple(range(8)), (10,))]
    assert found[0].reason == "the activations differ from their digest"


def test_chunks_of_two_seeds_that_were_swapped(tmp_path: Path) -> None:
    run = make_run(tmp_path, "codes")
    found = list(swapped(run, "activations/layer1/c.0.0.0.0", "activations/layer1/c.0.1.0.0"))
    assert {damage.seeds for damage in found} == {(0,), (10,)}


def test_digests_that_were_swapped_belie_whole_activations(tmp_path: Path) -> None:
    run = make_run(tmp_path, "full")
    found = list(swapped(run, "digest/crc32c/c.0.0.0", "digest/crc32c/c.1.0.0"))
    assert {damage.layer for damage in found} == {"layer1", "output"}


def test_labels_that_were_swapped(tmp_path: Path) -> None:
    run = make_run(tmp_path, "full")
    found = list(swapped(run, "training/layer/c.0", "training/split/c.0"))
    assert [damage.array for damage in found] == ["training/layer", "training/split"]


@pytest.mark.parametrize("keep", [None, 0, 3, -1, -5])
@pytest.mark.parametrize("path", ["activations/layer1/c.1.1.0.0", "training/loss/c.1.0.0", "digest/layer/c.0"])
def test_a_file_that_is_missing_or_cut_short(tmp_path: Path, path: str, keep: int | None) -> None:
    run = make_run(tmp_path, "full")
    if keep is None:
        (run / path).unlink()
    else:
        (run / path).write_bytes((run / path).read_bytes()[:keep])
    (damage,) = ipstore.verify(run)
    assert damage.array == path.rpartition("/")[0]
    assert damage.epochs == (() if "digest" in path else (4, 5, 6, 7))


def test_a_file_that_is_far_too_long_is_not_read(tmp_path: Path) -> None:
    run = make_run(tmp_path, "full")
    with open(run / "training/loss/c.1.0.0", "r+b") as file:
        file.truncate(1 << 40)
    (damage,) = ipstore.verify(run)
    assert (damage.array, damage.epochs) == ("training/loss", (4, 5, 6, 7))
    assert "1099511627776 bytes" in damage.reason


def test_a_document_that_claims_more_than_there_is(tmp_path: Path) -> None:
    """Millions of chunk files that are missing are one line, and soon said."""
    run = make_run(tmp_path, "full")
    document = json.loads((run / "zarr.json").read_bytes())
    document["attributes"]["commit"]["epochs"] = 2**23
    for node in document["consolidated_metadata"]["metadata"].values():
        if node.get("dimension_names", [""])[:1] == ["epoch"]:
            node["shape"][0] = 2**23
    (run / "zarr.json").write_text(json.dumps(document))
    reasons = {damage.array: damage.reason for damage in ipstore.verify(run) if damage.array.startswith("activations")}
    assert reasons["activations/layer1"] == "of 4194304 chunk files 6 are there"
