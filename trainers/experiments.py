"""The trainings from which the paper's figures are drawn and its claims measured.

An experiment is a run, or a sweep of runs, under a recipe. That of the code which the paper's authors published is Adam
at 4e-4 in batches of 512; SGD at several rates stands beside it, since much of what is claimed was seen to depend on
that. Each experiment has a quick form, with fewer networks and epochs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ipstore.sweeps import Sweep, Value
from ipstore.trainers.config import TrainConfig

__all__ = ["Experiment", "Quick", "experiments"]

_RULE = ("rule", {"information": 0.99})
_ADAM = TrainConfig(optimizer="adam", learning_rate=4e-4, epochs=10_000)
_SGD = TrainConfig(optimizer="sgd", learning_rate=0.2, epochs=10_000)
_DEPTHS = ((10,), (10, 7), (10, 7, 5), (10, 7, 5, 4), (10, 7, 5, 4, 3), (12, 10, 7, 5, 4, 3))


@dataclass(frozen=True)
class Quick:
    """What differs in the quick form of an experiment.

    Attributes
    ----------
    seeds, epochs, captured : int
    axes : mapping of str to sequence
        Fewer values along some axes.
    """

    seeds: int
    epochs: int
    captured: int
    axes: Mapping[str, Sequence[Value]] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """Networks to be trained.

    Parameters
    ----------
    name : str
        Of the run, or of the sweep if there are axes.
    config : TrainConfig
    seeds : int
    captured : int
        About so many epochs are captured, evenly spaced on a logarithmic scale.
    quick : Quick
    task : (str, mapping)
        As `ipstore.trainers.tasks.load` takes it.
    axes : mapping of str to sequence
        Settings that vary, with their values.
    """

    name: str
    config: TrainConfig
    seeds: int
    captured: int
    quick: Quick
    task: tuple[str, Mapping[str, Any]] = _RULE
    axes: Mapping[str, Sequence[Value]] = field(default_factory=dict)

    @property
    def runs(self) -> dict[str, TrainConfig]:
        """The runs by name, with their configurations."""
        if not self.axes:
            return {self.name: self.config}
        sweep = Sweep(self.name, {axis: tuple(values) for axis, values in self.axes.items()})
        return {name: replace(self.config, **at) for name, at in sweep.runs().items()}  # type: ignore[arg-type]  # TrainConfig checks

    @property
    def networks(self) -> int:
        """Number of networks, over all runs."""
        return self.seeds * len(self.runs)

    def in_quick_form(self) -> "Experiment":
        """Give the experiment with fewer networks and epochs."""
        quick = self.quick
        return replace(
            self,
            config=replace(self.config, epochs=quick.epochs),
            seeds=quick.seeds,
            captured=quick.captured,
            axes={**self.axes, **quick.axes},
        )


_ALL = (
    Experiment("networks", _ADAM, 50, 400, Quick(20, 3000, 120)),
    Experiment("rates", _SGD, 50, 400, Quick(10, 2000, 120), axes={"learning_rate": (0.2, 0.05, 0.01)}),
    Experiment(
        "fractions",
        _ADAM,
        50,
        200,
        Quick(10, 2000, 60, {"train_fraction": (0.05, 0.15, 0.45, 0.85)}),
        axes={"train_fraction": (0.03, 0.05, 0.08, 0.15, 0.25, 0.35, 0.45, 0.55, 0.7, 0.85)},
    ),
    Experiment("depths", _ADAM, 50, 200, Quick(10, 1500, 80), axes={"hidden": _DEPTHS}),
    Experiment("depths-sgd", _SGD, 50, 200, Quick(8, 1500, 80), axes={"hidden": _DEPTHS}),
    Experiment("activations", _SGD, 50, 100, Quick(10, 2000, 60), axes={"activation": ("tanh", "hard_tanh", "relu")}),
    Experiment("batches", _SGD, 20, 100, Quick(8, 4000, 60), axes={"batch_size": (512, None)}),
    Experiment("estimators", _SGD, 10, 40, Quick(6, 2000, 24)),
    Experiment(
        "digits",
        TrainConfig(hidden=(20, 10, 6, 4), learning_rate=0.1, batch_size=128, epochs=300),
        50,
        100,
        Quick(10, 300, 60),
        task=("digits", {}),
        axes={"activation": ("tanh", "relu")},
    ),
)


def experiments(quick: bool = False) -> dict[str, Experiment]:
    """Give all experiments by name.

    Parameters
    ----------
    quick : bool
        In their quick forms.

    Returns
    -------
    dict of str to Experiment
    """
    return {each.name: each.in_quick_form() if quick else each for each in _ALL}
