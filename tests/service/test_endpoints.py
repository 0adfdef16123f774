"""What programs read of the server: the store, byte for byte and nothing else, and results as JSON."""

import errno
import json
import os
import pickle
import random
import re
import shutil
import socket
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import xarray as xr

import ipstore
from ipstore.analysis import analyze
from ipstore.analysis.service import Server, answers, objects
from ipstore.analysis.stored import NonFiniteWarning
from ipstore.errors import ParameterError, UnknownNameError
from ipstore.places import locate
from ipstore.trainers import TrainConfig, capture, tasks
from ipstore.trainers.streaming import DivergedWarning
from tests.cli.conftest import ipstore_json
from tests.servers import ObjectServer
from tests.service.serving import ask, send, serving
from tests.store.synthetic import make_plan, write_run


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    with serving(store) as running:
        yield running


def result_name(store: Path) -> str:
    return ipstore.runs(store)[0].results[0]


# The store ----------------------------------------------------------------------


def test_every_object_is_what_lies_in_the_folder(server: Server, store: Path) -> None:
    sizes = locate(store).sizes()
    hidden = {key for key in sizes if "/." in key}
    assert hidden, "a lease lies in each run"
    assert len(sizes) > 30
    for key, size in sizes.items():
        whole, head = ask(server, f"/store/{key}"), ask(server, f"/store/{key}", "HEAD")
        if key in hidden:
            assert (whole.status, head.status) == (404, 404)
            continue
        assert whole.body == (store / key).read_bytes()
        assert head.body == b""
        for answer in (whole, head):
            assert answer.status == 200
            assert int(answer.headers["Content-Length"]) == size
            assert answer.headers["Accept-Ranges"] == "bytes"
            assert answer.headers["ETag"] == whole.headers["ETag"]


def test_a_store_is_opened_from_its_url(server: Server, store: Path) -> None:
    url = f"{server.url}store"
    here, there = ipstore.open(store), ipstore.open(url)
    assert there.children.keys() == {"one", "two"}
    assert there["one/activations/layer1"].chunks is not None
    xr.testing.assert_identical(there["one"].load(), here["one"].load())
    xr.testing.assert_identical(ipstore.open(f"{url}/two").load(), here["two"].load())
    assert [info.name for info in ipstore.runs(url)] == ["one", "two"]
    assert ipstore.runs(url)[0].results == ipstore.runs(store)[0].results
    assert ipstore.verify(f"{url}/one") == []
    with pytest.raises(UnknownNameError, match="Known: one, two"):
        ipstore.open(url, run="three")
    with pytest.raises(ParameterError, match="can be read, not written"):
        analyze(url, "two", estimator="binned", bins=10)
    lazily = pickle.loads(pickle.dumps(ipstore.open(f"{url}/one")["activations/layer1"].data))
    np.testing.assert_array_equal(lazily.compute(), here["one/activations/layer1"].to_numpy())


def test_a_run_is_copied_from_a_server(server: Server, store: Path, tmp_path: Path) -> None:
    copied = ipstore.copy(f"{server.url}store/one", tmp_path / "laptop.zarr")
    assert copied is not None
    xr.testing.assert_equal(ipstore.open(tmp_path / "laptop.zarr/one").load(), ipstore.open(store / "one").load())


def test_plain_xarray_reads_it(server: Server, store: Path) -> None:
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore

    url = f"{server.url}store/one"
    through_obstore: Any = ObjectStore(HTTPStore.from_url(url, client_options={"allow_http": True}), read_only=True)
    here = ipstore.open(store / "one")
    for plain in (url, through_obstore):  # a URL goes through fsspec
        with xr.open_datatree(plain, engine="zarr", chunks=None) as there:
            for name in ("activations/layer1", "training/loss", "epoch"):
                np.testing.assert_array_equal(there[name].to_numpy(), here[name].to_numpy())


RANGES = [
    ("bytes=0-9", slice(0, 10)),
    ("bytes=5-", slice(5, None)),
    ("bytes=-7", slice(-7, None)),
    ("bytes=0-0", slice(0, 1)),
    ("bytes=10-999999999", slice(10, None)),
    ("bytes=-999999999", slice(None)),
]


@pytest.mark.parametrize(("header", "part"), RANGES)
def test_a_part_of_an_object(server: Server, store: Path, header: str, part: slice) -> None:
    whole = (store / "one/zarr.json").read_bytes()
    answer = ask(server, "/store/one/zarr.json", Range=header)
    assert answer.body == whole[part]
    assert answer.status == (206 if answer.body != whole else 200)
    if answer.status == 206:
        first = range(len(whole))[part].start
        assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(answer.body) - 1}/{len(whole)}"


@pytest.mark.parametrize("header", ["bytes=999999999-", "bytes=999999999-1000000000", "bytes=-0"])
def test_a_part_that_there_is_not(server: Server, store: Path, header: str) -> None:
    answer = ask(server, "/store/one/zarr.json", Range=header)
    assert (answer.status, answer.body) == (416, b"")
    assert answer.headers["Content-Range"] == f"bytes */{(store / 'one/zarr.json').stat().st_size}"


@pytest.mark.parametrize(
    "header", ["bytes=9-5", "bytes=-", "bytes=a-b", "bytes=0-1,4-5", "lines=0-1", "bytes=0-1 ", ""]
)
def test_a_range_that_is_none_asks_for_all(server: Server, store: Path, header: str) -> None:
    answer = ask(server, "/store/one/zarr.json", Range=header)
    whole = (store / "one/zarr.json").read_bytes()
    assert answer.body in (whole, whole[:2])  # HTTP leaves off white space at the end of a header
    assert answer.status == (200 if answer.body == whole else 206)


def test_an_empty_object(tmp_path: Path) -> None:
    write_run(tmp_path / "runs.zarr", make_plan(), 4)
    (tmp_path / "runs.zarr/run/empty").touch()
    with serving(tmp_path / "runs.zarr") as running:
        assert (ask(running, "/store/run/empty").status, ask(running, "/store/run/empty").body) == (200, b"")
        assert ask(running, "/store/run/empty", Range="bytes=0-").status == 416


def test_what_is_known_is_not_sent_again(server: Server) -> None:
    path = "/store/one/zarr.json"
    told = ask(server, path).headers
    tag, modified = told["ETag"], told["Last-Modified"]
    for headers in ({"If_None_Match": tag}, {"If_None_Match": f'"x", {tag}'}, {"If_Modified_Since": modified}):
        for method in ("GET", "HEAD"):
            answer = ask(server, path, method, **headers)
            assert (answer.status, answer.body) == (304, b"")
            assert answer.headers["ETag"] == tag
    for headers in (
        {"If_None_Match": '"x"'},
        {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If_Modified_Since": "x"},
    ):
        assert ask(server, path, **headers).status == 200
    for headers, status in (({"If_Range": tag}, 206), ({"If_Range": modified}, 206), ({"If_Range": '"x"'}, 200)):
        assert ask(server, path, Range="bytes=0-3", **headers).status == status


def test_an_object_that_was_replaced_has_another_tag(tmp_path: Path) -> None:
    path = tmp_path / "runs.zarr"
    write_run(path, make_plan(), 4)
    with serving(path) as running:
        before = ask(running, "/store/run/zarr.json")
        write_run(path, make_plan(), 8, run="run-2")
        shutil.copy(path / "run-2/zarr.json", path / "run/new")
        os.replace(path / "run/new", path / "run/zarr.json")
        after = ask(running, "/store/run/zarr.json", If_None_Match=before.headers["ETag"])
        assert after.status == 200
        assert after.body != before.body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "MKCOL", "MOVE", "COPY", "PROPPATCH", "LOCK"])
def test_nothing_can_be_written(server: Server, store: Path, method: str) -> None:
    before = {key: (store / key).stat().st_mtime_ns for key in locate(store).sizes()}
    for path in ("/store/one/zarr.json", "/store/new", "/store", "/api/runs", "/api/runs/one"):
        answer = ask(server, path, method)
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]
        assert method not in answer.headers["Allow"]
    assert before == {key: (store / key).stat().st_mtime_ns for key in locate(store).sizes()}


def test_what_can_be_asked(server: Server) -> None:
    assert ask(server, "/store/zarr.json", "OPTIONS").headers["Allow"] == "GET, HEAD, OPTIONS, PROPFIND"
    assert ask(server, "/api/runs", "OPTIONS").headers["Allow"] == "GET, HEAD, OPTIONS"


# Lists ---------------------------------------------------------------------------


def listed(server: Server, path: str, **headers: str) -> dict[str, int | None]:
    """Read a list as any client of WebDAV does: address to size, None for a folder."""
    answer = ask(server, path, "PROPFIND", **headers)
    assert answer.status == 207, answer
    found: dict[str, int | None] = {}
    for each in ET.fromstring(answer.body).iterfind("{DAV:}response"):
        assert each.findtext("{DAV:}propstat/{DAV:}status") == "HTTP/1.1 200 OK"
        size = each.findtext("{DAV:}propstat/{DAV:}prop/{DAV:}getcontentlength")
        is_folder = each.find("{DAV:}propstat/{DAV:}prop/{DAV:}resourcetype/{DAV:}collection") is not None
        assert is_folder == (size is None)
        found[str(each.findtext("{DAV:}href"))] = None if size is None else int(size)
    return found


def test_a_folder_is_listed(server: Server, store: Path) -> None:
    sizes = {f"/store/{key}": size for key, size in locate(store).sizes().items() if "/." not in key}
    for root in ("/store", "/store/"):
        assert listed(server, root) == {"/store/": None, **sizes}
        one = {"/store/": None, "/store/one": None, "/store/two": None, "/store/zarr.json": sizes["/store/zarr.json"]}
        assert listed(server, root, Depth="1") == one
    for run in ("/store/one", "/store/one/"):
        below = {path: size for path, size in sizes.items() if path.startswith("/store/one/")}
        assert listed(server, run) == {"/store/one": None, **below}
        right_below = {path for path in listed(server, run, Depth="1") if path.count("/") > 2}
        assert right_below == {"/".join(path.split("/")[:4]) for path in below}


@pytest.mark.parametrize("path", ["/store/nothing", "/store/zarr.json", "/store/..", "/store/one/.lease", "/store//"])
def test_no_folder_no_list(server: Server, path: str) -> None:
    for depth in ("1", "infinity"):
        assert ask(server, path, "PROPFIND", Depth=depth).status == 404
    assert ask(server, "/store", "PROPFIND", Depth="0").status == 400


# Never outside -------------------------------------------------------------------

OUTSIDE = [
    "../outside.txt",
    "one/../../outside.txt",
    "one/../zarr.json",
    "./zarr.json",
    "one//zarr.json",
    "/zarr.json",
    "%2e%2e/outside.txt",
    "%2e%2e%2foutside.txt",
    "..%2foutside.txt",
    "..%5coutside.txt",
    "..\\outside.txt",
    "one\\zarr.json",
    "%252e%252e/outside.txt",
    "..%c0%afoutside.txt",
    "%c0%ae%c0%ae/outside.txt",
    "%uff0e%uff0e/outside.txt",
    "..;/outside.txt",
    "zarr.json%00",
    "zarr.json%00.txt",
    "zarr.json%0a",
    "zarr.json/",
    "zarr.json/.",
    "zarr.json/x",
    "one",
    "one/",
    "one/.lease",
    "one/%2elease",
    ".hidden",
    "one/.zarr.json.1.tmp",
    "{root}/zarr.json",
    "%2f{root}/zarr.json",
    "file://{root}/zarr.json",
    "link.txt",
    "folder/outside.txt",
    "folder/runs.zarr/zarr.json",
    "within.json",
    "fifo",
    "a" * 300,
    "a/" * 200 + "b",
    "%ff%fe",
    "%",
    "%zz",
    "con%3a",
    "~root",
    "zarr.json::$DATA",
    "ZARR.JSON",
]


@pytest.fixture(scope="module")
def beset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A store around and in which there are things to be found."""
    around = tmp_path_factory.mktemp("around")
    path = around / "runs.zarr"
    write_run(path, make_plan(), 4, run="one")
    (around / "outside.txt").write_text("SECRET")
    (path / ".hidden").write_text("SECRET")
    (path / "one/.zarr.json.1.tmp").write_text("SECRET")
    (path / "link.txt").symlink_to(around / "outside.txt")
    (path / "within.json").symlink_to(path / "zarr.json")
    (path / "folder").symlink_to(around)
    os.mkfifo(path / "fifo")
    with serving(path) as running:
        yield running, path


@pytest.mark.parametrize("key", OUTSIDE)
def test_nothing_but_the_store_is_read(beset: tuple[Server, Path], key: str) -> None:
    running, path = beset
    for prefix in ("/store/", "/store/one/../", "/store//"):
        for method in ("GET", "HEAD", "PROPFIND"):
            if method == "PROPFIND" and (prefix, key) in (("/store/", "one"), ("/store/", "one/")):
                continue
            url = f"{prefix}{key.format(root=path)}"
            answered = send(
                running,
                f"{method} {url} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nConnection: close\r\n\r\n".encode(),
            )
            assert answered.startswith(b"HTTP/1.1 404 Not Found\r\n"), (url, answered)
            assert b"SECRET" not in answered
            assert str(path).encode() not in answered


@pytest.mark.long
def test_paths_drawn_at_random_lead_nowhere(beset: tuple[Server, Path]) -> None:
    running, path = beset
    rng = random.Random(8)
    words = ["..", ".", "", "one", "zarr.json", "outside.txt", "folder", "%2e%2e", "%2f", "\\", "%5c", "%00", "~", "//"]
    words += ["%252e", "....", "..;", "link.txt", ".lease", "runs.zarr", "store", "*", "?", "#", "%c0%ae", str(path)]
    known = {f"/store/{key}" for key in locate(path).sizes()}
    tried = 0
    while tried < 3000:
        url = "/store/" + "/".join(rng.choices(words, k=rng.randint(1, 6)))
        if url.partition("?")[0].partition("#")[0] in known:
            continue
        tried += 1
        answered = send(
            running, f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nConnection: close\r\n\r\n".encode()
        )
        assert b"SECRET" not in answered, url
        assert answered.split()[1] in (b"404", b"400"), (url, answered)


def test_lists_do_not_follow_links(beset: tuple[Server, Path]) -> None:
    running, _ = beset
    for depth in ("1", "infinity"):
        found = " ".join(listed(running, "/store", Depth=depth))
        for hidden in ("link", "folder", "within", "fifo", "outside", "lease", "hidden", "tmp"):
            assert hidden not in found


def test_a_store_that_vanishes_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "runs.zarr"
    write_run(path, make_plan(), 4)
    with serving(path) as running:
        path.rename(tmp_path / "away")
        assert ask(running, "/store/zarr.json").status == 404
        assert ask(running, "/store", "PROPFIND").status == 404
        for way in ("/api/runs", "/api/runs/run"):
            answer = ask(running, way)
            assert answer.status == 404
            assert json.loads(answer.body)["error"]["kind"] == "not-found"
            assert str(tmp_path) not in answer.text
        (tmp_path / "away").rename(path)
        assert ask(running, "/store/zarr.json").status == 200
        assert ask(running, "/api/runs/run").status == 200


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "runs.zarr"
    write_run(path, make_plan(), 4)

    def fail(self: object, key: str) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path / key))

    with serving(path) as running:
        with monkeypatch.context() as broken:
            broken.setattr(objects._Files, "_open", fail)
            for method in ("GET", "HEAD"):
                answer = ask(running, "/store/run/zarr.json", method)
                assert answer.status == 503
                assert str(tmp_path) not in answer.text
        assert "Input/output error" in caplog.text
        assert ask(running, "/store/run/zarr.json").status == 200


# How it is sent ------------------------------------------------------------------

BIG = 300_000_000


@pytest.fixture
def big(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs.zarr", make_plan(), 4)
    with (tmp_path / "runs.zarr/run/big").open("wb") as file:
        file.truncate(BIG)
    return tmp_path / "runs.zarr"


@pytest.mark.long
def test_a_large_object_is_sent_in_pieces(big: Path) -> None:
    """Clients that read slowly cost no memory, and hold up nobody."""
    with serving(big) as running:
        ask(running, "/store/run/zarr.json")
        before = psutil.Process().memory_info().rss
        lines = [socket.create_connection(("127.0.0.1", running.port), timeout=30) for _ in range(8)]
        try:
            for line in lines:
                line.sendall(f"GET /store/run/big HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n\r\n".encode())
                line.recv(100)
            for _ in range(50):
                assert ask(running, "/api/runs").status == 200
            assert psutil.Process().memory_info().rss - before < BIG / 3
        finally:
            for line in lines:
                line.close()
        assert len(ask(running, "/store/run/big").body) == BIG
        assert ask(running, "/store/run/zarr.json").status == 200


def test_an_object_that_breaks_off_is_not_taken_for_whole(big: Path) -> None:
    """The head promised more than was then there: the connection ends before that much is sent."""
    with serving(big) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as line:
            line.sendall(f"GET /store/run/big HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n\r\n".encode())
            received = len(line.recv(1000))
            os.truncate(big / "run/big", 50_000_000)
            while piece := line.recv(2**20):
                received += len(piece)
        assert received < BIG
        assert ask(running, "/store/run/zarr.json").status == 200


# JSON ------------------------------------------------------------------------------


def answered(server: Server, path: str) -> Any:
    answer = ask(server, path)
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == "application/json"
    assert ask(server, path, "HEAD").headers["Content-Length"] == str(len(answer.body))
    assert ask(server, path, If_None_Match=answer.headers["ETag"]).status == 304
    return json.loads(answer.body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_runs_are_what_the_command_line_says(server: Server, store: Path) -> None:
    told = ipstore_json("runs", store)
    assert answered(server, "/api/runs") == {**told, "store": "secret-runs.zarr"}
    for run in ("one", "two"):
        told = ipstore_json("info", store / run)
        assert answered(server, f"/api/runs/{run}") == {**told, "store": "secret-runs.zarr"}


def test_a_result_makes_a_dataset_again(server: Server, store: Path) -> None:
    name = result_name(store)
    document = answered(server, f"/api/runs/one/results/{name}")
    assert (document["run"], document["result"]) == ("one", name)
    stored = ipstore.open(store / "one")[f"results/{name}"].to_dataset().load()
    again = xr.Dataset.from_dict(document)
    assert again.attrs == json.loads(json.dumps(stored.attrs))
    xr.testing.assert_equal(again.assign_coords(layer=stored["layer"]), stored)


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("epoch=3", {"epoch": [3]}),
        ("epoch=3.0", {"epoch": [3]}),
        ("epoch=0,5&seed=1", {"epoch": [0, 5], "seed": [1]}),
        ("epoch=1..3&layer=output", {"epoch": [1, 2, 3], "layer": ["output"]}),
        ("epoch=4&epoch=0..1", {"epoch": [4, 0, 1]}),
        ("layer=output,layer1", {"layer": ["output", "layer1"]}),
    ],
)
def test_a_part_of_a_result(server: Server, store: Path, query: str, chosen: dict[str, Any]) -> None:
    name = result_name(store)
    found = xr.Dataset.from_dict(answered(server, f"/api/runs/one/results/{name}?{query}"))
    wanted = ipstore.open(store / "one")[f"results/{name}"].to_dataset().sel(chosen).load()
    xr.testing.assert_equal(found.assign_coords(layer=wanted["layer"]), wanted)


@pytest.mark.parametrize(
    ("path", "status", "kind", "message"),
    [
        ("/api", 404, "not-found", "see /api/runs"),
        ("/api/runs/", 404, "not-found", "see /api/runs"),
        ("/api/elsewhere", 404, "not-found", "see /api/runs"),
        ("/api/runs/three", 404, "unknown-name", "there is no run 'three'.* Known: one, two"),
        ("/api/runs/..%2fetc", 404, "unknown-name", "Known: one, two"),
        ("/api/runs/%00", 404, "unknown-name", "Known: one, two"),
        ("/api/runs/%ff", 400, "parameter", "not understood"),
        ("/api/runs/one/results/x", 404, "unknown-name", "there is no result 'x': run 'one' has none"),
        ("/api/runs/two/results/x", 404, "unknown-name", "Known: none"),
        ("/api/runs/one/results/{name}?epoch=99", 400, "parameter", "there is no epoch 99 .* from 0 to 5"),
        ("/api/runs/one/results/{name}?epoch=x", 400, "parameter", "epoch is a number.* but got 'x'"),
        ("/api/runs/one/results/{name}?epoch=", 400, "parameter", "epoch is a number"),
        ("/api/runs/one/results/{name}?epoch=3..1", 400, "parameter", "3 comes after 1"),
        ("/api/runs/one/results/{name}?epoch=nan", 400, "parameter", "there is no epoch nan"),
        ("/api/runs/one/results/{name}?layer=layer9", 404, "unknown-name", "Did you mean 'layer1'"),
        ("/api/runs/one/results/{name}?sample=1", 404, "unknown-name", "Known: epoch, layer, seed"),
        ("/api/runs?epoch=1", 400, "parameter", "of a result epochs"),
        ("/api/runs/one?epoch=1", 400, "parameter", "of a result epochs"),
    ],
)
def test_what_is_not_there_is_said_in_json(
    server: Server, store: Path, path: str, status: int, kind: str, message: str
) -> None:
    answer = ask(server, path.format(name=result_name(store)))
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    error = json.loads(answer.body)["error"]
    assert error["kind"] == kind
    assert re.search(message, error["message"]), error
    assert str(store.parent) not in answer.text


def test_too_much_for_json_is_to_be_read_as_zarr(server: Server, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_MOST_VALUES", 50)
    path = f"/api/runs/one/results/{result_name(store)}"
    answer = ask(server, path)
    assert answer.status == 400
    message = json.loads(answer.body)["error"]["message"]
    assert "at most 50" in message
    assert f"/store/one/results/{result_name(store)}" in message
    assert ask(server, f"{path}?epoch=0&seed=0").status == 200


def test_a_bug_is_logged_and_nothing_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*given: object) -> None:
        raise RuntimeError("SECRET of a folder")

    monkeypatch.setattr(answers, "list_runs", broken)
    answer = ask(server, "/api/runs")
    assert (answer.status, json.loads(answer.body)["error"]["kind"]) == (500, "internal")
    assert "SECRET" not in answer.text
    assert "SECRET" in caplog.text


def test_a_run_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "runs.zarr"
    config = TrainConfig(hidden=(3,), epochs=3)
    for part, seeds in (("a", [0, 1]), ("b", [2])):
        capture(tasks.load("rule"), path, "big", config, seeds=seeds, processes=0, part=part)
        analyze(path, f"big+{part}", estimator="binned", bins=10)
    with serving(path) as running:
        assert [each["run"] for each in answered(running, "/api/runs/big")["runs"]] == ["big+a", "big+b"]
        (name,) = ipstore.open(path, run="big")["results"].children
        found = xr.Dataset.from_dict(answered(running, f"/api/runs/big/results/{name}"))
        assert found["seed"].values.tolist() == [0, 1, 2]
        assert found.attrs["source_run"] == "big"


def test_a_diverged_network_is_null(tmp_path: Path) -> None:
    path = tmp_path / "runs.zarr"
    config = TrainConfig(hidden=(3,), epochs=2, activation="linear", learning_rate=1e20)
    with pytest.warns(DivergedWarning):
        capture(tasks.load("rule"), path, "wild", config, seeds=[0], processes=0)
    with pytest.warns(NonFiniteWarning):
        analyze(path, "wild", estimator="binned", range=(-1.0, 1.0))
    with serving(path) as running:
        document = answered(running, f"/api/runs/wild/results/{ipstore.runs(path)[0].results[0]}")
    assert None in document["data_vars"]["I_XT"]["data"][-1][0]


# A store in an object store --------------------------------------------------------


@pytest.mark.long
def test_a_store_in_an_object_store(s3: str, tmp_path: Path, object_server: ObjectServer) -> None:
    url = s3.replace("runs.zarr", "ein Ördner/runs.zarr")
    config = TrainConfig(hidden=(3,), epochs=5)
    capture(tasks.load("rule"), url, "net", config, seeds=range(2), processes=0)
    analyze(url, "net", estimator="binned", bins=10)
    place = locate(url)
    with serving(url) as running:
        for key in place.sizes():
            answer = ask(running, f"/store/{key}")
            assert answer.status == (404 if "/." in key else 200)
            assert answer.status == 404 or answer.body == place.read(key)
        for header, part in RANGES:
            whole = place.read("net/zarr.json")
            assert ask(running, "/store/net/zarr.json", Range=header).body == whole[part]
        assert ask(running, "/store/net/zarr.json", Range="bytes=999999999-").status == 416
        for key in OUTSIDE:
            if key != "one/.lease":
                path = urllib.parse.quote(key.replace("one", "net"), safe="/%\\;:")
                assert ask(running, f"/store/{path}").status == 404, key
        there = ipstore.open(f"{running.url}store")
        xr.testing.assert_equal(there.load(), ipstore.open(url).load())
        assert ipstore.verify(f"{running.url}store/net") == []
        assert answered(running, "/api/runs")["runs"][0]["run"] == "net"
        assert set(listed(running, "/store")) - {"/store/"} == {
            f"/store/{key}" for key in place.sizes() if "/." not in key
        }
        object_server.client()  # still up: what follows is a store that is no more
        place.delete(list(place.sizes()))
        assert ask(running, "/store/net/zarr.json").status == 404
        assert ask(running, "/store", "PROPFIND").status == 404


@pytest.mark.long
def test_an_object_store_that_does_not_answer(s3_line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipstore import remote

    monkeypatch.setattr(remote, "_ATTEMPT_SECONDS", 0.5)
    monkeypatch.setattr(remote, "_RETRY_SECONDS", 0.5)
    url, line = s3_line
    capture(tasks.load("rule"), url, "net", TrainConfig(hidden=(3,), epochs=2), seeds=[0], processes=0)
    with serving(url) as running:
        line.fault = lambda method, path: "unavailable"
        answer = ask(running, "/store/net/zarr.json")
        assert answer.status == 503
        assert "127.0.0.1" not in answer.text
        error = json.loads(ask(running, "/api/runs").body)["error"]
        assert error["kind"] == "unreachable"
        line.fault = lambda method, path: "none"
        assert ask(running, "/store/net/zarr.json").status == 200
