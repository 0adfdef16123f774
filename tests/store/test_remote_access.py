"""A store on a web server that asks who one is: credentials come from the file netrc, and end up nowhere else."""

import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import ipstore
from ipstore.credentials import web_headers
from ipstore.errors import AccessError, ParameterError, UnreachableError
from ipstore.places import locate
from tests.service.serving import TOKEN, ask, serving
from tests.store.synthetic import make_plan, write_run


@pytest.fixture(autouse=True)
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file netrc of these tests is looked for; there is none yet."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,127.0.0.2")
    return tmp_path / "netrc"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guarded") / "runs.zarr"
    write_run(path, make_plan(), 10)
    return path


@pytest.fixture(scope="module")
def url(store: Path) -> Iterator[str]:
    """URL of that store, for those who have the token."""
    with serving(store, token=TOKEN) as server:
        yield f"{server.url}store"


def port(url: str) -> str:
    return url.split(":")[2].partition("/")[0]


def test_a_store_is_read_with_the_token_of_its_host(url: str, store: Path, netrc: Path) -> None:
    netrc.write_text(f"machine elsewhere login me password wrong\nmachine 127.0.0.1 login me password {TOKEN}\n")
    here, there = ipstore.open(store), ipstore.open(url)
    xr.testing.assert_identical(there.load()["run"], here.load()["run"])
    assert [info.name for info in ipstore.runs(url)] == ["run"]
    assert ipstore.verify(f"{url}/run") == []


def test_two_servers_of_one_host_are_told_apart_by_their_ports(url: str, store: Path, netrc: Path) -> None:
    with serving(store, token=f"{TOKEN}-2") as other:
        netrc.write_text(
            f"machine 127.0.0.1 login me password {TOKEN}\nmachine 127.0.0.1:{other.port} login me password {TOKEN}-2\n"
        )
        assert ipstore.open(url).children.keys() == ipstore.open(f"{other.url}store").children.keys() == {"run"}


@pytest.mark.parametrize(
    "content", [None, "", "machine elsewhere login me password {token}\n", "default login me password {token}\n"]
)
def test_without_credentials_one_is_told_where_they_go(url: str, netrc: Path, content: str | None) -> None:
    """The entry ``default`` is for hosts that nobody thought of, and a token is for one."""
    if content is not None:
        netrc.write_text(content.format(token=TOKEN))
    for ask_for in (ipstore.open, ipstore.runs, lambda store: ipstore.open(store, run="run"), ipstore.verify):
        with pytest.raises(AccessError) as error:
            ask_for(url)
        message = str(error.value)
        assert "401 Unauthorized" in message
        assert f"put a line into {netrc}, `machine 127.0.0.1:{port(url)} login NAME password PASSWORD`" in message
        assert isinstance(error.value, UnreachableError | PermissionError)
        assert error.value.kind == "access"
        assert TOKEN not in message


def test_credentials_that_are_refused(url: str, netrc: Path) -> None:
    netrc.write_text("machine 127.0.0.1 login me password wrong-horse-battery\n")
    with pytest.raises(AccessError) as error:
        ipstore.open(url)
    assert f"refuses what {netrc} holds for 127.0.0.1:{port(url)} (401 Unauthorized" in str(error.value)
    assert "wrong-horse" not in str(error.value)


def test_a_token_that_changes_while_a_run_is_read(url: str, netrc: Path) -> None:
    netrc.write_text(f"machine 127.0.0.1 login me password {TOKEN}\n")
    lazily = pickle.dumps(ipstore.open(f"{url}/run")["activations/layer1"].data)
    netrc.write_text("machine 127.0.0.1 login me password another-horse\n")
    with pytest.raises(AccessError, match="refuses what"):
        pickle.loads(lazily).compute()


def test_a_server_that_does_not_answer_to_a_name(store: Path, netrc: Path) -> None:
    netrc.write_text(f"machine 127.0.0.2 login me password {TOKEN}\n")
    with serving(store, address="0.0.0.0", token=TOKEN, origins=["gpu-box"]) as server:
        host = f"127.0.0.2:{server.port}"
        for ask_for in (ipstore.open, ipstore.runs):
            with pytest.raises(
                AccessError, match=rf"does not answer to the name {host} \(421 .* --allow-origin {host}"
            ):
                ask_for(f"http://{host}/store")


def test_the_file_in_the_home_directory(url: str, netrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {TOKEN}\n")
    assert ipstore.open(url).children.keys() == {"run"}


@pytest.mark.parametrize(
    ("content", "reason"), [("machine 127.0.0.1 passwrd x\n", "line 1"), ("\n\nwhat is this\n", "line 3")]
)
def test_a_file_that_is_not_understood(url: str, netrc: Path, content: str, reason: str) -> None:
    netrc.write_text(content)
    with pytest.raises(ParameterError, match=f"{netrc}, {reason}: "):
        ipstore.open(url)


def test_a_file_that_is_a_folder(url: str, netrc: Path) -> None:
    netrc.mkdir()
    with pytest.raises(ParameterError, match="may be, is not read"):
        ipstore.open(url)


def test_what_the_header_says(netrc: Path) -> None:
    netrc.write_text('machine host login "Aladdin" password "open sesame"\nmachine [::1] login a password b\n')
    basic = {"Authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}
    assert web_headers("https://host/runs.zarr") == web_headers("http://host:80/x") == basic
    assert web_headers("https://host.example/") == web_headers("https://nohost/") == {}


def test_an_object_store_is_not_told(netrc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its credentials are those of the environment; a bucket may be named like a host."""
    netrc.write_text("not understood at all")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert str(locate("s3://host/runs.zarr")) == "s3://host/runs.zarr"


def test_credentials_in_a_url_are_refused(netrc: Path) -> None:
    with pytest.raises(ParameterError, match=f"leave them out, and put them into {netrc}") as error:
        ipstore.open("http://me:s3cr3t-horse@127.0.0.1/store")
    assert "s3cr3t" not in str(error.value)


# They end up nowhere ---------------------------------------------------------------


def test_the_token_is_in_nothing_that_is_shown_or_sent(url: str, netrc: Path) -> None:
    netrc.write_text(f"machine 127.0.0.1 login me password {TOKEN}\n")
    (header,) = web_headers(url).values()
    tree, place = ipstore.open(f"{url}/run"), locate(url)
    pickled = pickle.dumps((place, place.zarr(), dict(tree["activations/layer1"].data.__dask_graph__())))
    assert pickle.loads(pickled)[0] == place
    shown = f"{tree} {place} {place!r} {place.zarr()!r} {ipstore.runs(url)!r} {tree.attrs}"
    for secret in (TOKEN, header, header.split()[1]):
        assert secret not in shown
        assert secret.encode() not in pickled


@pytest.mark.long
def test_a_pickled_array_is_read_elsewhere_with_what_is_known_there(url: str, netrc: Path, tmp_path: Path) -> None:
    netrc.write_text(f"machine 127.0.0.1 login me password {TOKEN}\n")
    array = ipstore.open(f"{url}/run")["activations/layer1"]
    code = "import pickle, sys; print(float(pickle.load(sys.stdin.buffer).sum().compute()))"
    command, lazily = [sys.executable, "-c", code], pickle.dumps(array.data)
    done = subprocess.run(command, input=lazily, capture_output=True)
    assert float(done.stdout) == pytest.approx(float(array.sum()), rel=1e-6), done.stderr
    netrc.unlink()
    done = subprocess.run(command, input=lazily, capture_output=True)
    assert b"AccessError" in done.stderr


@pytest.mark.long
def test_processes_of_dask_read_with_it(url: str, store: Path, netrc: Path) -> None:
    netrc.write_text(f"machine 127.0.0.1 login me password {TOKEN}\n")
    lazily = ipstore.open(f"{url}/run")["activations/layer1"].data
    here = ipstore.open(store / "run")["activations/layer1"].to_numpy()
    np.testing.assert_array_equal(lazily.compute(scheduler="processes", num_workers=2), here)


def test_a_server_that_sends_one_elsewhere_does_not_send_the_token_along(netrc: Path) -> None:
    seen: list[tuple[str, str | None]] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["Authorization"]))
            self.send_response(404)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Sends(Elsewhere):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["Authorization"]))
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{elsewhere.server_port}/there")
            self.end_headers()

        do_HEAD = do_GET

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as elsewhere,
        ThreadingHTTPServer(("127.0.0.1", 0), Sends) as sends,
    ):
        for each in (elsewhere, sends):
            threading.Thread(target=each.serve_forever, args=(0.05,), daemon=True).start()
        netrc.write_text(f"machine 127.0.0.1 login me password {TOKEN}\n")
        with pytest.raises(FileNotFoundError):
            locate(f"http://127.0.0.1:{sends.server_port}/runs.zarr").read("zarr.json")
        for each in (elsewhere, sends):
            each.shutdown()
    assert [path for path, _ in seen] == ["/runs.zarr/zarr.json", "/there"]
    assert seen[0][1] is not None
    assert seen[1][1] is None


def test_the_server_that_is_asked_is_the_one_that_serves(url: str, store: Path) -> None:
    """So that none of the above passes because anybody may read."""
    with serving(store, token=TOKEN) as server:
        assert ask(server, "/store/zarr.json").status == 401
