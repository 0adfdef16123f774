"""Who may ask: nothing passes the gate, whatever path, method and protocol, and others are told nothing."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from ipstore.analysis.service import Server
from ipstore.analysis.service.access import Access
from ipstore.errors import ParameterError
from tests.service.serving import TOKEN, Answer, ask, send, serving, upgrade

PATHS = [
    "/",
    "/?run=one",
    "/ws",
    "/metadata",
    "/autoload.js?bokeh-autoload-element=x",
    "/favicon.ico",
    "/static/js/bokeh.min.js",
    "/static/extensions/panel/panel.min.js",
    "/components/panel/x/y/z",
    "/store",
    "/store/zarr.json",
    "/store/one/zarr.json",
    "/store/../secret",
    "/api",
    "/api/runs",
    "/api/runs/one",
    "/nothing",
    "//store/zarr.json",
    "*",
]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "BREW"]


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    with serving(store, token=TOKEN) as running:
        yield running


def basic(password: str, user: str = "me") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


WRONG = {
    "none": {},
    "another": {"Authorization": "Bearer wrong-horse-battery"},
    "half of it": {"Authorization": f"Bearer {TOKEN[:-1]}"},
    "more than it": {"Authorization": f"Bearer {TOKEN}x"},
    "empty": {"Authorization": "Bearer "},
    "no scheme": {"Authorization": TOKEN},
    "another scheme": {"Authorization": f"Digest {TOKEN}"},
    "another password": {"Authorization": basic("wrong")},
    "the token as the user": {"Authorization": basic("", TOKEN)},
    "no base64": {"Authorization": "Basic !!!"},
    "no colon": {"Authorization": "Basic " + base64.b64encode(TOKEN.encode()).decode()},
    "letters of no alphabet": {"Authorization": "Bearer \xff\xfe"},
    "another cookie": {"Cookie": "ipstore-{port}=0123456789abcdef"},
    "the token as the cookie": {"Cookie": f"ipstore-{{port}}={TOKEN}"},
    "a cookie that is none": {"Cookie": 'ipstore-{port}="\\377'},
}


def assert_refused(answer: Answer, method: str = "GET") -> None:
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert answer.text == ("" if method == "HEAD" else "A token is needed: as the password, with any user name.\n")
    said = f"{answer.headers} {answer.text}"
    assert not re.search(r"secret|runs|one|zarr|Traceback|Set-Cookie", said), said


@pytest.mark.parametrize("path", PATHS)
def test_without_a_token_nothing_is_told_of_any_path(server: Server, path: str) -> None:
    for method in METHODS:
        assert_refused(ask(server, path, method), method)


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_a_wrong_token_is_as_good_as_none(server: Server, given: dict[str, str]) -> None:
    headers = {name: value.format(port=server.port) for name, value in given.items()}
    for path in ("/", "/store/zarr.json", "/api/runs", "/ws"):
        assert_refused(ask(server, path, **headers))
    assert upgrade(server, headers) == 401


@pytest.mark.parametrize("path", ["/?token=wrong", "/?token=", f"/?token={TOKEN}&token=wrong", f"/?token={TOKEN}%00"])
def test_a_wrong_token_in_the_address(server: Server, path: str) -> None:
    assert_refused(ask(server, path))


@pytest.mark.parametrize("path", ["/store/zarr.json", "/api/runs", "/static/js/bokeh.min.js", "/ws", "//"])
def test_the_address_holds_a_token_for_the_page_alone(server: Server, path: str) -> None:
    assert_refused(ask(server, f"{path}?token={TOKEN}"))
    assert upgrade(server, path=f"{path}?token={TOKEN}") == 401


@pytest.mark.parametrize("scheme", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN), basic(TOKEN, "")])
def test_programs_show_the_token_in_a_header(server: Server, scheme: str) -> None:
    for path in ("/", "/store/zarr.json", "/api/runs", "/static/js/bokeh.min.js"):
        assert ask(server, path, Authorization=scheme).status == 200
    assert upgrade(server, {"Authorization": scheme}) == 101


def entered(server: Server, path: str, **headers: str) -> tuple[str, str]:
    """Open the page in a browser; give the path that it is sent to, and its cookie."""
    answer = ask(server, path, Accept="text/html,*/*", **headers)
    assert answer.status == 302
    assert answer.body == b""
    assert TOKEN not in str(answer.headers)
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict"]
    assert cookie.startswith(f"ipstore-{server.port}=")
    return urljoin(path, answer.headers["Location"]), cookie


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        (f"/?token={TOKEN}", "/"),
        (f"/?run=one&token={TOKEN}&layer=a%26b&x=", "/?run=one&layer=a%26b&x="),
    ],
)
def test_a_browser_gets_a_cookie_and_an_address_without_the_token(server: Server, path: str, clean: str) -> None:
    location, cookie = entered(server, path)
    assert location == clean
    found = ask(server, location, Cookie=cookie)
    assert found.status == 200
    assert TOKEN not in found.text
    for other in ("/store/zarr.json", "/api/runs", "/static/js/bokeh.min.js"):
        assert ask(server, other, Cookie=cookie).status == 200
    assert upgrade(server, {"Cookie": cookie}) == 101


def test_a_link_of_another_site_is_followed_by_a_page_of_this_one(server: Server) -> None:
    """A browser shows a strict cookie to nobody that another site sent it to, not after a redirect either."""
    answer = ask(server, f"/?run=one&token={TOKEN}", Sec_Fetch_Site="cross-site")
    assert (answer.status, answer.headers["Refresh"]) == (200, "0; url=./?run=one")
    assert TOKEN not in f"{answer.headers} {answer.text}"
    assert ask(server, "/", Cookie=answer.headers["Set-Cookie"].partition(";")[0]).status == 200


def test_a_browser_that_asked_for_a_password_gets_a_cookie_for_its_websocket(server: Server) -> None:
    location, cookie = entered(server, "/?run=one", Authorization=basic(TOKEN))
    assert location == "/?run=one"
    assert ask(server, location, Cookie=cookie, Authorization=basic(TOKEN), Accept="text/html").status == 200


def test_behind_a_proxy_with_tls_the_cookie_goes_by_tls_alone(server: Server) -> None:
    answer = ask(server, f"/?token={TOKEN}", X_Forwarded_Proto="https")
    assert answer.headers["Set-Cookie"].endswith("; Secure")


def test_the_page_does_not_hold_what_let_it_in(server: Server) -> None:
    """Bokeh writes the request's headers and cookies into the page, for the websocket to bring along."""
    _, cookie = entered(server, f"/?token={TOKEN}")
    text = ask(server, "/", Cookie=f"{cookie}; theme=dark", Authorization=f"Bearer {TOKEN}", X_Other="kept").text
    told = b"".join(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in re.findall(r"[\w-]{60,}", text))
    assert TOKEN not in text
    assert b"session_id" in told
    assert TOKEN.encode() not in told
    assert cookie.partition("=")[2].encode() not in told


def test_the_cookie_of_one_server_is_none_of_another(server: Server, store: Path) -> None:
    _, cookie = entered(server, f"/?token={TOKEN}")
    with serving(store, token=TOKEN) as other:
        assert_refused(ask(other, "/", Cookie=cookie))
        assert_refused(ask(other, "/", Cookie=f"ipstore-{other.port}={cookie.partition('=')[2]}"))
    with serving(store, token=f"{TOKEN}-2") as other:
        assert_refused(ask(other, "/", Cookie=cookie))


def test_a_token_is_not_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        for path in (f"/?token={TOKEN}", f"/?token={TOKEN}x", f"/nothing?token={TOKEN}", f"/store/x?token={TOKEN}"):
            ask(server, path)
            ask(server, path, Authorization=f"Bearer {TOKEN}")
    assert "401 GET /nothing" in caplog.text
    assert TOKEN not in caplog.text


# By which name -------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_home(store: Path) -> Iterator[Server]:
    """A server as it is by default."""
    with serving(store) as running:
        yield running


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host", ["evil.example:{port}", "evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.:{port}"]
)
def test_a_page_that_has_its_name_lead_here_reads_nothing(at_home: Server, path: str, host: str) -> None:
    answer = ask(at_home, path, host=host.format(port=at_home.port))
    assert answer.status == 421
    assert "--allow-origin" in answer.text
    assert "secret" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_the_names_of_this_machine(at_home: Server, host: str) -> None:
    name = f"{host}:{at_home.port}"
    assert ask(at_home, "/api/runs", host=name).status == 200
    assert upgrade(at_home, {"Host": name, "Origin": f"http://{name}"}) == 101


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1", "null", "http://[", "http://127.0.0.1:1"]
)
def test_a_page_of_another_server_opens_no_websocket_and_reads_nothing(at_home: Server, origin: str) -> None:
    assert upgrade(at_home, {"Origin": origin}) == 403
    for path in ("/", "/api/runs", "/autoload.js?bokeh-autoload-element=x"):
        assert ask(at_home, path, Origin=origin).status == 403


def test_several_names(store: Path) -> None:
    given = ["Gpu-Box", "lab.example:8443", "https://notes.example/", "[fe80::1]:80"]
    with serving(store, token=TOKEN, origins=given) as running:
        port = running.port
        allowed = [
            *(f"gpu-box:{port}", "gpu-box", "gpu-box:80", "gpu-box:443", "lab.example:8443"),
            *("notes.example", "[fe80::1]", f"127.0.0.1:{port}", f"localhost:{port}"),
        ]
        refused = ["gpu-box:1", f"lab.example:{port}", "lab.example", "x.gpu-box", "gpu-box.x", f"gpu-box:{port}0"]
        shown = {"Authorization": f"Bearer {TOKEN}"}
        assert {host: ask(running, "/api/runs", host=host, **shown).status for host in allowed} == dict.fromkeys(
            allowed, 200
        )
        assert {host: ask(running, "/api/runs", host=host, **shown).status for host in refused} == dict.fromkeys(
            refused, 421
        )
        assert upgrade(running, {"Host": "gpu-box", "Origin": "https://gpu-box", **shown}) == 101
        assert running.url == f"http://gpu-box:{port}/"


def test_requests_that_are_none(at_home: Server) -> None:
    """Whatever is sent, what comes back is an error of a known kind, or nothing, and the server goes on."""
    for request in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /store/zarr.json HTTP/1.0\r\n\r\n",
        b"GET http://evil.example/store/zarr.json HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n",
    ):
        answered = send(at_home, request, ends=True)
        assert not answered or answered.split()[1] in (b"400", b"413", b"421"), answered
        assert b"secret" not in answered
        assert b"Traceback" not in answered
    assert ask(at_home, "/api/runs").status == 200


# What is allowed to be set up -------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "", "192.168.0.7", "gpu-box"])
@pytest.mark.parametrize(("origins", "token"), [((), None), (("gpu-box",), None), ((), TOKEN)])
def test_other_machines_need_a_token_and_a_name(address: str, origins: tuple[str, ...], token: str | None) -> None:
    with pytest.raises(ParameterError, match=r"IPSTORE_SERVE_TOKEN .* --allow-origin HOST\[:PORT\]"):
        Access(address, origins, token)
    Access(address, ["gpu-box"], TOKEN)


def test_a_name_of_elsewhere_needs_a_token() -> None:
    for name in ("notes.example", "10.0.0.7:80", "[fe80::1]"):
        with pytest.raises(ParameterError, match="called from elsewhere, so it needs a token"):
            Access("127.0.0.1", [name])
    assert "localhost:8000" in Access("127.0.0.1", ["localhost:8000"]).hosts(5006)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_this_machine_alone_needs_neither(address: str) -> None:
    hosts = Access(address).hosts(5006)
    assert {"127.0.0.1:5006", "localhost:5006", "[::1]:5006"} <= hosts
    assert urlsplit(Access(address).url(5006)).netloc in hosts


@pytest.mark.parametrize(
    "token", ["short", "fifteen-letters", "", " " * 20 + "\n", "ünïcödé-" * 3, "with spaces in between"]
)
def test_a_token_that_is_none(token: str) -> None:
    with pytest.raises(ParameterError, match=r"at least 16 .*\(secrets\.token_urlsafe"):
        Access("127.0.0.1", (), token)


@pytest.mark.parametrize("origin", ["", "*", "a b", "host:", "host:99999", "ftp://host", "host/path", "-host", "a@b"])
def test_an_origin_that_is_none(origin: str) -> None:
    with pytest.raises(ParameterError, match="--allow-origin is HOST or HOST:PORT"):
        Access("127.0.0.1", [origin], TOKEN)


def test_a_token_is_not_shown() -> None:
    assert TOKEN not in repr(Access("127.0.0.1", (), TOKEN))
