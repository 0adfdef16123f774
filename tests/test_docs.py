"""The code blocks of the documents are held to run: what is wrong with one fails, and none is passed over."""

import json
import re
import shutil
from pathlib import Path

import pytest

from ipstore.analysis.reproduction import CLAIMS, Finding, verdict

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty project under our own settings."""
    for name in ("conftest.py", "pyproject.toml", "Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, pytester.path)
    pytester.mkdir("docs")
    return pytester


FAULTY = {
    "python raises": "```python\nassert 1 + 1 == 3\n```",
    "python warns": "```python\nimport warnings\nwarnings.warn('old', DeprecationWarning)\n```",
    "python in a list": "1. Then\n\n   ```python\n   1 / 0\n   ```",
    "python behind tildes": "~~~python\n1 / 0\n~~~",
    "bash exits": "```bash\nfalse\n```",
    "bash fails before its end": "```bash\nfalse\ntrue\n```",
    "bash fails within a pipe": "```bash\nfalse | cat\n```",
    "bash reads an unset variable": '```bash\necho "$NO_SUCH_NAME"\n```',
    "bash warns": "```bash\npython -c 'import warnings; warnings.warn(\"old\")'\n```",
    "json does not parse": "```json\n{'a': 1}\n```",
    "toml does not parse": "```toml\na =\n```",
    "console runs a command of ours": "```console\n$ ipstore --help\n```",
    "console names no target of ours": "```console\n$ make coffee\n```",
    "language unknown": "```ruby\nputs 1\n```",
    "language not named": "```\nipstore --help\n```",
    "fence carries an option": "```python {skip}\n1 / 0\n```",
    "indented, not fenced": "Then:\n\n    ipstore --help\n",
    "skip directive": "<!--- skip: next -->\n\n```python\n1 / 0\n```",
}


def test_every_faulty_block_fails(checkout: pytest.Pytester) -> None:
    documents = [checkout.path / "docs" / f"{name}.md" for name in FAULTY] + [checkout.path / "README.md"]
    for document, block in zip(documents, [*FAULTY.values(), FAULTY["python raises"]], strict=True):
        document.write_text(f"# Title\n\n{block}\n")
    checkout.runpytest("README.md", "docs").assert_outcomes(failed=len(documents))


def test_blocks_of_a_document_share_names_and_directory_and_leave_no_trace(checkout: pytest.Pytester) -> None:
    (checkout.path / "docs/a.md").write_text(
        "```bash\necho 30 > bins\n```\n"
        "```python\nfrom pathlib import Path\n\nbins = int(Path('bins').read_text())\n```\n"
        "> ```python\n> assert bins == 30\n> ```\n"
        "```text\nI(X;T) in bits\n```\n"
        '```json\n{"bins": 30}\n```\n'
        "```toml\nbins = 30\n```\n"
        "```console\n$ make check test  # both\n$ pip install ipstore\n```"
    )
    (checkout.path / "docs/b.md").write_text(
        "```python\nimport os\n\nassert os.listdir() == []\nassert 'bins' not in globals()\n```\n"
    )
    before = Path.cwd()
    checkout.runpytest("docs").assert_outcomes(passed=8)
    assert Path.cwd() == before
    assert not (checkout.path / "bins").exists()


def test_the_reproduction_says_what_its_report_says() -> None:
    text = (ROOT / "docs/reproduction.md").read_text()
    report = json.loads((ROOT / "docs/reproduction/claims.json").read_text())
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    told = [row for row in rows if row != ("claim", "verdict") and not row[0].startswith("---")]
    assert told == [(claim["title"], claim["verdict"]) for claim in report["claims"]]
    for file in re.findall(r"\]\((reproduction/[^)]+)\)", text):
        assert (ROOT / "docs" / file).exists()


def test_the_verdicts_of_the_report_follow_from_its_findings() -> None:
    report = json.loads((ROOT / "docs/reproduction/claims.json").read_text())
    assert [claim["name"] for claim in report["claims"]] == list(CLAIMS)
    for claim in report["claims"]:
        findings = [Finding(each["conditions"], {}, each["holds"]) for each in claim["findings"]]
        assert claim["verdict"] == str(verdict(findings))
        assert (claim["title"], claim["rule"]) == (CLAIMS[claim["name"]].title, CLAIMS[claim["name"]].rule)


def test_the_reproduction_fits_into_a_repository() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "docs/reproduction").iterdir()) < 10_000_000
