"""Claims, on evidence that was made so that the answer is plain: what was planted is what is found, and judged."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import xarray as xr

from ipstore.analysis.ib import critical_betas, joint, point, reduce
from ipstore.analysis.probe import Probe
from ipstore.analysis.reproduction import CLAIMS, PAPER_FIGURES, Evidence, verdict
from ipstore.trainers.experiments import experiments
from ipstore.trainers.tasks import load

SEEDS, LAST = 8, 1000
EPOCHS = np.unique(np.geomspace(1, LAST + 1, 150).astype(int) - 1)
LAYERS = ["layer1", "layer2", "output"]


def jitter(place: int) -> np.ndarray:
    """Factors near 1, other ones for every seed, whose geometric mean is 1."""
    return np.exp(np.roll(np.linspace(-0.05, 0.05, SEEDS), place))


def labelled(values: Any, *dims: str) -> xr.DataArray:
    coords: dict[str, Any] = {"epoch": EPOCHS, "seed": np.arange(SEEDS), "layer": LAYERS, "split": ["train", "test"]}
    return xr.DataArray(values, dims=dims, coords={dim: coords[dim] for dim in dims})


def falling(onset: float, bits: Mapping[str, float], tau: float = 100) -> xr.Dataset:
    """A plane whose layers rise to 10 bits and lose some of them from an epoch on, exponentially."""
    layers = []
    for place, layer in enumerate(LAYERS):
        after = np.clip(EPOCHS[:, None] - onset * jitter(place), 0, None)
        rise = np.minimum(1, (EPOCHS[:, None] + 1) / onset)
        layers.append(9 + rise - bits.get(layer, 0.0) * (1 - np.exp(-after / tau)))
    I_XT = labelled(np.stack(layers, axis=-1), "epoch", "seed", "layer").assign_attrs(kind="exact")
    return xr.Dataset({"I_XT": I_XT, "I_TY": xr.zeros_like(I_XT)})


def trained(crossing: float | None, bend: float, reached: float = 10.0, learns: int = SEEDS) -> xr.Dataset:
    """Training whose gradients cross 1, whose loss bends, and whose accuracy reaches 0.9 at planted epochs."""
    epoch = np.maximum(EPOCHS, 1)[:, None]
    ratio = np.full((len(EPOCHS), SEEDS), np.inf) if crossing is None else crossing * jitter(1) / epoch
    mean = np.repeat(np.minimum(ratio, 10.0)[..., None], len(LAYERS), axis=-1)
    deviation = np.zeros_like(mean) if crossing is None else np.ones_like(mean)
    loss = np.where(epoch < bend, 1 - 0.9 * epoch / bend, 0.1) * np.ones(SEEDS)
    accuracy = np.where(epoch >= reached * jitter(2), 0.95, 0.5)
    accuracy[:, learns:] = 0.5
    both = np.stack([accuracy, accuracy], axis=-1)
    return xr.Dataset(
        {
            "grad_mean_norm": labelled(mean, "epoch", "seed", "layer"),
            "grad_std_norm": labelled(deviation, "epoch", "seed", "layer"),
            "loss": labelled(np.stack([loss, loss], axis=-1), "epoch", "seed", "split"),
            "accuracy": labelled(both, "epoch", "seed", "split"),
        }
    )


@cache
def labels() -> Probe:
    return reduce(joint(None, load("rule", information=0.99).p_y_given_x))


@cache
def critical_points() -> xr.Dataset:
    return critical_betas(labels(), 100)


class Planted(Evidence):
    """Evidence that is read from no store."""

    def __init__(
        self,
        runs: Mapping[str, Mapping[str, Any]],
        planes: Mapping[str, xr.Dataset] | None = None,
        trainings: Mapping[str, xr.Dataset] | None = None,
        converged: Mapping[str, xr.Dataset] | None = None,
    ) -> None:
        self._configs, self._planes = runs, planes or {}
        self._trainings, self._ends = trainings or {}, converged or {}

    def runs(self, experiment: str) -> list[str]:
        return [run for run in self._configs if run.partition("-")[0] == experiment]

    def run(self, name: str) -> xr.DataTree:
        config = {"optimizer": "sgd", "learning_rate": 0.2, "batch_size": 512, **self._configs[name]}
        return xr.DataTree(xr.Dataset(coords={"epoch": EPOCHS}, attrs={"config": config}), name=name)

    def planes(self, run: str, asks: Sequence[str], **view: Any) -> list[xr.Dataset]:
        return [self._planes[run]] * len(asks)

    def training(self, run: str) -> xr.Dataset:
        return self._trainings[run]

    def converged(self, run: str) -> xr.Dataset:
        return self._ends[run]

    def joint(self, run: str) -> Probe:
        return labels()

    def critical_betas(self, run: str) -> xr.Dataset:
        return critical_points()


def judge(name: str, evidence: Evidence) -> str:
    return str(verdict(CLAIMS[name].find(evidence)))


BOTH = {"layer1": 0.0, "layer2": 4.0, "output": 2.0}


def test_most_epochs_go_to_compression_where_they_do() -> None:
    long, short = falling(20, BOTH, tau=100), falling(600, BOTH, tau=20)
    runs: dict[str, dict[str, Any]] = {"networks": {"optimizer": "adam"}, "rates-a": {"learning_rate": 0.05}}
    training = dict.fromkeys(runs, trained(20, 20))
    assert judge("most-epochs", Planted(runs, dict.fromkeys(runs, long), training)) == "supported"
    assert judge("most-epochs", Planted(runs, dict.fromkeys(runs, short), training)) == "not supported"
    mixed = Planted(runs, {"networks": long, "rates-a": short}, training)
    assert judge("most-epochs", mixed) == "depends on optimiser and learning rate"
    (found, _) = CLAIMS["most-epochs"].find(mixed)
    # From 20 epochs plus -ln(0.95) time constants on, until exp(-t / 100) is 0.05.
    assert found.numbers["onset"].value == pytest.approx(25, abs=2)
    assert found.numbers["end of compression"].value == pytest.approx(320, rel=0.06)
    assert found.numbers["share of epochs to rest"].value == pytest.approx(295 / 320, abs=0.02)
    assert "layer1" not in found.remark
    assert "layer2" in found.remark


def test_without_compression_most_epochs_do_not_go_to_it() -> None:
    runs: dict[str, dict[str, Any]] = {"networks": {}, "rates-a": {}}
    flat = Planted(runs, dict.fromkeys(runs, falling(20, {})), dict.fromkeys(runs, trained(20, 20)))
    assert judge("most-epochs", flat) == "not supported"
    assert all(finding.remark == "no layer compresses" for finding in CLAIMS["most-epochs"].find(flat))


@pytest.mark.parametrize(
    ("crossing", "bend", "word"),
    [
        (70, 70, "depends on onset"),
        (40, 40, "supported"),
        (5, 40, "not supported"),
        (40, 5, "not supported"),
        (None, 40, "not supported"),
    ],
)
def test_the_transition_must_meet_both_the_crossing_and_the_change_of_the_error(
    crossing: float | None, bend: float, word: str
) -> None:
    # Of a fall that begins at 20, 5% are reached after -ln(0.95) time constants, at 25, and 40% after -ln(0.6), at 71.
    runs: dict[str, dict[str, Any]] = {"networks": {}, "rates-a": {"learning_rate": 0.05}}
    plane, training = falling(20, BOTH, tau=100), trained(crossing, bend)
    evidence = Planted(runs, dict.fromkeys(runs, plane), dict.fromkeys(runs, training))
    assert judge("transition", evidence) == word
    first, found = CLAIMS["transition"].find(evidence)[:2]
    assert first.numbers["onset"].value == pytest.approx(25, rel=0.05)
    assert found.numbers["onset"].value == pytest.approx(71, rel=0.05)
    if crossing is None:
        assert "never pass to diffusion" in found.remark
    else:
        assert found.numbers["crossing"].value == pytest.approx(crossing, rel=0.1)
        assert found.numbers["onset by crossing"].value == pytest.approx(71 / crossing, rel=0.12)


def ends(**of_layers: tuple[float, float, float]) -> xr.Dataset:
    """I(X;T), its distance from the curve and residual as one share of it, and beta*, of every layer."""
    spread = jitter(0)[:, None]
    I_XT, share, beta = (np.array(each) for each in zip(*(of_layers[layer] for layer in LAYERS), strict=True))
    names = ("I_XT", "IB_distance_I_XT", "residual", "IB_distance_I_TY", "beta")
    values = (I_XT * spread, I_XT * share * spread, I_XT * share * spread**2, 0 * spread * I_XT, beta + 0 * spread)
    return xr.Dataset({name: labelled(value, "seed", "layer") for name, value in zip(names, values, strict=True)})


def test_layers_are_on_the_curve_where_what_they_carry_too_much_is_little() -> None:
    runs: dict[str, dict[str, Any]] = {"networks": {}}
    near, far = (1.0, 0.02, 46.6), (10.0, 0.8, 3.0)
    all_near = Planted(runs, converged={"networks": ends(layer1=near, layer2=near, output=near)})
    mixed = Planted(runs, converged={"networks": ends(layer1=far, layer2=far, output=near)})
    all_far = Planted(runs, converged={"networks": ends(layer1=far, layer2=far, output=far)})
    words = ["supported", "depends on layer", "not supported"]
    assert [judge("optimal", evidence) for evidence in (all_near, mixed, all_far)] == words
    assert [judge("critical", evidence) for evidence in (all_near, mixed, all_far)] == words


def test_a_layer_on_the_curve_need_not_be_near_a_critical_point() -> None:
    runs: dict[str, dict[str, Any]] = {"networks": {}}
    between = 1.0085  # 0.59 bits, where the critical points lie at 0, 1.0 and 1.06 bits
    assert 0.5 < float(point(labels(), between)["I_XT"]) < 0.7
    evidence = Planted(runs, converged={"networks": ends(**dict.fromkeys(LAYERS, (0.6, 0.02, between)))})
    assert judge("optimal", evidence) == "supported"
    assert judge("critical", evidence) == "not supported"
    found = CLAIMS["critical"].find(evidence)[0].numbers["between them on the curve"]
    assert found.value == pytest.approx(1 - float(point(labels(), between)["I_XT"]), abs=0.01)


@pytest.mark.parametrize(("shallow", "word"), [(100, "supported"), (12, "not supported")])
def test_depth_shortens_training_where_one_layer_takes_twice_as_long_as_five(shallow: float, word: str) -> None:
    epochs = {1: shallow, 2: 40.0, 3: 30.0, 4: 20.0, 5: 10.0, 6: 8.0}
    runs = {f"depths-{depth}": {"hidden": [3] * depth} for depth in epochs}
    evidence = Planted(runs, trainings={f"depths-{depth}": trained(5, 5, each) for depth, each in epochs.items()})
    evidence.runs = lambda experiment: list(runs)  # type: ignore[method-assign]  # both sweeps are the same
    findings = CLAIMS["depth"].find(evidence)
    assert str(verdict(findings)) == word
    assert findings[0].numbers["1 by 5 hidden layers"].value == pytest.approx(shallow / 10, rel=0.15)
    assert findings[0].numbers["rank correlation with depth"].value < (-0.9 if shallow == 100 else 0)


def test_networks_that_never_generalise_count_as_the_whole_training() -> None:
    runs = {f"depths-{depth}": {"hidden": [3] * depth} for depth in (1, 5)}
    never = trained(5, 5, 10 * LAST)
    evidence = Planted(runs, trainings={"depths-1": never, "depths-5": trained(5, 5, 10)})
    evidence.runs = lambda experiment: list(runs)  # type: ignore[method-assign]
    (found, _) = CLAIMS["depth"].find(evidence)
    assert found.numbers["1 hidden"].value == pytest.approx(LAST)
    assert f"1 hidden: 8 of 8 not within {LAST:,} epochs" in found.remark


def test_the_output_does_not_count_as_a_layer_that_compresses() -> None:
    runs: dict[str, dict[str, Any]] = {"batches-512": {}, "batches-full": {"batch_size": None}}
    planes = {"batches-512": falling(20, BOTH), "batches-full": falling(20, {"output": 5.0})}
    evidence = Planted(runs, planes, dict.fromkeys(runs, trained(5, 5)))
    assert judge("batches", evidence) == "depends on batch"
    small, full = CLAIMS["batches"].find(evidence)
    assert small.numbers["layer2"].value == pytest.approx(4, rel=0.01)
    assert full.numbers["output"].value == pytest.approx(5, rel=0.01)
    assert (small.holds, full.holds) == (True, False)


def test_networks_that_did_not_learn_are_left_out() -> None:
    runs: dict[str, dict[str, Any]] = {"batches-512": {}}
    plane = falling(20, {})
    dead = plane["I_XT"].where(plane["seed"] < 6, falling(20, BOTH)["I_XT"])
    evidence = Planted(runs, {"batches-512": plane.assign(I_XT=dead)}, {"batches-512": trained(5, 5, learns=6)})
    (found,) = CLAIMS["batches"].find(evidence)
    assert found.holds is False
    assert found.remark == "2 of 8 networks did not learn"


@pytest.mark.parametrize(("slope", "word"), [(np.log(2), "supported"), (0.0, "not supported")])
def test_relaxation_is_exponential_where_each_bit_doubles_the_time(slope: float, word: str) -> None:
    bits = {"layer1": 2.0, "layer2": 3.0, "output": 4.0}
    layers = [
        falling(20, {layer: lost}, tau=30 * np.exp(slope * (lost - 2))).sel(layer=layer) for layer, lost in bits.items()
    ]
    plane = xr.concat(layers, "layer", coords="minimal", compat="override").transpose("epoch", "seed", "layer")
    runs: dict[str, dict[str, Any]] = {"networks": {}}
    evidence = Planted(runs, {"networks": plane})
    assert judge("relaxation", evidence) == word
    (found,) = CLAIMS["relaxation"].find(evidence)
    assert found.numbers["slope for each bit"].value == pytest.approx(slope, abs=0.05)
    assert found.numbers["layers"].value == 3


@pytest.mark.parametrize(
    ("little", "much", "word"),
    [(0.2, 0.0, "supported"), (0.2, 0.2, "depends on training data"), (0, 0.2, "not supported")],
)
def test_little_data_must_lose_the_label_and_much_data_keep_it(little: float, much: float, word: str) -> None:
    runs = {f"fractions-{fraction}": {"train_fraction": fraction} for fraction in (0.05, 0.45, 0.85)}
    planes = {}
    for run, lost in zip(runs, (little, 1.0, much), strict=True):
        I_TY = falling(20, {"layer2": lost})["I_XT"] - 9  # up to 1 bit, and down again
        planes[run] = xr.Dataset({"I_XT": I_TY, "I_TY": I_TY})
    evidence = Planted(runs, planes)
    assert judge("forgetting", evidence) == word
    first, last = CLAIMS["forgetting"].find(evidence)
    assert first.numbers["layer2"].value == pytest.approx(little, abs=0.01)
    assert last.numbers["layer2"].value == pytest.approx(much, abs=0.01)


def test_claims_and_figures_name_experiments_and_figures_that_there_are() -> None:
    for quick in (False, True):
        known = experiments(quick)
        for claim in CLAIMS.values():
            assert set(claim.experiments) <= known.keys()
            assert set(claim.figures) <= PAPER_FIGURES.keys()
            assert all((claim.title, claim.sentence, claim.source, claim.measure, claim.rule))
        for figure in PAPER_FIGURES.values():
            assert set(figure.experiments) <= known.keys()
