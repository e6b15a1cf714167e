"""The closer looks of the training dashboard, without a browser."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hands import click, message, share
from records import EVALUATED, Scripted, record, wait_until
from torch import nn
from toy import Toy, ToyTwin

from pnnlab.background import Session
from pnnlab.gradients import physics_aware
from pnnlab.layers import PhysicalLayer, Rescale
from pnnlab.physical_system import Cost
from pnnlab.training import FitSettings, Reference, Refit, Training
from pnnlab.views import TrainingDashboard
from pnnlab.views.dashboard import details
from pnnlab.views.dashboard.details import (
    AlignmentSection,
    ConfusionSection,
    CostSection,
    DeviceAction,
    DriftSection,
    LimitsSection,
    RateSection,
    joules,
    limit_panels,
    powered,
    seconds,
)

LOOKS = ["Confusion", "Gradients", "Drift and refit", "Limits", "Time and energy", "Learning rate"]


def made(*, twin: bool = True, physical: bool = True) -> Training:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 6, generator=generator)
    split = SimpleNamespace(x=x, targets=(x[:, 0] > x[:, 1]).long())
    layers: list[nn.Module] = [
        PhysicalLayer(Toy(), ToyTwin(), physics_aware, encoding=Rescale(6), seed=seed)
        for seed in range(2)
    ]
    if not physical:
        layers = []
    network = nn.Sequential(*layers, nn.Linear(6, 2))
    settings = FitSettings(epochs=3, batch_size=20, evaluations=3, warmup=0)
    training = Training(network, SimpleNamespace(train=split, validation=split), settings)
    for layer in layers:
        layer.twin = layer.twin if twin else None
    return training


@pytest.fixture
def training() -> Training:
    return made()


@pytest.fixture
def session(training: Training) -> Session:
    session = Session(training).start()
    session.join()
    return session


@pytest.fixture
def dashboard(session: Session) -> Iterator[TrainingDashboard]:
    dashboard = TrainingDashboard(session, classes=("left", "<right>"))
    yield dashboard
    dashboard.close()


def unfold(dashboard: TrainingDashboard, name: str) -> object:
    assert dashboard.looking is not None
    message(dashboard.looking.folds, {"unfold": name})
    return dashboard.looking.made[name]


def asked(asking: DeviceAction, said: str) -> None:
    click(asking.button)
    wait_until(lambda: not asking.button.disabled, 20)
    assert said in asking.said.value, asking.said.value


def test_at_first_nothing_is_unfolded_and_nothing_is_made(dashboard: TrainingDashboard) -> None:
    looking = dashboard.looking
    assert looking is not None
    assert looking.folds.names == LOOKS
    assert (looking.folds.unfolded, looking.made, looking.widget.children[1].children) == (
        "",
        {},
        (),
    )
    unfold(dashboard, "Limits")
    assert list(looking.made) == ["Limits"]
    message(looking.folds, {"unfold": ""})
    assert looking.widget.children[1].children == ()


def test_a_session_that_does_not_know_its_training_is_shown_as_before() -> None:
    assert TrainingDashboard(Session(Scripted([record(1)]))).looking is None


def test_a_network_without_twin_or_device_offers_what_it_has() -> None:
    for training, names in (
        (made(twin=False), [name for name in LOOKS if name != "Gradients"]),
        (made(physical=False), ["Confusion", "Learning rate"]),
    ):
        looking = TrainingDashboard(Session(training)).looking
        assert looking is not None
        assert looking.folds.names == names
        for name in names:
            message(looking.folds, {"unfold": name})
        assert list(looking.made) == names


def test_confusion_is_asked_of_the_device_or_of_the_twin(
    dashboard: TrainingDashboard, training: Training
) -> None:
    closer = unfold(dashboard, "Confusion")
    assert isinstance(closer, ConfusionSection)
    assert "80 device passes" in closer.on_device.button.description
    before = training.device_passes
    asked(closer.on_device, "step 6, 80 device passes")
    assert training.device_passes - before == 80
    assert closer.view is not None
    assert closer.view.classes == ["left", "<right>"]
    assert np.sum(closer.view.matrix) == 40
    assert "on the device" in closer.view.title
    assert "no device passes" in closer.on_twin.button.description
    asked(closer.on_twin, "no device passes")
    assert training.device_passes - before == 80
    assert "on the twin" in closer.view.title


def test_gradients_are_compared_at_the_cost_that_the_button_says(
    dashboard: TrainingDashboard, training: Training
) -> None:
    closer = unfold(dashboard, "Gradients")
    assert isinstance(closer, AlignmentSection)
    before = training.device_passes
    asked(closer.asking, "step 6: cosine")
    spent = training.device_passes - before
    assert f"({spent} device passes)" in closer.asking.button.description
    cosine, _ = closer._grid.panels
    assert [(line["label"], line["n"]) for line in cosine["lines"]] == [
        ("layer 1", 1),
        ("layer 2", 1),
    ]


def test_gradients_are_sampled_while_the_training_runs(training: Training) -> None:
    session = Session(training)
    dashboard = TrainingDashboard(session)
    closer = unfold(dashboard, "Gradients")
    assert isinstance(closer, AlignmentSection)
    closer.every.value = 1
    dashboard.refresh()
    assert closer._samples == [], "there was no evaluation yet"
    session.start()
    session.join()
    dashboard.refresh()
    wait_until(lambda: len(closer._samples) >= 1, 20)
    wait_until(lambda: not closer.asking.button.disabled, 20)
    taken = len(closer._samples)
    dashboard.refresh()
    assert not closer.asking.button.disabled, "once for each evaluation"
    assert len(closer._samples) == taken
    dashboard.close()


def test_drift_is_told_from_what_was_remembered(
    dashboard: TrainingDashboard, training: Training
) -> None:
    closer = unfold(dashboard, "Drift and refit")
    assert isinstance(closer, DriftSection)
    assert closer.compare.button.disabled, "nothing is remembered"
    before = training.device_passes
    asked(closer.remember, "remembered at step 6")
    assert f"({training.device_passes - before} device passes)" in (
        closer.remember.button.description
    )
    asked(closer.compare, "no drift beyond noise")
    training.systems[0].drift = 1e-3  # from here on its gain runs away
    asked(closer.compare, "layer 1: ")
    assert [line["n"] for line in closer._grid.panels[0]["lines"]] == [2, 2]


def test_references_of_the_fit_are_compared_with_at_once(session: Session) -> None:
    assert session.training is not None
    references = [
        Reference.take(system, torch.rand(4, 6), torch.rand(36), 2)
        for system in session.training.systems
    ]
    closer = unfold(TrainingDashboard(session, references=references), "Drift and refit")
    assert isinstance(closer, DriftSection)
    assert "(16 device passes)" in closer.compare.button.description
    asked(closer.compare, "16 device passes")


def test_a_refit_says_what_it_achieved_or_why_not(
    dashboard: TrainingDashboard, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    closer = unfold(dashboard, "Drift and refit")
    assert isinstance(closer, DriftSection)
    assert len(closer.refits) == 2
    asked(closer.refits[1], "give it a PhysicsTwin or a NeuralTwin")
    assert 'role="alert"' in closer.refits[1].said.value
    given = []

    def refit(layer: PhysicalLayer, *, shots: int, x: torch.Tensor, seed: int) -> Refit:
        given.append((layer, shots, tuple(x.shape)))
        return Refit(nmse_before=0.5, nmse_after=0.125, ceiling=0.1, device_passes=400)

    monkeypatch.setattr(details, "refit", refit)
    asked(closer.refits[1], "NMSE 0.5 → 0.125")
    ((_, noted),) = training.notes  # a run keeps it in its journal
    assert noted.startswith("the twin of layer 2 was fitted anew: NMSE 0.5 → 0.125")
    assert given == [(training.network[1], 200, (40, 6))]


def test_limits_follow_the_evaluations(dashboard: TrainingDashboard) -> None:
    closer = unfold(dashboard, "Limits")
    assert isinstance(closer, LimitsSection)
    assert [panel["lines"][1]["n"] for panel in closer._grid.panels] == [3, 3]
    fields = EVALUATED | {"theta_at_limits": (0.25, 0.0), "stuck": (0.5, 0.125)}
    theta, stuck = limit_panels([record(5, **EVALUATED), record(10, **fields)])
    assert [line.y.tolist() for line in theta.lines] == [[25], [0]]
    assert [line.y.tolist() for line in stuck.lines] == [[50], [12.5]]
    assert theta.unit == "%"
    assert limit_panels([record(5, **EVALUATED)])[0].note == "shown at the first evaluation"


def test_the_learning_rate_is_changed_and_a_wrong_factor_refused(training: Training) -> None:
    session = Session(training)
    dashboard = TrainingDashboard(session)
    closer = unfold(dashboard, "Learning rate")
    assert isinstance(closer, RateSection)
    plot = closer._grid
    first = np.frombuffer(plot.points, "<f4")[60]
    click(closer.half)
    wait_until(lambda: "0.5 times" in closer.said.value)
    assert training.rate_scale == 0.5
    wait_until(lambda: np.frombuffer(plot.points, "<f4")[60] == pytest.approx(first / 2))
    share(closer.factor, value=-1.0)
    click(closer.apply)
    wait_until(lambda: 'role="alert"' in closer.said.value)
    assert "-1" in closer.said.value
    assert training.rate_scale == 0.5
    session.start()
    session.join()
    dashboard.refresh()
    assert closer.double.disabled, "there is no step to come"
    dashboard.close()


def test_costs_stand_beside_what_they_assume(dashboard: TrainingDashboard) -> None:
    closer = unfold(dashboard, "Time and energy")
    assert isinstance(closer, CostSection)
    shown = closer._table.value
    assert "not known" in shown
    assert "How long a shot of toy takes is not known" in shown
    assert "pJ each" in shown
    share(closer.power, value=20.0)
    assert "A power is no energy without the time of a shot" in closer._table.value


def test_the_power_of_the_bench_gives_the_energy(session: Session) -> None:
    cost = Cost(seconds_per_pass=0.5, joules_per_pass=None, assumptions="A <guess>.", source="me")
    closer = unfold(TrainingDashboard(session, costs=[cost, cost]), "Time and energy")
    assert isinstance(closer, CostSection)
    assert "not known" in closer._table.value
    assert "A &lt;guess&gt;." in closer._table.value
    share(closer.power, value=20.0)
    assert "not known" not in closer._table.value
    assert "<td>2</td><td>1.0 s</td><td>20.0 J</td>" in closer._table.value
    assert "20 W, entered here" in closer._table.value
    assert powered([cost], 0.0) == [cost]


@pytest.mark.parametrize(
    ("value", "time", "energy"),
    [
        (None, "not known", "not known"),
        (0, "0.0 s", "0 J"),
        (2.5e-5, "25.0 µs", "25.0 µJ"),
        (2.0, "2.0 s", "2.00 J"),
        (4000.0, "1 h 06 min", "4.00 kJ"),
    ],
)
def test_times_and_energies_have_units_to_read(value: float | None, time: str, energy: str) -> None:
    assert (seconds(value), joules(value)) == (time, energy)
