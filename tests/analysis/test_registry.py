"""Estimators by name, from other packages and from the command line; what all of them refuse."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ipstore.analysis import estimators
from ipstore.analysis.estimators import Choice, Estimator, Integer, Interval, Number
from ipstore.analysis.probe import Probe
from ipstore.errors import ActivationError, EstimatorError, ParameterError, UnknownNameError

T = np.array([[-0.9], [-0.1], [0.9]], np.float32)
LABELS = np.array([[1, 0], [1, 0], [0, 1]])
PROBE = Probe.of(LABELS)

SOURCE = '''
import numpy as np
from ipstore.analysis.estimators import Estimator, Number

def spread(t, p_y_given_x, *, x_id=None, p_x=None, scale=2.0):
    """Stands in for an estimator: the range of the activations, which must all be finite."""
    assert np.isfinite(t).all()
    value = scale * np.ptp(t, axis=(-2, -1)).astype(np.float64)
    return {"I_XT": value, "I_TY": value / 2}

scale = Number("scale", "a factor")
mine = Estimator("spread", 3, "estimate", "a spread", "nowhere", spread, parameters=(scale,))
number = 7
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed distribution that registers three estimators, one of them broken."""
    (tmp_path / "spread_package.py").write_text(SOURCE)
    (tmp_path / "broken_package.py").write_text("1 / 0")
    metadata = tmp_path / "spread-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: spread\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[ipstore.estimators]\nspread = spread_package:mine\nbroken = broken_package:mine\n"
        "binned = spread_package:mine\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("spread_package", "broken_package"):
        sys.modules.pop(name, None)


def kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: Any = None,
    p_x: Any = None,
    steps: int = 5,
    range: Any = "all",
    noise: float = 0.1,
    mode: str = "a",
) -> Mapping[str, NDArray[np.float64]]:
    zero = np.zeros(t.shape[:-2])
    return {"I_XT": zero, "I_TY": zero}


ONE_OF_EACH = Estimator(
    name="one-of-each",
    version=1,
    kind="lower",
    summary="for the parameters",
    reference="none",
    kernel=kernel,
    parameters=(
        Integer("steps", "steps", low=1, high=9),
        Interval("range", "a range", words=("all",)),
        Number("noise", "noise", low=0.0, optional=True),
        Choice("mode", "mode", words=("a", "b")),
    ),
)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    """This module under a name that can be imported."""
    module = ModuleType("one_of_each")
    module.estimator = ONE_OF_EACH  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "one_of_each", module)
    return "one_of_each:estimator"


def test_ours() -> None:
    assert "binned" in estimators.available()
    binned = estimators.get("binned")
    assert (binned.name, binned.kind) == ("binned", "exact")
    given = [quantity.name for quantity in binned.quantities]
    assert given == ["I_XT", "I_TY", "H_T", "n_cells", "coverage", "I_XT_se", "I_TY_se"]
    assert binned.resolve({}, PROBE) == {
        "bins": 30,
        "range": (-1.0, 1.0),
        "width": None,
        "rule": "equal",
        "correction": "plugin",
    }


@pytest.mark.parametrize("name", estimators.available())
def test_each_of_ours_keeps_what_it_declares(name: str) -> None:
    estimator = estimators.get(name)
    assert estimator.name == name
    resolved = estimator.resolve({}, PROBE)
    assert list(resolved) == [parameter.name for parameter in estimator.parameters]
    assert estimator.settle(resolved, PROBE) == resolved
    values = estimator(np.zeros((4, 0, 3, 1), np.float32), LABELS)
    assert {key: value.shape for key, value in values.items()} == {q.name: (4, 0) for q in estimator.quantities}


def test_of_another_package(package: Path) -> None:
    assert {"spread", "broken"} <= set(estimators.available())
    for name in ("spread", "spread_package:mine"):
        assert estimators.get(name).version == 3
        assert estimators.estimate(name, T, LABELS, scale=1)["I_XT"] == pytest.approx(1.8)
    assert estimators.get("binned").version == 1
    message = "'broken' failed on import of 'broken_package:mine': ZeroDivisionError: division by zero"
    with pytest.raises(EstimatorError, match=message):
        estimators.get("broken")
    with pytest.raises(UnknownNameError, match=r"no estimator 'absent:x': No module named 'absent'\. Known: "):
        estimators.get("absent:x")


def test_of_another_package_sees_finite_activations_only(package: Path) -> None:
    t = np.stack([T, np.where(T[1] == T, np.nan, T), 2 * T])
    mine = estimators.get("spread")
    values = mine.apply(t, {"p_y_given_x": LABELS.astype(float)}, mine.resolve({}, PROBE))
    np.testing.assert_allclose(values["I_TY"], [1.8, np.nan, 3.6], rtol=1e-6)
    with pytest.raises(ActivationError, match=r"1 of 3 cells, first at index \(1,\); estimator 'spread'"):
        mine(t, LABELS)
    with pytest.raises(ActivationError, match="needs activations but got codes of bins"):
        mine(np.zeros((3, 1), np.uint8), LABELS)


def test_names_that_are_none(package: Path) -> None:
    with pytest.raises(
        UnknownNameError,
        match=r"no estimator 'bined'. Did you mean 'binned'\? Known: binned, broken, discrete, .*, spread, variational",
    ):
        estimators.get("bined")
    for name in (
        "no_such_package:mine",
        "spread_package:yours",
        "spread_package:",
        ":mine",
        "spread_package.deep:mine",
    ):
        with pytest.raises(UnknownNameError, match="no estimator"):
            estimators.get(name)
    with pytest.raises(ParameterError, match="'spread_package:number' is a int; an estimator must be an Estimator"):
        estimators.get("spread_package:number")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("binned", ("binned", {})),
        ("binned:bins=12", ("binned", {"bins": 12})),
        ("binned:bins=12,range=-1..1.5", ("binned", {"bins": 12, "range": (-1.0, 1.5)})),
        ("binned:range=-1e-3...5", ("binned", {"range": (-1e-3, 0.5)})),
        ("binned: range = layer , rule = equal", ("binned", {"range": "layer", "rule": "equal"})),
        ("binned:width=0.1,bins=none", ("binned", {"width": 0.1, "bins": None})),
        ("one_of_each:estimator", ("one_of_each:estimator", {})),
        (
            "one_of_each:estimator:steps=2,range=0..1,noise=none,mode=b",
            ("one_of_each:estimator", {"steps": 2, "range": (0.0, 1.0), "noise": None, "mode": "b"}),
        ),
    ],
)
def test_the_command_line_syntax(here: str, spec: str, expected: tuple[str, dict[str, Any]]) -> None:
    name, params = estimators.parse(spec)
    assert (name, params) == expected
    assert [type(value) for value in params.values()] == [type(value) for value in expected[1].values()]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("bined:bins=3", UnknownNameError, "Did you mean 'binned'"),
        ("binned:bins", UnknownNameError, "no estimator 'binned:bins'"),
        ("binned:bins=", ParameterError, "written binned:parameter=value"),
        ("binned:bins=3,", ParameterError, "written binned:parameter=value"),
        ("binned:bins=3,bins=4", ParameterError, "each once"),
        ("binned:bins=many", ParameterError, r"bins must be an integer in \[1, 65535\] but got 'many'"),
        ("binned:bin=3", ParameterError, "no parameter 'bin'; it has bins, range, width, rule"),
        ("binned:range=1..-1", ParameterError, r"on the command line low..high.*but got '1..-1'"),
        ("binned:range=1..", ParameterError, "range must be"),
        ("binned:rule=none", ParameterError, "rule must be one of"),
        (
            "one_of_each:estimator:noise=-1",
            ParameterError,
            r"noise must be a number in \(0, inf\) but got '-1'",
        ),
    ],
)
def test_command_lines_that_are_refused(here: str, spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        estimators.parse(spec)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"steps": True}, r"steps must be an integer in \[1, 9\] but got True"),
        ({"steps": 10}, "but got 10"),
        ({"steps": None}, "but got None"),
        ({"range": 3}, "range must be two finite numbers, low < high .* or 'all' but got 3"),
        ({"range": (1, 2, 3)}, "range must be"),
        ({"noise": "loud"}, "noise must be a number"),
        ({"mode": ["a"]}, "mode must be one of 'a', 'b'"),
    ],
)
def test_values_of_the_wrong_type(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        ONE_OF_EACH.resolve(params, PROBE)
    assert ONE_OF_EACH.resolve({"steps": np.int16(3), "range": [0, 1]}, PROBE)["range"] == (0.0, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": T[:2]}, r"t has 2 samples \(shape \(2, 1\)\) but p_y_given_x has 3"),
        ({"t": T[0]}, r"\(..., sample, unit\) array but has shape \(1,\)"),
        ({"t": T[:, :0]}, "but has shape"),
        ({"p_y_given_x": [0, 0, 1]}, r"non-empty \(sample, class\) array but has shape \(3,\)"),
        ({"p_y_given_x": np.ones((3, 2))}, "rows of p_y_given_x must sum to one but one sums to 2"),
        ({"p_y_given_x": LABELS * 1.5 - 0.25}, "must hold probabilities"),
        ({"p_y_given_x": np.full((3, 2), np.nan)}, "must hold probabilities"),
        ({"p_y_given_x": np.ones((3, 1))}, "one class only"),
        ({"p_y_given_x": [[1, 0], [1, 0], [1, 0]]}, "one class only"),
        ({"p_x": [0.5, 0.5, 0.0]}, "one class only"),
        ({"p_x": [0.5, 0.5]}, r"p_x must have one entry per sample \(3\) but has shape \(2,\)"),
        ({"p_x": [0.5, 0.5, 0.5]}, "p_x must sum to one but one sums to 1.5"),
        ({"p_x": [0.75, 0.5, -0.25]}, "p_x must hold probabilities"),
        ({"x_id": [0, 1]}, r"x_id must have one entry per sample \(3\)"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "estimator",
    [estimators.get(name) for name in estimators.available()] + [ONE_OF_EACH],
    ids=lambda e: str(e.name),
)
def test_arrays_that_are_refused(estimator: Estimator, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        estimator(**({"t": T, "p_y_given_x": LABELS} | change))


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.complex64, np.str_])
def test_activations_of_no_number(dtype: type) -> None:
    with pytest.raises(ActivationError, match="must be float16, float32 or float64"):
        estimators.estimate("binned", T.astype(dtype), LABELS)


@pytest.mark.long
def test_import_pays_for_neither_numba_nor_torch_nor_holoviews() -> None:
    heavy = {"torch", "numba", "holoviews", "bokeh", "matplotlib", "distributed"}
    code = f"import sys, ipstore.analysis as a; a.estimators.get('binned'); print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
