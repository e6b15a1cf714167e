"""The sections of the training dashboard, without a browser."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hands import click, share
from records import EVALUATED, Scripted, record, wait_until
from torch import nn
from toy import Toy, ToyTwin

from pnnlab.background import Session
from pnnlab.gradients import physics_aware
from pnnlab.layers import PhysicalLayer, Rescale, physical_layers
from pnnlab.physical_system import Cost
from pnnlab.training import FitSettings, Reference, Refit, Training
from pnnlab.views import TrainingDashboard, sections
from pnnlab.views.sections import (
    AlignmentSection,
    ConfusionSection,
    CostSection,
    DeviceAction,
    DriftSection,
    LimitsSection,
    RateSection,
    limit_plots,
    powered,
    scaled,
    seconds,
)

NAMES = ["Confusion", "Gradients", "Drift and refit", "Limits", "Time and energy", "Learning rate"]


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
    assert dashboard.sections is not None
    share(dashboard.sections.folds, value=name)
    return dashboard.sections.opened[name]


def asked(asking: DeviceAction, said: str) -> None:
    click(asking.button)
    wait_until(lambda: not asking.button.disabled, 20)
    assert said in asking.message.value, asking.message.value


def test_at_first_nothing_is_unfolded_and_nothing_is_made(dashboard: TrainingDashboard) -> None:
    shown = dashboard.sections
    assert shown is not None
    assert shown.folds.options == [[name, name] for name in NAMES]
    assert (shown.folds.value, shown.opened) == ("", {})
    assert shown.widget.children[1].children == ()
    unfold(dashboard, "Limits")
    assert list(shown.opened) == ["Limits"]
    share(shown.folds, value="")
    assert shown.widget.children[1].children == ()


def test_a_session_that_does_not_know_its_training_is_shown_as_before() -> None:
    assert TrainingDashboard(Session(Scripted([record(1)]))).sections is None


def test_a_network_without_twin_or_device_offers_what_it_has() -> None:
    for training, names in (
        (made(twin=False), [name for name in NAMES if name != "Gradients"]),
        (made(physical=False), ["Confusion", "Learning rate"]),
    ):
        shown = TrainingDashboard(Session(training)).sections
        assert shown is not None
        assert [name for name, _ in shown.folds.options] == names
        for name in names:
            share(shown.folds, value=name)
        assert list(shown.opened) == names


def test_confusion_is_asked_of_the_device_or_of_the_twin(
    dashboard: TrainingDashboard, training: Training
) -> None:
    section = unfold(dashboard, "Confusion")
    assert isinstance(section, ConfusionSection)
    assert "80 device passes" in section.on_device.button.description
    before = training.device_passes
    asked(section.on_device, "step 6, 80 device passes")
    assert training.device_passes - before == 80
    assert section.view is not None
    assert section.view.classes == ["left", "<right>"]
    assert np.sum(section.view.matrix) == 40
    assert "on the device" in section.view.title
    assert "no device passes" in section.on_twin.button.description
    asked(section.on_twin, "no device passes")
    assert training.device_passes - before == 80
    assert "on the twin" in section.view.title


def test_gradients_are_compared_at_the_cost_that_the_button_says(
    dashboard: TrainingDashboard, training: Training
) -> None:
    section = unfold(dashboard, "Gradients")
    assert isinstance(section, AlignmentSection)
    before = training.device_passes
    asked(section.compare, "step 6: cosine")
    spent = training.device_passes - before
    assert f"({spent} device passes)" in section.compare.button.description
    cosine, _ = section._grid.panels
    assert [(line["label"], line["n"]) for line in cosine["lines"]] == [
        ("layer 1", 1),
        ("layer 2", 1),
    ]


def test_gradients_are_sampled_while_the_training_runs(training: Training) -> None:
    session = Session(training)
    dashboard = TrainingDashboard(session)
    section = unfold(dashboard, "Gradients")
    assert isinstance(section, AlignmentSection)

    def taken() -> int:
        return len(next(iter(section._results.values())))

    section.every.value = 1
    dashboard.refresh()
    assert taken() == 0, "there was no evaluation yet"
    session.start()
    session.join()
    dashboard.refresh()
    wait_until(lambda: taken() >= 1, 20)
    wait_until(lambda: not section.compare.button.disabled, 20)
    before = taken()
    dashboard.refresh()
    assert not section.compare.button.disabled, "once for each evaluation"
    assert taken() == before
    dashboard.close()


def test_drift_is_told_from_what_was_remembered(
    dashboard: TrainingDashboard, training: Training
) -> None:
    section = unfold(dashboard, "Drift and refit")
    assert isinstance(section, DriftSection)
    assert section.compare.button.disabled, "nothing is remembered"
    before = training.device_passes
    asked(section.remember, "remembered at step 6")
    assert f"({training.device_passes - before} device passes)" in (
        section.remember.button.description
    )
    asked(section.compare, "no drift beyond noise")
    assert not training.notes
    training.systems[0].drift = 1e-3  # from here on its gain runs away
    asked(section.compare, "layer 1: ")
    assert training.notes[-1][1].startswith("drift beyond noise, layer 1: ")  # in the journal
    assert [line["n"] for line in section._grid.panels[0]["lines"]] == [2, 2]


def test_references_of_the_fit_are_compared_with_at_once(session: Session) -> None:
    assert session.training is not None
    references = [
        Reference.take(system, torch.rand(4, 6), torch.rand(36), 2)
        for system in session.training.systems
    ]
    section = unfold(TrainingDashboard(session, references=references), "Drift and refit")
    assert isinstance(section, DriftSection)
    assert "(16 device passes)" in section.compare.button.description
    asked(section.compare, "16 device passes")


def test_a_refit_says_what_it_achieved_or_why_not(
    dashboard: TrainingDashboard, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = unfold(dashboard, "Drift and refit")
    assert isinstance(section, DriftSection)
    assert len(section.refits) == 2
    asked(section.refits[1], "give it a PhysicsTwin or a NeuralTwin")
    assert 'role="alert"' in section.refits[1].message.value
    given = []

    def refit(layer: PhysicalLayer, *, shots: int, x: torch.Tensor, seed: int) -> Refit:
        given.append((layer, shots, tuple(x.shape)))
        return Refit(nmse_before=0.5, nmse_after=0.125, floor=0.1, device_passes=400)

    monkeypatch.setattr(sections, "refit", refit)
    asked(section.refits[1], "NMSE 0.5 → 0.125")
    ((_, noted),) = training.notes  # a run keeps it in its journal
    assert noted.startswith("the twin of layer 2 was fitted anew: NMSE 0.5 → 0.125")
    assert given == [(training.network[1], 200, (40, 6))]


def test_limits_follow_the_evaluations(dashboard: TrainingDashboard) -> None:
    section = unfold(dashboard, "Limits")
    assert isinstance(section, LimitsSection)
    assert [panel["lines"][1]["n"] for panel in section._grid.panels] == [3, 3]
    fields = EVALUATED | {"theta_at_limits": (0.25, 0.0), "stuck": (0.5, 0.125)}
    theta, stuck = limit_plots([record(5, **EVALUATED), record(10, **fields)])
    assert [line.y.tolist() for line in theta.lines] == [[25], [0]]
    assert [line.y.tolist() for line in stuck.lines] == [[50], [12.5]]
    assert theta.unit == "%"
    assert limit_plots([record(5, **EVALUATED)])[0].note == "shown at the first evaluation"


def test_the_learning_rate_is_changed_and_a_wrong_factor_refused(training: Training) -> None:
    session = Session(training)
    dashboard = TrainingDashboard(session)
    section = unfold(dashboard, "Learning rate")
    assert isinstance(section, RateSection)
    plot = section._grid
    first = np.frombuffer(plot.points, "<f4")[60]
    click(section.half)
    wait_until(lambda: "0.5 times" in section.message.value)
    assert training.rate_scale == 0.5
    wait_until(lambda: np.frombuffer(plot.points, "<f4")[60] == pytest.approx(first / 2))
    share(section.factor, value=-1.0)
    click(section.apply)
    wait_until(lambda: 'role="alert"' in section.message.value)
    assert "-1" in section.message.value
    assert training.rate_scale == 0.5
    session.start()
    session.join()
    dashboard.refresh()
    assert section.double.disabled, "there is no step to come"
    dashboard.close()


def test_costs_stand_beside_what_they_assume(dashboard: TrainingDashboard) -> None:
    section = unfold(dashboard, "Time and energy")
    assert isinstance(section, CostSection)
    assert all(row["cells"][2] == ["not known", None] for row in section.table.rows)
    assert "How long a shot of toy takes is not known" in section.assumptions.value
    assert "pJ each" in section.assumptions.value
    share(section.power, value=20.0)
    assert "A power is no energy without the time of a shot" in section.assumptions.value


def test_the_power_of_the_bench_gives_the_energy(session: Session) -> None:
    cost = Cost(seconds_per_pass=0.5, joules_per_pass=None, assumptions="A <guess>.", source="me")
    for layer in physical_layers(session.training.network):
        layer.system.cost = lambda: cost
    section = unfold(TrainingDashboard(session), "Time and energy")
    assert isinstance(section, CostSection)
    assert section.table.rows[0]["cells"][3] == ["not known", None]
    assert "A &lt;guess&gt;." in section.assumptions.value
    share(section.power, value=20.0)
    shown = [[text for text, _ in row["cells"]] for row in section.table.rows]
    assert all("not known" not in row for row in shown)
    assert shown[0][:4] == ["One answer", "2", "1.0 s", "20 J"]
    assert "20 W, entered here" in section.assumptions.value
    assert powered(cost, 0.0) == cost


@pytest.mark.parametrize(
    ("value", "time", "energy"),
    [
        (None, "not known", "not known"),
        (0, "0.0 s", "0 J"),
        (2.5e-5, "25 µs", "25 µJ"),
        (2.0, "2.0 s", "2 J"),
        (4321.0, "1 h 12 min", "4.32 kJ"),
    ],
)
def test_times_and_energies_have_units_to_read(value: float | None, time: str, energy: str) -> None:
    assert (seconds(value), scaled(value, "J")) == (time, energy)
