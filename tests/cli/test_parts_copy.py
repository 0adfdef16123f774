"""``capture --part``, ``merge`` and ``copy``, and what the other commands do of a run in parts."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import ipstore as library
from tests.cli.conftest import TINY, ipstore, ipstore_json
from tests.store.test_parts import add_result

TASK = "rule:information=0.99"


@pytest.fixture(scope="module")
def captured_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("parts") / "runs.zarr"
    for part, seeds in {"b": "0-1", "a": "2,"}.items():
        ipstore("capture", TASK, store, *TINY, "--run", "big", "--part", part, "--seeds", seeds)
    return store


@pytest.fixture
def parts(captured_parts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(captured_parts, tmp_path / "runs.zarr"))


def names(document: Any) -> list[str]:
    return [run["run"] for run in document["runs"]]


def test_parts_are_listed_as_they_are_stored(captured_parts: Path) -> None:
    document = ipstore_json("runs", captured_parts)
    assert [(run["run"], run["part_of"], run["seeds"]) for run in document["runs"]] == [
        ("big+a", "big", [2]),
        ("big+b", "big", [0, 1]),
    ]
    assert ipstore_json("info", captured_parts, "--run", "big") == document
    assert ipstore("info", captured_parts / "big").stdout == ipstore("runs", captured_parts).stdout
    assert ipstore_json("info", captured_parts / "big+a")["run"] == "big+a"


def test_verify_checks_every_part(parts: Path) -> None:
    assert names(ipstore_json("verify", parts)) == names(ipstore_json("verify", parts / "big")) == ["big+a", "big+b"]
    (parts / "big+b/seed/c.0").unlink()
    document = ipstore_json("verify", parts / "big", code=1)
    assert [run["whole"] for run in document["runs"]] == [True, False]


def test_a_part_is_continued_by_its_name(parts: Path) -> None:
    told = ipstore("capture", TASK, parts, "--run", "big", "--part", "a", "--resume").stdout
    assert "run 'big+a' is complete already" in told
    document = ipstore_json(
        "capture", TASK, parts, "--run", "big", "--part", "a", "--resume", "--epochs", "4", "--processes", "0"
    )
    assert (document["run"], document["epochs"], document["seeds"]) == ("big+a", 4, [2])
    assert "'big+b' has 3 captured" in ipstore("merge", parts, "big", code=2).stderr


def test_an_analysis_is_of_all_parts(parts: Path) -> None:
    (analysis,) = ipstore_json("analyze", parts)["analyses"]
    assert (analysis["run"], analysis["seeds"], analysis["epochs"]) == ("big", 3, 3)
    assert [ipstore_json("info", parts / part)["results"].keys() for part in ("big+a", "big+b")] == [
        {analysis["result"]: None}.keys()
    ] * 2
    (bound,) = ipstore_json("bound", parts, "--run", "big", "--every", "2")["bounds"]
    assert (bound["run"], bound["seeds"], bound["epochs"]) == ("big", 3, 2)
    made_before = library.open(parts, run="big+a")["results"][analysis["result"]].attrs["created_at"]
    ipstore("merge", parts, "big")
    (again,) = ipstore_json("analyze", parts / "big")["analyses"]
    assert again == analysis
    merged = library.open(parts, run="big")["results"][analysis["result"]]
    assert merged.attrs["commit"]["epochs"] == 3
    assert merged.attrs["created_at"] >= made_before
    assert ipstore_json("info", parts / "big")["results"].keys() == {analysis["result"], bound["result"]}


@pytest.mark.long
def test_a_figure_is_of_all_parts(parts: Path, tmp_path: Path) -> None:
    document = ipstore_json("plot", parts, "plane", "-o", tmp_path / "plane.svg", "--bound")
    assert (document["run"], (tmp_path / "plane.svg").exists()) == ("big", True)


def test_merge(parts: Path) -> None:
    document = ipstore_json("merge", parts, "big")
    assert (document["parts"], document["seeds"], document["captured_epochs"]) == (["big+a", "big+b"], [0, 1, 2], 3)
    assert names(ipstore_json("runs", parts)) == ["big", "big+a", "big+b"]
    told = ipstore("merge", parts, "big", "--remove-parts").stdout
    assert "big holds 3 seeds and 3 epochs of big+a, big+b" in told
    assert "the parts were removed" in told
    assert names(ipstore_json("runs", parts)) == ["big"]
    assert "there is no run in parts 'big'" in ipstore("merge", parts, "big", code=2).stderr


def test_copy(parts: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    document = ipstore_json("copy", parts / "big+a", target)
    assert (names(document), document["runs"][0]["sent"]) == (["big+a"], document["runs"][0]["objects"])
    document = ipstore_json("copy", parts, target)
    assert [run["sent"] > 0 for run in document["runs"]] == [False, True]
    assert ipstore("verify", target).stdout == "big+a: whole\nbig+b: whole\n"
    told = ipstore("copy", parts, target, "--run", "big").stdout.split()
    assert told[:2] == ["run", "epochs"]
    assert "0 bytes" in ipstore("copy", parts, target).stdout


def test_copy_names_results_that_stay(parts: Path, tmp_path: Path) -> None:
    ipstore("copy", parts / "big+a", tmp_path / "target")
    add_result(parts / "big+a", epochs=1)
    add_result(tmp_path / "target/big+a", epochs=2)
    told = ipstore("copy", parts / "big+a", tmp_path / "target").stdout
    assert "big+a: " in told
    assert "has results of its own named plane" in told


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("nothing", "target"), 1, "there is no store"),
        (("runs.zarr/bog", "target"), 2, "there is no run 'bog'"),
        (("runs.zarr", "runs.zarr"), 2, "one store"),
        (("runs.zarr", "runs.zarr/big+a"), 2, "is a run; give its store"),
        (("runs.zarr", "ftp://there/runs.zarr"), 2, "but got ftp://"),
    ],
)
def test_wrong_words(
    parts: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str], code: int, what: str
) -> None:
    monkeypatch.chdir(parts.parent)
    assert what in ipstore("copy", *words, code=code).stderr
