"""The notebooks of examples/ run, and hold what running them gives."""

from pathlib import Path

import pytest

from tests.notebooks import EXAMPLES, execute, read

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    recorded = {"digits", "estimator", "paper", "transformer"}
    asked = {"did_it_compress", "two_optimisers", "which_estimator"}
    assert {path.stem for path in NOTEBOOKS} == recorded | asked


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_was_executed_in_order_and_names_no_machine(path: Path) -> None:
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert all(output.name == "stdout" for output in outputs if output.output_type == "stream")
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 300_000
    text = path.read_text()
    assert not [word for word in (str(Path.home()), "/home/", "/tmp/", "/work/", "site-packages") if word in text]


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path) -> None:
    stored = read(path)
    executed = execute(path, tmp_path)
    for before, after in zip(stored.cells, executed.cells, strict=True):
        kinds = [[output.output_type for output in cell.get("outputs", [])] for cell in (before, after)]
        assert kinds[0] == kinds[1], after.source
