"""``runs``, ``info`` and ``verify``: what a store holds, and what of it is damaged."""

import json
import re
from pathlib import Path

import pytest

from ipstore.reader import run_info
from tests.cli.conftest import ipstore, ipstore_json


def test_runs(captured: Path) -> None:
    found = ipstore_json("runs", captured)["runs"]
    assert found == [
        {
            "run": name,
            "status": "finished",
            "task": task,
            "level": level,
            "epochs": epochs,
            "captured_epochs": epochs + 1,
            "seeds": seeds,
            "diverged": {},
            "results": [],
            "stored_bytes": run_info(captured / name).stored_bytes,
        }
        for name, task, level, epochs, seeds in [
            ("hard", "rule", "codes", 2, [4, 7]),
            ("rule-tanh", "rule:information=0.99", "full", 5, [0, 1]),
        ]
    ]
    shown = ipstore("runs", captured).stdout
    assert re.search(r"hard +finished +rule +codes +2 +2 +[\d.]+ [kM]B\n", shown)
    assert re.search(r"rule-tanh +finished +rule:information=0.99 +full +5 +2 ", shown)
    assert ipstore("info", captured).stdout == shown


def test_a_store_without_runs(tmp_path: Path) -> None:
    from ipstore.format import make_store

    make_store(tmp_path / "runs.zarr")
    assert ipstore("runs", tmp_path / "runs.zarr").stdout == f"{tmp_path / 'runs.zarr'} holds no run yet\n"
    assert ipstore_json("runs", tmp_path / "runs.zarr")["runs"] == []


def test_runs_of_a_run(captured: Path) -> None:
    assert "is a run; give its store" in ipstore("runs", captured / "hard", code=2).stderr


def test_info_of_a_run(store: Path) -> None:
    ipstore("analyze", store / "hard", "--estimator", "binned:bins=10")
    found = ipstore_json("info", store / "hard")
    attrs = run_info(store / "hard").attrs
    for key in ("labels", "config", "model", "versions", "layers", "binning", "commit", "created_at"):
        assert found[key] == json.loads(json.dumps(attrs[key])), key
    assert (found["run"], found["epochs"], found["seeds"]) == ("hard", 2, [4, 7])
    (result,) = found["results"].values()
    assert (result["estimator"], result["parameters"]["bins"], result["source_run"]) == ("binned", 10, "hard")
    assert sum(found["bytes"].values()) < found["stored_bytes"]
    assert found["bytes"]["activations"] > 0
    assert ipstore_json("info", store, "--run", "hard") == found

    shown = ipstore("info", store / "hard").stdout
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in shown.split("\n\n")[0].splitlines())
    assert facts["run"] == f"hard in {store}"
    assert facts["task"] == "rule (hard labels)"
    assert facts["model"] == "kind mlp, widths 12-3-2, activation tanh, output softmax"
    assert "learning_rate 0.2" in facts["training"]
    assert facts["level"] == "codes (rule equal, bins 30, range -1.0..1.0)"
    assert facts["seeds"] == "2 (4, 7)"
    assert facts["created"] == f"{attrs['created_at'][:10]} {attrs['created_at'][11:16]} UTC"
    assert "activations" in facts["on disk"]
    assert re.search(r"binned-\w+ +binned +bins 10, range -1.0..1.0, rule equal, correction plugin +hard +3 ", shown)


def test_a_newer_format_is_refused(store: Path) -> None:
    for file in (store / "zarr.json", store / "hard" / "zarr.json"):
        document = json.loads(file.read_text())
        document["attributes"]["format_version"] = 99
        file.write_text(json.dumps(document))
        for command in ("info", "verify", "analyze"):
            failed = ipstore_json(command, store / "hard", code=1)
            assert failed["error"]["kind"] == "format"
            assert "install a newer ipstore" in failed["error"]["message"]


# verify -----------------------------------------------------------------------


def chunk(store: Path) -> Path:
    """The chunk file of one seed of one layer."""
    return min((store / "rule-tanh" / "activations" / "layer1").glob("**/c.0.1.*"))


def test_a_whole_store(captured: Path) -> None:
    assert ipstore("verify", captured).stdout == "hard: whole\nrule-tanh: whole\n"
    assert ipstore_json("verify", captured / "hard") == {
        "store": str(captured),
        "runs": [{"run": "hard", "whole": True, "damage": []}],
    }


def test_a_flipped_bit_is_named(store: Path) -> None:
    content = bytearray(chunk(store).read_bytes())
    content[100] ^= 1
    chunk(store).write_bytes(content)
    found = ipstore_json("verify", store, code=1)
    assert [run["whole"] for run in found["runs"]] == [True, False]
    (damage,) = found["runs"][1]["damage"]
    assert (damage["array"], damage["epochs"], damage["seeds"]) == ("activations/layer1", [0, 1, 2, 3], [1])
    shown = ipstore("verify", store, code=1).stdout
    assert shown.startswith("hard: whole\nrule-tanh: damaged\n")
    assert re.search(rf"rule-tanh +activations/layer1 +0-3 +1 +{re.escape(damage['reason'])}", shown)


@pytest.mark.parametrize("size", [40, 0, None])
def test_a_truncated_or_missing_chunk_is_named(store: Path, size: int | None) -> None:
    if size is None:
        chunk(store).unlink()
    else:
        chunk(store).write_bytes(chunk(store).read_bytes()[:size])
    (run,) = ipstore_json("verify", store / "rule-tanh", code=1)["runs"]
    (damage,) = run["damage"]
    assert (damage["array"], damage["epochs"], damage["seeds"]) == ("activations/layer1", [0, 1, 2, 3, 4, 5], [1])


def test_damage_that_differs_in_the_seed_alone_is_one_row(store: Path) -> None:
    for file in (store / "rule-tanh" / "activations" / "output").glob("**/c.0.*"):
        file.unlink()
    (run,) = ipstore_json("verify", store / "rule-tanh", code=1)["runs"]
    assert [(damage["array"], damage["seeds"]) for damage in run["damage"]] == [("activations/output", [0, 1])]
    assert re.search(r"activations/output +0-5 +0-1 ", ipstore("verify", store, code=1).stdout)


# verify --repair --------------------------------------------------------------


def test_repair(store: Path) -> None:
    whole = chunk(store).read_bytes()
    chunk(store).write_bytes(whole[:40])
    (store / "rule-tanh" / "state" / "99.safetensors").write_bytes(b"left")
    (store / "half-made").mkdir()
    (store / "half-made" / ".lease").write_bytes(b"")
    found = ipstore_json("verify", store, "--repair")
    assert found["removed"] == ["half-made"]
    hard, tanh = found["runs"]
    assert hard == {"run": "hard", "whole": True, "damage": [], "repaired": [], "removed": []}
    assert (tanh["whole"], tanh["damage"], tanh["removed"]) == (True, [], ["state/99.safetensors"])
    assert [(each["array"], each["seeds"]) for each in tanh["repaired"]] == [("activations/layer1", [1])]
    assert chunk(store).read_bytes() == whole
    assert ipstore("verify", store, "--repair").stdout == "hard: whole\nrule-tanh: whole\n"


def test_repair_shows_what_it_did_and_what_is_left(store: Path) -> None:
    chunk(store).unlink()
    loss = min((store / "rule-tanh" / "training" / "loss").glob("c.*"))
    loss.write_bytes(b"")
    shown = ipstore("verify", store / "rule-tanh", "--repair", code=1).stdout
    assert shown.startswith("rule-tanh: damaged, repaired\n")
    assert re.search(r"rule-tanh +activations/layer1 +0-5 +1 +the chunk file is missing or empty", shown)
    assert re.search(r"rule-tanh +training/loss .*missing or empty; there is nothing to make it from", shown)


def test_a_run_whose_metadata_are_damaged_does_not_keep_others_from_being_verified(store: Path) -> None:
    (store / "hard" / "zarr.json").write_text("{")
    first, second = ipstore_json("verify", store, code=1)["runs"]
    assert [damage["array"] for damage in first["damage"]] == ["zarr.json"]
    assert second["whole"]
