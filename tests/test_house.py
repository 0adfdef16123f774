"""The house rules that no linter knows: who may import whom, what an import costs, what a package shows."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ipstore", "trainers", "analysis", "cli")
OTHERS = ("tests", "examples", "benchmarks")

FORBIDDEN = {
    "ipstore": {"trainers", "analysis", "cli"},
    "trainers": {"analysis", "cli"},
    "analysis": {"trainers", "cli"},
    "cli": set(),
}
FACADE = {"ipstore/__init__.py": {"cli"}, "ipstore/__main__.py": set[str]()}
"""The package's face hands out names of the parts; its command line starts the CLI."""


def sources(folder: str) -> list[Path]:
    """Python files of a top-level folder, not following the links in ipstore/."""
    return [path for path in (ROOT / folder).rglob("*.py") if not any(up.is_symlink() for up in path.parents)]


def module_name(path: Path) -> str:
    """Name under which a source file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "ipstore" else ("ipstore", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = sorted(module_name(path) for folder in FOLDERS for path in sources(folder))
PACKAGES = [module_name(path) for folder in FOLDERS for path in sources(folder) if path.name == "__init__.py"]


# Who may import whom ----------------------------------------------------------


def mentions(tree: ast.AST) -> Iterator[str]:
    """Dotted names of modules in imports, in strings (for `import_module`) and as attributes of ipstore."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.ImportFrom():
                yield "a relative import"
            case ast.Constant(value=str(text)) if re.fullmatch(r"ipstore(\.\w+)+(:\w+)?", text):
                yield text.split(":")[0]
            case ast.Attribute(value=ast.Name(id="ipstore"), attr=attr):
                yield f"ipstore.{attr}"


def trespasses(source: str, forbidden: set[str]) -> list[str]:
    """Mentions of parts that `source` must not know, or of any part by another name than ipstore.<part>."""
    return [
        name
        for name in mentions(ast.parse(source))
        if name == "a relative import"
        or name.split(".")[0] in FOLDERS[1:]
        or (name.split(".")[0] == "ipstore" and name.split(".")[1:2] and name.split(".")[1] in forbidden)
    ]


@pytest.mark.parametrize(
    "source",
    [
        "import ipstore.analysis",
        "import ipstore.analysis.estimators as e",
        "from ipstore.analysis import estimators",
        "from ipstore import analysis",
        "def f():\n    from ipstore.analysis.ib import point",
        "import ipstore\nipstore.analysis.estimators.available()",
        "from importlib import import_module\nimport_module('ipstore.analysis')",
        "HOMES = {'plane': 'ipstore.analysis.figures:plane'}",
        "if TYPE_CHECKING:\n    import ipstore.analysis",
        "from . import analysis",
        "from ..analysis import estimators",
        "from analysis.estimators import binned",
        "import cli",
    ],
)
def test_a_trespass_is_seen(source: str) -> None:
    assert trespasses(source, {"analysis"})


@pytest.mark.parametrize(
    "source",
    [
        "import ipstore",
        "from ipstore.errors import ParameterError",
        "self.analysis",
        "'see ipstore.analysis.figures'",
    ],
)
def test_what_is_allowed_is_no_trespass(source: str) -> None:
    assert not trespasses(source, {"analysis"})


@pytest.mark.parametrize("folder", FOLDERS)
def test_knowledge_goes_one_way(folder: str) -> None:
    paths = sources(folder)
    assert paths, f"{folder}/ holds no module"
    found = {
        name: broken
        for path in paths
        if (name := path.relative_to(ROOT).as_posix())
        and (broken := trespasses(path.read_text(), FACADE.get(name, FORBIDDEN[folder])))
    }
    assert not found


def test_parts_are_named_through_the_package_everywhere() -> None:
    """`import analysis` works in a checkout, whose folder is on the path, and nowhere else."""
    found = {
        path.relative_to(ROOT).as_posix(): broken
        for folder in OTHERS
        for path in sources(folder)
        if (broken := trespasses(path.read_text(), set()))
    }
    assert not found


# What an import costs ---------------------------------------------------------

WITHOUT = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
for name in {modules}:
    importlib.import_module(name)
"""


def import_without(absent: set[str], modules: list[str]) -> None:
    """Import modules in a fresh interpreter in which some packages are not installed."""
    assert modules
    script = WITHOUT.format(absent=absent, modules=modules)
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


STORE = [name for name in MODULES if not name.startswith(("ipstore.trainers", "ipstore.analysis", "ipstore.cli"))]
ANALYSIS = [name for name in MODULES if name.startswith("ipstore.analysis")]
PLOTTING = {"holoviews", "panel", "bokeh", "matplotlib"}


def test_a_missing_package_is_missed() -> None:
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        import_without({"torch"}, ["torch.nn"])


def test_store_needs_neither_torch_nor_plotting() -> None:
    import_without({"torch"} | PLOTTING, [name for name in STORE if name != "ipstore.__main__"])


def test_analysis_needs_no_torch() -> None:
    import_without({"torch"}, ["ipstore.analysis", *ANALYSIS])


@pytest.mark.long
def test_analysis_save_its_figures_needs_no_plotting() -> None:
    loud = ("ipstore.analysis.figures", "ipstore.analysis.service")
    quiet = [name for name in ANALYSIS if not name.startswith(loud)]
    import_without({"torch"} | PLOTTING, ["ipstore.analysis", *quiet])


HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "numba",
    "holoviews",
    "bokeh",
    "matplotlib",
    "dask.array",
    "xarray",
    "distributed",
    "panel",
}


def test_help_pays_for_no_heavy_import() -> None:
    script = "import sys; from ipstore.cli.app import main; sys.argv = ['ipstore', '--help']; main()"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "ipstore.cli.app" in imported
    assert not imported & HEAVY


# What a package shows ---------------------------------------------------------


def shown(package: str, tree: ast.Module) -> Iterator[str]:
    """Names that a package defines or takes from its own modules; imports from elsewhere are its tools."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(home), names=names) if home.startswith(f"{package}."):
                yield from (alias.asname or alias.name for alias in names)
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name


_SLOW = {"ipstore.trainers.integrations"}
"""Whose names take Lightning and transformers to load."""


@pytest.mark.parametrize(
    "package", [pytest.param(each, marks=[pytest.mark.long] if each in _SLOW else []) for each in PACKAGES]
)
def test_all_lists_what_a_package_shows(package: str) -> None:
    module = importlib.import_module(package)
    names = set(shown(package, ast.parse(Path(str(module.__file__)).read_text())))
    names = {name for name in names if not name.startswith("_")}
    modules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    listed = set(getattr(module, "__all__", ()))
    assert not names & modules, "a module of that name hides it as soon as something imports the module"
    assert names == {name for name in listed if not name.startswith("_")} - modules
    assert listed <= set(dir(module)), "a package that loads its names on first use says so in __dir__"
    for name in listed:
        getattr(module, name)
