"""The site that ``make docs`` builds: whole, every page in reach, and no other host asked for anything."""

import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built by `make docs` from a copy without anything that git ignores or an earlier build left."""
    copy = tmp_path_factory.mktemp("docs-site") / "ipstore"
    known = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(known, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if os.path.lexists(ROOT / name):  # else it is about to be removed
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    # Warnings are errors of the build by its own -W, which counts those of Sphinx alone.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    command = ["make", "--old-file", ".venv/ready", "docs", f"BIN={BIN}"]
    done = subprocess.run(
        command, cwd=copy, env=environment | {"PYTHONPATH": str(copy)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return copy / "docs" / "_build" / "html"


# What a page refers to --------------------------------------------------------

LOADED = {
    ("audio", "src"),
    ("embed", "src"),
    ("iframe", "src"),
    ("image", "href"),
    ("image", "xlink:href"),
    ("img", "src"),
    ("img", "srcset"),
    ("input", "src"),
    ("link", "href"),
    ("object", "data"),
    ("script", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("track", "src"),
    ("use", "href"),
    ("use", "xlink:href"),
    ("video", "poster"),
    ("video", "src"),
}
"""Attributes whose address a browser fetches without being asked to."""

_FETCHED = re.compile(r"""@import\s+["']([^"']+)["']|url\(\s*["']?([^"')]+?)["']?\s*\)""")


def fetched_by_style(style: str) -> list[str]:
    """Addresses that a style sheet fetches."""
    return [one or other for one, other in _FETCHED.findall(re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL))]


@dataclass
class Page(HTMLParser):
    """What a page loads, where it links, and what it can be entered at."""

    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        for name, value in attrs:
            match tag, name:
                case _, "id":
                    self.places.add(value or "")
                case _, "style":
                    self.loads += fetched_by_style(value or "")
                case "a", "href":
                    self.links.append(value or "")
                case _, "srcset":
                    self.loads += [each.split()[0] for each in (value or "").split(",")]
                case pair if pair in LOADED:
                    self.loads.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loads += fetched_by_style(data)


def read(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    return page


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[Path, Page]:
    found = {path: read(path.read_text()) for path in sorted(built.rglob("*.html"))}
    assert len(found) > 25
    return found


def is_foreign(address: str) -> bool:
    """Whether an address is another host's; what stands in the address itself (data:) is not."""
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def target(page: Path, address: str) -> tuple[Path, str]:
    """File and place in it that an address on a page means."""
    path, place = urldefrag(address)
    found = page if not path else page.parent / unquote(urlsplit(path).path)
    return Path(os.path.normpath(found / "index.html" if found.is_dir() else found)), unquote(place)


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example.org/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/css">',
        '<img src="http://example.org/a.png">',
        '<img srcset="a.png 1x, https://example.org/b.png 2x">',
        "<style>@import 'https://example.org/a.css';</style>",
        '<p style="background: url(https://example.org/a.png)">',
        "<style>p { background: url('//example.org/a.png') }</style>",
    ],
)
def test_what_another_host_is_asked_for_is_seen(html: str) -> None:
    assert any(map(is_foreign, read(html).loads))


def test_links_and_what_lies_at_hand_are_no_requests() -> None:
    html = '<a href="https://example.org"></a><img src="a.png"><img src="data:image/png;base64,AA=="><script>1</script>'
    page = read(html)
    assert page.links == ["https://example.org"]
    assert len(page.loads) == 2
    assert not any(map(is_foreign, page.loads))


def test_no_page_asks_another_host(built: Path, pages: dict[Path, Page]) -> None:
    found = {path.name: [each for each in page.loads if is_foreign(each)] for path, page in pages.items()}
    sheets = list(built.rglob("*.css"))
    assert sheets
    found |= {
        sheet.name: [each for each in fetched_by_style(sheet.read_text()) if is_foreign(each)] for sheet in sheets
    }
    assert not {name: foreign for name, foreign in found.items() if foreign}


def test_what_pages_load_and_link_is_there(built: Path, pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for address in page.loads + page.links:
            if not is_foreign(address) and not address.startswith("data:"):
                file, place = target(path, address)
                there = file.is_file() and file.is_relative_to(built)
                if not there or (place and file in pages and place not in pages[file].places):
                    broken.append((path.relative_to(built).as_posix(), address))
    assert not broken


# What the site holds ----------------------------------------------------------


def reachable(pages: dict[Path, Page], start: Path) -> set[Path]:
    """Pages to which links lead from a page, over others."""
    found, ahead = {start}, [start]
    while ahead:
        here = ahead.pop()
        for address in pages[here].links:
            file, _ = target(here, address) if not is_foreign(address) else (here, "")
            if file in pages and file not in found:
                found.add(file)
                ahead.append(file)
    return found


def test_every_page_is_reachable(built: Path, pages: dict[Path, Page]) -> None:
    documents = {built / f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    assert documents <= set(pages)
    found = reachable(pages, built / "index.html")
    unneeded = {built / "search.html"}  # opened by the box, a form
    lost = set(pages) - found - unneeded
    assert not {path.relative_to(built).as_posix() for path in lost}


def packages() -> Iterator[str]:
    """Packages and modules that people import names from, the command line left out."""
    for folder in ("ipstore", "trainers", "analysis"):
        for path in (ROOT / folder).rglob("__init__.py"):
            if not any(up.is_symlink() for up in path.parents):
                parts = path.parent.relative_to(ROOT).parts
                yield ".".join(parts if parts[0] == "ipstore" else ("ipstore", *parts))
    yield "ipstore.errors"


INSIDE = {"ipstore.analysis.reproduction.claims"}
"""Packages that another one shows: people do not import from them."""


@pytest.mark.parametrize("package", sorted(set(packages()) - INSIDE))
def test_every_public_name_is_in_the_reference(package: str, built: Path, pages: dict[Path, Page]) -> None:
    documented = {place for path, page in pages.items() if path.parent == built / "reference" for place in page.places}
    module = importlib.import_module(package)
    names = {f"{package}.{name}" for name in module.__all__}
    parts = {f"{package}.{part.name}" for part in pkgutil.iter_modules(getattr(module, "__path__", ()))} & names
    assert not {f"module-{package}"} - documented
    assert not names - parts - documented
    assert not {f"module-{name}" for name in parts} - documented


def test_the_reference_has_every_command_and_estimator(built: Path, pages: dict[Path, Page]) -> None:
    from ipstore.analysis.estimators import available

    done = subprocess.run([BIN / "ipstore", "--help"], check=True, capture_output=True, text=True)
    commands = re.findall(r"^  ([a-z]+)  +[A-Z]", done.stdout.partition("Commands:")[2], flags=re.MULTILINE)
    assert {"capture", "analyze", "plot"} <= set(commands)
    assert {f"ipstore-{name}" for name in commands} <= pages[built / "reference" / "cli.html"].places
    assert {f"estimator-{name}" for name in available()} <= pages[built / "reference" / "estimators.html"].places


# In a browser -----------------------------------------------------------------


def test_a_browser_asks_for_files_alone(built: Path, pages: dict[Path, Page]) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    asked: set[str] = set()
    failed: list[str] = []
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    opened = [path for path in pages if "_modules" not in path.parts]
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=quiet)
        try:
            tab = browser.new_page()
            tab.on("request", lambda request: asked.add(request.url))
            tab.on("requestfailed", lambda request: failed.append(request.url))
            tab.on("pageerror", lambda error: failed.append(str(error)))
            for path in opened:
                tab.goto(path.as_uri())
            tab.goto(f"{(built / 'search.html').as_uri()}?q=compression")
            tab.wait_for_selector("#search-results li")
        finally:
            browser.close()
    assert len(asked) > len(opened)
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    assert not failed
