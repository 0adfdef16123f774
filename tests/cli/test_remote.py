"""Commands on a store in an object store."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import TINY, ipstore, ipstore_json
from tests.servers import KEY, SECRET, ObjectServer


@pytest.mark.long
def test_every_command_takes_a_url(s3: str, tmp_path: Path) -> None:
    said = [ipstore("capture", "rule", s3, *TINY, "--run", "net", "--level", "codes").output]
    said.append(ipstore("capture", "rule", s3, "--run", "net", "--resume", "--epochs", "4", "--processes", "0").output)
    (listed,) = ipstore_json("runs", s3)["runs"]
    assert (listed["run"], listed["status"], listed["epochs"]) == ("net", "finished", 4)
    analyzed = ipstore_json("analyze", f"{s3}/net", "--estimator", "binned")
    described = ipstore_json("info", f"{s3}/net")
    assert list(described["results"]) == ipstore_json("runs", s3)["runs"][0]["results"]
    assert described["bytes"]["activations"] > 0
    assert ipstore_json("verify", s3)["runs"] == [{"run": "net", "whole": True, "damage": []}]
    ipstore("plot", f"{s3}/net", "plane", "-o", tmp_path / "plane.png")
    assert (tmp_path / "plane.png").stat().st_size > 1000
    for command in ("runs", "info", "verify"):
        said.append(ipstore(command, s3).output)
    said += [json.dumps(each) for each in (listed, analyzed, described)]
    for hidden in (KEY, SECRET):
        assert hidden not in "".join(said)


@pytest.mark.long
def test_what_is_wrong_is_said_in_one_line(s3: str, object_server: ObjectServer) -> None:
    failed = ipstore_json("info", s3, code=1)
    assert failed["error"] == {"kind": "not-found", "message": f"there is no store at '{s3}'"}
    refused = ipstore("runs", s3, code=1, environment={"AWS_SECRET_ACCESS_KEY": "another"})
    assert "403 Forbidden" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert ipstore("runs", s3.replace("s3://", "s3://key:secret@"), code=2).stderr.count("secret@") == 0
    web = f"{object_server.pages}/runs.zarr"
    assert "can be read, not written" in ipstore("capture", "rule", web, *TINY, code=2).stderr
