"""What we publish: sdist and wheel hold the real files of all four folders, and the wheel works alone."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """Build one distribution as a user would, in an isolated environment that fetches the build backend."""
    run(sys.executable, "-m", "build", f"--{kind}", "--outdir", out, source)
    [built] = out.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as tar:
        tar.extractall(directory, filter="data")
    [root] = directory.iterdir()
    return root


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the sdist, which is what an index serves both of."""
    return build("wheel", unpacked, tmp_path_factory.mktemp("wheel"))


def code() -> dict[str, bytes]:
    """Every module of the four folders under the name that it has in the package."""
    parts = {folder: f"ipstore/{folder}/" for folder in ("trainers", "analysis", "cli")} | {"ipstore": "ipstore/"}
    found: dict[str, bytes] = {}
    for folder, prefix in parts.items():
        for path in (ROOT / folder).rglob("*.*"):  # rglob does not follow the links in ipstore/
            if path.suffix not in {".py", ".html"}:  # code, and the template of a page
                continue
            found[prefix + path.relative_to(ROOT / folder).as_posix()] = path.read_bytes()
        assert any(name.startswith(prefix) for name in found)
    return found


def test_wheel_holds_the_code_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
        links = [info.filename for info in archive.infolist() if info.external_attr >> 16 & 0o170000 == 0o120000]
    assert not links
    package = {name: content for name, content in entries.items() if ".dist-info/" not in name}
    assert package == code() | {"ipstore/py.typed": b""}
    [licence] = [name for name in entries if name.endswith("LICENSE")]
    assert entries[licence] == (ROOT / "LICENSE").read_bytes()


def test_wheel_names_its_command_and_keeps_torch_optional(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        [points] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        [metadata] = [name for name in archive.namelist() if name.endswith("dist-info/METADATA")]
        scripts = ConfigParser()
        scripts.read_string(archive.read(points).decode())
        requirements = [
            line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist: ")
        ]
    assert dict(scripts["console_scripts"]) == {"ipstore": "ipstore.cli.app:main"}
    assert requirements
    assert [line for line in requirements if "torch" in line and "extra ==" not in line] == []


def test_sdist_holds_no_link(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        assert [entry.name for entry in tar if entry.issym() or entry.islnk()] == []


def test_wheel_from_a_checkout_equals_the_wheel_from_the_sdist(wheel: Path, tmp_path: Path) -> None:
    direct = build("wheel", ROOT, tmp_path)
    with ZipFile(direct) as one, ZipFile(wheel) as other:
        assert {name: one.read(name) for name in one.namelist()} == {
            name: other.read(name) for name in other.namelist()
        }


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; the dependencies are borrowed from this one."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel)
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # A .pth file inside a directory that came by a .pth file is not read, so our editable install stays out.
    Path(own, "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return home


def test_installed_package_works_beside_a_users_own_analysis_folder(installed: Path, tmp_path: Path) -> None:
    for folder in ("analysis", "trainers", "cli"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("raise ImportError('the user own folder was imported')")
    script = (
        "import ipstore, ipstore.analysis, ipstore.analysis.estimators, ipstore.trainers, ipstore.cli.app\n"
        "print(ipstore.__file__, ipstore.analysis.__file__, ipstore.trainers.__file__, sep='\\n')"
    )
    files = run(installed / "bin" / "python", "-W", "error", "-c", script, cwd=tmp_path).splitlines()
    assert len(files) == 3
    assert all(Path(file).is_relative_to(installed) for file in files)


def test_installed_command_starts(installed: Path, tmp_path: Path) -> None:
    assert "capture" in run(installed / "bin" / "ipstore", "--help", cwd=tmp_path)
