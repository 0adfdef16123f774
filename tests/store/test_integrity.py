"""`verify` finds what was damaged, and says what it was."""

import json
from pathlib import Path

import pytest

import ipstore
from ipstore.errors import NotAStoreError, StoreNotFoundError
from ipstore.levels import LEVELS
from tests.store.synthetic import make_plan, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path, make_plan(), 11)


def test_a_whole_run_has_no_damage(tmp_path: Path) -> None:
    for level in LEVELS:
        assert ipstore.verify(write_run(tmp_path, make_plan(level), 11, run=level)) == []


def test_progress_counts_the_chunk_files(run: Path) -> None:
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    ipstore.verify(run, tell)
    assert told == [(done, len(told)) for done in range(1, len(told) + 1)]
    assert len(told) == len(_chunk_files(run))


def _chunk_files(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("c.*") if path.is_file())


def test_damage_names_run_layer_epochs_and_seeds(run: Path) -> None:
    file = run / "activations/layer1/c.1.2.0.0"
    damaged = bytearray(file.read_bytes())
    damaged[100] ^= 1
    file.write_bytes(damaged)
    (damage,) = ipstore.verify(run)
    assert (damage.run, damage.layer, damage.epochs, damage.seeds) == ("run", "layer1", (4, 5, 6, 7), (20,))
    with pytest.raises((RuntimeError, ValueError), match="checksum"):
        ipstore.open(run)["activations/layer1"].load()


@pytest.mark.parametrize("keep", [0, 1, 100])
def test_a_truncated_chunk(run: Path, keep: int) -> None:
    file = run / "activations/output/c.2.0.0.0"
    file.write_bytes(file.read_bytes()[:keep])
    (damage,) = ipstore.verify(run)
    assert (damage.layer, damage.epochs, damage.seeds) == ("output", (8, 9, 10), (0,))


@pytest.mark.parametrize(
    ("file", "array", "epochs"),
    [
        ("activations/layer1/c.0.1.0.0", "activations/layer1", (0, 1, 2, 3)),
        ("weights/output/c.1.0.0", "weights/output", (4, 5, 6, 7)),
        ("training/loss/c.2.0.0", "training/loss", (8, 9, 10)),
        ("probe/y/c.0", "probe/y", ()),
        ("digest/crc32c/c.0.0.0", "digest/crc32c", (0, 1, 2, 3)),
    ],
)
def test_a_missing_chunk(run: Path, file: str, array: str, epochs: tuple[int, ...]) -> None:
    (run / file).unlink()
    found = [damage for damage in ipstore.verify(run) if damage.reason == "the chunk file is missing or empty"]
    assert [(damage.array, damage.epochs) for damage in found] == [(array, epochs)]


def test_stale_activations_under_a_valid_checksum(run: Path) -> None:
    """A whole chunk of another seed has a checksum that is right, and a digest that is not."""
    there = run / "activations/layer1/c.1.0.0.0"
    there.write_bytes((run / "activations/layer1/c.1.1.0.0").read_bytes())
    (damage,) = ipstore.verify(run)
    assert (damage.layer, damage.epochs, damage.seeds) == ("layer1", (4, 5, 6, 7), (0,))
    assert damage.reason == "the activations differ from their digest"


def test_a_damaged_resume_state(run: Path) -> None:
    name = json.loads((run / "zarr.json").read_bytes())["attributes"]["commit"]["state"]
    (run / name).write_bytes(b"nothing")
    (damage,) = ipstore.verify(run)
    assert damage.array == name


def test_a_run_that_cannot_be_read_at_all(run: Path) -> None:
    content = (run / "zarr.json").read_bytes()
    for damaged in (
        content[:-40],
        content.replace(b"crc32c", b"crc32b", 1),
        content.replace(b'"epochs": 11', b'"epochs": "x"'),
    ):
        (run / "zarr.json").write_bytes(damaged)
        (damage,) = ipstore.verify(run)
        assert (damage.run, damage.array) == ("run", "zarr.json")


def test_what_is_no_run_is_none(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises((NotAStoreError, StoreNotFoundError)):
        ipstore.verify(tmp_path)
    with pytest.raises(StoreNotFoundError):
        ipstore.verify(tmp_path / "nothing")


def test_metadata_of_an_array_that_are_lost(run: Path) -> None:
    (run / "weights/layer1/zarr.json").unlink()
    (run / "digest/zarr.json").write_text("{")
    found = [(damage.array, damage.layer) for damage in ipstore.verify(run)]
    assert found == [("digest/zarr.json", None), ("weights/layer1/zarr.json", "layer1")]
