"""The server: where it listens, what each browser is given, how it starts and ends."""

import asyncio
import re
import shutil
import socket
import sys
import threading
from pathlib import Path

import panel as pn
import pytest
from bokeh.client import pull_session

from ipstore.analysis.service import Server
from ipstore.errors import (
    AddressError,
    MissingPackageError,
    NotAStoreError,
    ParameterError,
    StoreNotFoundError,
)
from tests.service.serving import TOKEN, ask, page, serving


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_page_is_given_and_lives_over_its_websocket(store: Path) -> None:
    pages: list[int] = []

    def counted() -> pn.viewable.Viewable:
        pages.append(len(pages))
        return pn.pane.Markdown(f"page {pages[-1]}")

    with Server(store, port=0) as server:
        server.start(counted)
        assert server.url == f"http://127.0.0.1:{server.port}/"
        shown = ask(server, "/").text
        assert "<title>ipstore</title>" in shown
        for _ in range(2):
            session = pull_session(url=server.url)
            try:
                assert f"page {pages[-1]}" in str([model.properties_with_values() for model in session.document.roots])
            finally:
                session.close()
    assert pages == [0, 1, 2]


def test_what_the_page_needs_is_on_the_server(store: Path) -> None:
    with serving(store) as server:
        shown = ask(server, "/").text
        sources = re.findall(r'(?:src|href)="([^"]+)"', shown)
        assert len(sources) > 5
        for source in sources:
            assert "//" not in source
            assert ask(server, f"/{source.removeprefix('./')}").status == 200, source


@pytest.mark.parametrize(
    "path", ["/components/this/x/y/z", "/components/os/path/_resources/x", "/components/panelx.y/x/y/z", "/static/../x"]
)
def test_no_module_is_imported_for_a_url(store: Path, path: str) -> None:
    with serving(store) as server:
        assert ask(server, path).status in (403, 404)
        assert "this" not in sys.modules


def test_a_page_that_fails_says_so_and_no_more(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    fails = [RuntimeError("SECRET in /root"), ParameterError("the run is <gone>")]

    def failing() -> pn.viewable.Viewable:
        if fails:
            raise fails.pop(0)
        return page()

    with Server(store, port=0) as server:
        server.start(failing)
        for said in ("the server's log says why", "the run is &lt;gone&gt;"):
            session = pull_session(url=server.url)
            try:
                shown = str([model.properties_with_values() for model in session.document.roots])
            finally:
                session.close()
            assert said in shown.replace("&amp;", "&").replace("&#x27;", "'")
            assert "SECRET" not in shown
        assert "SECRET" in caplog.text
        assert ask(server, "/").status == 200


def test_elsewhere_there_is_nothing(store: Path) -> None:
    with serving(store) as server:
        for path in ("/nothing", "/admin", "/rest", "/login", "/.env", "/storex", "/apix", "/index.html"):
            answer = ask(server, path)
            assert answer.status == 404
            assert "Traceback" not in answer.text
            assert str(store.parent) not in answer.text


# Where it listens -------------------------------------------------------------------


def test_it_listens_at_once_and_no_longer_once_it_has_stopped(store: Path) -> None:
    with Server(store, port=0) as server:
        assert listens(server.port)
        server.start(page)
        assert ask(server, "/api/runs").status == 200
        server.stop()
        assert not listens(server.port)
        server.stop()
    with Server(store, port=server.port):  # which is free again
        pass
    assert not listens(server.port)


def test_a_connection_that_stays_open_does_not_keep_it(store: Path) -> None:
    with serving(store) as server:
        line = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        line.sendall(f"GET /api/runs HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        assert line.recv(12) == b"HTTP/1.1 200"
    with line:
        while line.recv(2**16):
            pass


def test_it_is_stopped_from_another_thread(store: Path) -> None:
    with Server(store, port=0) as server:
        worker = threading.Thread(target=server.run, args=(page, lambda: threading.Thread(target=server.stop).start()))
        worker.start()
        worker.join(30)
        assert not worker.is_alive()


def test_two_servers_of_one_store(store: Path) -> None:
    with serving(store) as one, serving(store, token=TOKEN) as other:
        assert one.port != other.port
        assert ask(one, "/api/runs").status == 200
        assert ask(other, "/api/runs").status == 401


def test_a_port_in_use(store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=rf"cannot listen on 127.0.0.1:{port}: another .* --port 0 takes one"):
            Server(store, port=port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none(store: Path, port: int) -> None:
    with pytest.raises(ParameterError, match=f"0 to 65535.* got {port}"):
        Server(store, port=port)


@pytest.mark.parametrize(
    ("address", "reason"), [("192.0.2.1", "no address of this machine"), ("no-such-host.invalid", "cannot listen on")]
)
def test_an_address_of_another_machine(store: Path, address: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        Server(store, port=0, address=address, token=TOKEN, origins=["lab"])


def test_all_addresses(store: Path) -> None:
    with serving(store, address="0.0.0.0", token=TOKEN, origins=["gpu-box"]) as server:
        assert server.url == f"http://gpu-box:{server.port}/"
        assert ask(server, "/api/runs").status == 401
        assert ask(server, "/api/runs", host=f"gpu-box:{server.port}", Authorization=f"Bearer {TOKEN}").status == 200
        assert ask(server, "/api/runs", Authorization=f"Bearer {TOKEN}").status == 200  # through a tunnel


def test_the_address_of_this_machine_in_ipv6(store: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(store, address="::1") as server:
        assert server.url == f"http://[::1]:{server.port}/"
        with socket.create_connection(("::1", server.port), timeout=30) as line:
            line.sendall(f"GET /api/runs HTTP/1.1\r\nHost: [::1]:{server.port}\r\n\r\n".encode())
            assert line.recv(12) == b"HTTP/1.1 200"


# What is refused before it listens -----------------------------------------------------


def test_what_is_no_store(store: Path, tmp_path: Path) -> None:
    port = 0
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder/x").mkdir(parents=True)
    for path, error in (
        (tmp_path / "none", StoreNotFoundError),
        (tmp_path / "file", NotAStoreError),
        (tmp_path / "folder", NotAStoreError),
        (store / "one", ParameterError),
    ):
        with pytest.raises(error):
            Server(path, port=port)
    with pytest.raises(ParameterError, match=r"one' is a run; give its store"):
        Server(store / "one", port=port)


def test_a_package_that_is_missing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datashader", None)
    with pytest.raises(MissingPackageError, match=r"needs datashader: pip install 'ipstore\[serve\]'"):
        Server(store, port=0)


def test_a_start_that_fails_is_raised_where_it_was_asked_for(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(store, port=0) as server:
        monkeypatch.setattr(asyncio, "run", lambda work: (work.close(), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            server.start(page)
    assert not listens(server.port)


def test_a_store_may_be_written_while_it_is_served(store: Path, tmp_path: Path) -> None:
    """A run that appears is there at once: nothing of the store is kept by the endpoints."""
    path = tmp_path / "runs.zarr"
    shutil.copytree(store, path, ignore=shutil.ignore_patterns("two"))
    with serving(path) as server:
        assert '"two"' not in ask(server, "/api/runs").text
        shutil.copytree(store / "two", path / "two")
        assert '"two"' in ask(server, "/api/runs").text
        assert ask(server, "/store/two/zarr.json").status == 200
