import copy
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from test_training import make_network, make_split
from toy import Toy, ToyTwin

import pnnlab as pnn
from pnnlab.errors import RangeError, ShapeError
from pnnlab.gradients import ideal, in_silico, physics_aware
from pnnlab.layers import calibrate, deep_pnn, parameter_count, physical_layers
from pnnlab.provenance import commit
from pnnlab.results.comparison import (
    Compared,
    calibration_inputs,
    compare,
    digital_accuracy,
    digital_baseline,
    linear_baseline,
    mlp,
    possible,
    result_row,
    validated,
)
from pnnlab.results.rows import Row, packed
from pnnlab.runs import Run
from pnnlab.systems import Circuit
from pnnlab.tasks import Split, Task
from pnnlab.training import FitSettings, Training, scores
from pnnlab.training.methods import (
    Asymmetrical,
    Backpropagation,
    FineTuned,
    Perturbation,
    SharpnessAware,
)
from pnnlab.twins import CircuitEquations, PhysicsTwin


@pytest.fixture
def task():
    return Task("halves", make_split(400), make_split(100, 1), make_split(200, 2), 2, 0, "made up")


def trained(task, rule):
    training = Training(make_network(rule), task, FitSettings(epochs=8, batch_size=32))
    for _ in training.records():
        pass
    return training


@pytest.mark.parametrize("budget", [100, 7080])
def test_the_baseline_has_as_many_parameters_and_never_more(budget):
    network = mlp(196, 10, budget) if budget > 300 else mlp(4, 3, budget)
    assert budget * 0.95 <= parameter_count(network) <= budget


def test_too_few_parameters_for_a_baseline_are_refused():
    with pytest.raises(RangeError, match="linear classifier"):
        mlp(196, 10, 100)


def test_baselines_are_seeded_and_leave_global_random_numbers_alone(task):
    before = torch.get_rng_state()
    first, again = (digital_baseline(task, 60, epochs=30) for _ in range(2))
    assert first == again
    assert first > 0.8
    assert torch.equal(torch.get_rng_state(), before)


def blobs(n: int, seed: int) -> Split:
    """Three classes of twelve features that a line can part, but for a few."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    centres = torch.rand(3, 12, generator=torch.Generator().manual_seed(0))
    x = 0.4 + 0.1 * centres[labels] + 0.02 * torch.randn(n, 12, generator=generator)
    return Split(x.clamp(0, 1), labels)


def test_the_linear_baseline_of_a_tiny_task_is_trained_to_the_end():
    tiny = Task("blobs", blobs(60, 1), blobs(30, 2), blobs(600, 3), 3, 0, "made up")
    x, labels = tiny.train.x.double(), torch.nn.functional.one_hot(tiny.train.targets).double()
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    weights = torch.linalg.lstsq(torch.cat([x, ones], 1), labels).solution
    guesses = (tiny.test.x.double() @ weights[:-1] + weights[-1]).argmax(1)
    least_squares = (guesses == tiny.test.targets).float().mean()
    # One epoch asked for, of batches larger than the task.
    assert linear_baseline(tiny, epochs=1, batch_size=128) > least_squares - 0.02


def test_a_tie_on_validation_is_not_broken_on_the_test_split(task, monkeypatch):
    """The loss decides, whichever rate would have done better on the test split."""
    seen = []

    def on_validation(network, examples):
        assert examples is task.validation
        seen.append(network)
        return 0.5, (0.3, 0.1, 0.2)[len(seen) - 1]

    def on_test(network, examples):
        assert examples is task.test
        return seen.index(network) / 10

    monkeypatch.setattr("pnnlab.results.comparison.scores", on_validation)
    monkeypatch.setattr("pnnlab.results.comparison.accuracy", on_test)
    assert linear_baseline(task, epochs=1, rates=(0.1, 0.01, 0.001)) == 0.1


def test_a_linear_classifier_cannot_do_what_an_mlp_does():
    def corners(n, seed):
        x = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed))
        return Split(x, ((x > 0.5).sum(1) == 1).long())

    crossed = Task("xor", corners(600, 1), corners(100, 2), corners(400, 3), 2, 0, "made up")
    assert linear_baseline(crossed, epochs=20) < 0.7
    assert digital_baseline(crossed, 200, epochs=100) > 0.9


def test_any_digital_network_is_trained_as_the_baselines_are(task):
    made = []

    def make():
        made.append(mlp(task.train.x.shape[1], task.classes, 60))
        return made[-1]

    settings = {"epochs": 2, "rates": (0.003, 0.01), "batch_size": 16}
    assert digital_accuracy(make, task, **settings) == digital_baseline(task, 60, **settings)
    assert len(made) == 2


def test_a_row_holds_what_stands_beside_the_accuracy(task):
    training = trained(task, in_silico)
    weights = {name: value.clone() for name, value in training.network.state_dict().items()}
    physical_layers(training.network)[0].system.unit = 3
    row = result_row(
        training,
        task,
        system="toy",
        method="in silico",
        twin="wrong",
        digital_baseline=0.9,
        linear_baseline=0.8,
        accuracy_without_physics=0.7,
        published=0.93,
    )
    assert (row.digital_baseline, row.linear_baseline) == (0.9, 0.8)
    assert (row.accuracy_without_physics, row.published) == (0.7, 0.93)
    assert row.parameters == parameter_count(training.network)
    assert row.commit == commit()
    assert (row.n_test, row.split, row.layers, row.unit) == (200, "test", 2, 3)
    assert row.accuracy_on_twin > row.accuracy  # the toy's gap, seen from the twin
    assert row.recalibrated_accuracy >= row.accuracy
    assert row.device_passes == training.settings.evaluations * 100 * 2
    assert row.chance == pytest.approx(task.chance)
    for name, value in training.network.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_recalibration_measures_the_same_devices_and_is_for_in_silico_alone(task):
    training = trained(task, in_silico)
    systems = [layer.system for layer in physical_layers(training.network)]
    before = [system.passes for system in systems]
    result_row(training, task, system="toy", method="in silico", twin="wrong")
    assert [s.passes - b for s, b in zip(systems, before, strict=True)] == [800, 800]
    row = result_row(trained(task, physics_aware), task, system="toy", method="PAT", twin="wrong")
    assert row.recalibrated_accuracy is None
    assert row.accuracy_on_twin is not None


def test_the_row_of_a_run_names_the_code_that_trained_it(task, tmp_path, monkeypatch):
    training = trained(task, ideal)
    monkeypatch.setattr("pnnlab.provenance.commit", lambda: "1" * 40 + "-dirty")
    run = Run.open(tmp_path / "run", training)
    monkeypatch.undo()
    row = result_row(training, task, system="toy", method="ideal", twin=None, run=run)
    assert row.commit == "1" * 40 + "-dirty"


def test_without_twins_there_is_no_accuracy_on_them(task):
    row = result_row(trained(task, ideal), task, system="toy", method="ideal", twin=None)
    assert row.accuracy_on_twin is None
    assert row.accuracy > 0.85


def test_systems_that_do_not_fit_are_not_chained():
    with pytest.raises(ShapeError, match="cannot be chained"):
        deep_pnn([Toy(6, 4), Toy(6, 2)], [ToyTwin(6, 4), ToyTwin(6, 2)], physics_aware)
    with pytest.raises(ShapeError, match="give each system a twin"):
        deep_pnn([Toy()], [], physics_aware)


def test_a_chain_ends_in_logits():
    network = deep_pnn([Toy(), Toy(6, 2)], [ToyTwin(), ToyTwin(6, 2)], physics_aware, seed=3)
    assert network(torch.rand(5, 6)).shape == (5, 2)
    assert not torch.equal(network[0].theta[:12], network[1].theta)


@pytest.fixture
def quick_baselines(monkeypatch):
    """Baselines have tests of their own."""
    monkeypatch.setattr("pnnlab.results.comparison.FEWEST_STEPS", 1)


@pytest.mark.usefixtures("quick_baselines")
def test_trainings_of_other_twins_are_kept_apart_and_the_same_call_goes_on(task, tmp_path):
    settings = FitSettings(epochs=1, batch_size=100, seed=3)
    methods = {"PAT": physics_aware}
    known = {"methods": methods, "folder": tmp_path, "progress": False}

    def make(rule, seed, strength=1.0):
        return deep_pnn(Toy(6, 2), ToyTwin(6, 2, strength), rule, seed=seed)

    first = compare(make, task, settings, twin="fitted", seeds=np.int64(2), **known)
    compare(partial(make, strength=0.5), task, settings, twin="nominal", **known)
    names = [
        f"toy-{twin}-PAT-seed-{n}" for twin, n in (("fitted", 3), ("fitted", 4), ("nominal", 3))
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    again = compare(make, task, settings, twin="fitted", seeds=2, **known)
    assert [row.seconds for row in again.rows] == [row.seconds for row in first.rows]
    with pytest.raises(RangeError, match="seeds is 0"):
        compare(make, task, settings, seeds=0)


# --- compare ---

SHORT = FitSettings(epochs=1, batch_size=64, evaluations=1, seed=3)


def make(rule, seed):
    systems = [Toy(seed=seed), Toy(6, 2, seed=seed)]
    return deep_pnn(systems, [ToyTwin(), ToyTwin(6, 2)], rule, seed=seed)


@pytest.mark.usefixtures("quick_baselines")
def test_each_method_is_trained_with_each_seed_beside_digital_baselines_of_that_seed(task):
    compared = pnn.compare(make, task, SHORT, seeds=2, twin="wrong", progress=False)
    rows = compared.rows
    assert [(row.method, row.seed, row.twin) for row in rows] == [
        *(("PAT", 3, "wrong"), ("in silico", 3, "wrong"), ("ideal", 3, None)),
        *(("PAT", 4, "wrong"), ("in silico", 4, "wrong"), ("ideal", 4, None)),
    ]
    size = parameter_count(make(ideal, 3))
    for seed in (3, 4):
        given = {"epochs": 1, "batch_size": 64, "seed": seed}
        own = [row for row in rows if row.seed == seed]
        assert {row.digital_baseline for row in own} == {digital_baseline(task, size, **given)}
        assert {row.linear_baseline for row in own} == {linear_baseline(task, **given)}
    assert {row.parameters for row in rows} == {size}
    silico = [row.recalibrated_accuracy is not None for row in rows]
    assert silico == [row.method == "in silico" for row in rows]
    # The same seed gives the same training, alone or among others.
    alone = pnn.compare(
        make, task, replace(SHORT, seed=4), methods={"PAT": physics_aware}, progress=False
    )
    assert alone.rows[0].accuracy == rows[3].accuracy != rows[0].accuracy


@pytest.mark.usefixtures("quick_baselines")
def test_a_comparison_shows_itself_as_its_table(task):
    methods = {"PAT": physics_aware, "ideal": ideal}
    compared = pnn.compare(make, task, SHORT, methods=methods, twin="wrong", progress=False)
    shown = compared._repr_markdown_()
    assert shown == str(compared) == repr(compared)
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    assert [line.split("|")[3].strip() for line in lines[2:]] == ["PAT", "ideal"]
    assert lines[0].split("|")[1].strip() == "system"  # there is no notebook to name
    assert f"{100 * compared.rows[0].accuracy:.1f}" in lines[2]


class Breakable(Toy):
    left = math.inf  # calls until the process is interrupted

    def _simulate(self, x, theta):
        Breakable.left -= 1
        if Breakable.left < 0:
            raise KeyboardInterrupt
        return super()._simulate(x, theta)


@pytest.mark.usefixtures("quick_baselines")
def test_a_comparison_in_a_folder_goes_on_where_it_was_interrupted(task, tmp_path, monkeypatch):
    def breakable(rule, seed):
        systems = [Breakable(seed=seed), Breakable(6, 2, seed=seed)]
        return deep_pnn(systems, [ToyTwin(), ToyTwin(6, 2)], rule, seed=seed)

    def compared(calls, folder=None):
        monkeypatch.setattr(Breakable, "left", calls)
        methods = {"first": physics_aware, "second": in_silico}
        return pnn.compare(
            breakable, task, SHORT, methods=methods, seeds=2, folder=folder, progress=False
        )

    whole = compared(10_000)
    used = 10_000 - Breakable.left
    with monkeypatch.context() as patch:
        patch.setattr("pnnlab.provenance.commit", lambda: "1" * 40)
        with pytest.raises(KeyboardInterrupt):
            compared(used // 2 + 10, tmp_path)
    again = compared(10_000, tmp_path)
    assert 10_000 - Breakable.left < 0.8 * used
    assert [row.accuracy for row in again.rows] == [row.accuracy for row in whole.rows]
    assert [row.device_passes for row in again.rows] == [row.device_passes for row in whole.rows]
    # A training names the code that it began with.
    assert again.rows[0].commit == "1" * 40 != again.rows[-1].commit
    assert [row.recalibrated_accuracy is None for row in again.rows] == [True, False] * 2


def test_a_comparison_of_nothing_is_refused_before_anything_is_driven(task):
    def never(rule, seed):
        raise AssertionError("a network was made")

    with pytest.raises(RangeError, match="no method"):
        pnn.compare(never, task, methods={})
    with pytest.raises(RangeError, match="seeds is 0"):
        pnn.compare(never, task, seeds=0)


@pytest.mark.usefixtures("quick_baselines")
def test_passes_of_a_device_that_all_trials_share_are_counted_for_each(task):
    system = Toy()

    def on_one(rule, seed):
        return deep_pnn(system, ToyTwin(), rule, layers=2, classes=2, seed=seed)

    def on_its_own(rule, seed):
        return deep_pnn(Toy(), ToyTwin(), rule, layers=2, classes=2, seed=seed)

    methods = {"PAT": physics_aware, "in silico": in_silico}
    own, shared = (
        pnn.compare(made, task, SHORT, methods=methods, rates=(0.01, 0.02), progress=False)
        for made in (on_its_own, on_one)
    )
    passes = [row.device_passes for row in own.rows]
    assert [row.device_passes for row in shared.rows] == passes


def test_values_to_learn_are_refused_before_anything_is_driven():
    x = torch.rand(60, 6)
    values = pnn.Task.from_arrays(x, x[:, :1])
    with pytest.raises(RangeError, match="has values to learn"):
        pnn.compare(lambda *_: pytest.fail("made"), values)


def test_rows_of_two_systems_are_no_pairs():
    row = Row(system="a", task="t", method="PAT", seed=0, n_test=8, correct=packed([True] * 8))
    rows = [replace(row, system=system) for system in ("a", "b")]
    rows += [replace(one, method="ideal") for one in rows]
    with pytest.raises(RangeError, match="a seed is there twice"):
        Compared(tuple(rows)).verdicts()


@pytest.mark.usefixtures("quick_baselines")
def test_settings_are_chosen_on_the_validation_split_by_as_many_trials(task, monkeypatch):
    scored = []

    def recorded(network, examples, *objective):
        if physical_layers(network):  # the digital baselines are searched likewise
            scored.append(examples)
        return scores(network, examples, *objective)

    monkeypatch.setattr("pnnlab.results.comparison.scores", recorded)
    rates = (1e-6, 0.03)
    methods = {"PAT": physics_aware, "in silico": in_silico}
    settings = replace(SHORT, epochs=8)
    compared = pnn.compare(
        make, task, settings, methods=methods, rates=rates, seeds=2, progress=False
    )
    rows = compared.rows
    assert len(scored) == len(methods) * len(rates)
    assert all(torch.equal(examples.x, task.validation.x) for examples in scored)
    assert [row.trials for row in rows] == [2] * 4
    # A rate of a millionth trains nothing.
    assert {row.settings for row in rows} == {"learning rate 0.03, penalty 1"}
    chosen = {name: pnn.Recipe(rule=rule, learning_rate=0.03) for name, rule in methods.items()}
    assert compared.recipes == chosen


@pytest.mark.usefixtures("quick_baselines")
def test_the_search_leaves_what_it_chose_as_it_was_trained(task):
    """Not recalibrated, and without the passes of the search."""

    def rows(rates):
        return pnn.compare(
            make,
            task,
            replace(SHORT, epochs=8),
            methods={"PAT": physics_aware, "in silico": in_silico},
            rates=rates,
            progress=False,
        ).rows

    for searched, alone in zip(rows((1e-6, 0.03)), rows((0.03,)), strict=True):
        assert searched.accuracy_on_twin == alone.accuracy_on_twin
        assert searched.device_passes == alone.device_passes
        assert searched.accuracy == pytest.approx(alone.accuracy, abs=0.02)  # other noise


def test_unequal_choices_are_refused_before_anything_is_driven(task):
    one = pnn.Recipe(rule=physics_aware)
    two = [pnn.Recipe(rule=in_silico, learning_rate=rate) for rate in (0.01, 0.02)]
    with pytest.raises(RangeError, match="PAT 1, in silico 2"):
        pnn.compare(make, task, methods={"PAT": one, "in silico": two})


@pytest.mark.usefixtures("quick_baselines")
def test_a_budget_gives_each_method_the_epochs_that_it_can_pay(task):
    epoch = 2 * len(task.train)  # two layers
    methods = {
        "PAT": physics_aware,
        "perturbed": pnn.Recipe(rule=physics_aware, method=Perturbation),
        "in silico": in_silico,
        "sharpness-aware": pnn.Recipe(rule=in_silico, method=SharpnessAware),
        "in silico, short": pnn.Recipe(rule=in_silico, share=0.25),
        # Of whatever rule, these drive the device, and must not have the steps of those on a twin.
        "perturbed, in silico": pnn.Recipe(rule=in_silico, method=Perturbation),
        "asymmetrical, in silico": pnn.Recipe(rule=in_silico, method=Asymmetrical),
        "last quarter": pnn.Recipe(
            rule=physics_aware, method=partial(FineTuned, first=in_silico, last=0.25)
        ),
    }
    settings = replace(SHORT, batch_size=len(task.train))
    rows = pnn.compare(
        make, task, settings, methods=methods, budget=6 * epoch + 5, progress=False
    ).rows
    evaluation = 2 * len(task.validation)
    assert [row.steps for row in rows] == [6, 3, 24, 12, 6, 3, 6, 24]  # one an epoch
    driven = 6 * epoch + evaluation
    passes = [row.device_passes for row in rows]
    assert passes[:7] == [driven, driven, *[evaluation] * 3, driven, driven]
    assert rows[4].settings.endswith("0.25 of the epochs")
    # At the change the normalisation is measured on one batch, here the whole split.
    assert passes[7] == driven + epoch
    with pytest.raises(RangeError, match="share is 0"):
        pnn.Recipe(rule=in_silico, share=0)
    with pytest.raises(RangeError, match="less than one epoch"):
        pnn.compare(make, task, settings, methods=methods, budget=epoch - 1, progress=False)


def test_what_takes_states_of_a_twin_is_recalibrated(task):
    """Whatever the rule: asymmetrical training normalises with states of the twin."""
    for method, again in ((Asymmetrical, True), (Backpropagation, False)):
        network = make(physics_aware, 0)
        calibrate(network, calibration_inputs(task))
        training = pnn.Training(network, task, SHORT, method=method)
        for _ in training.records():
            pass
        row = result_row(training, task, system="toy", method="one", twin="twin")
        assert (row.recalibrated_accuracy is not None) is again
        before = copy.deepcopy(network.state_dict())
        systems = [layer.system for layer in physical_layers(network)]
        driven = sum(system.passes for system in systems)
        validated(training)
        assert all(torch.equal(before[name], one) for name, one in network.state_dict().items())
        driven = sum(system.passes for system in systems) - driven
        assert driven == 2 * (len(task.validation) + again * len(task.train))


@pytest.mark.usefixtures("quick_baselines")
def test_a_comparison_judges_pairs_by_seed_and_sample(task):
    methods = {"PAT": physics_aware, "again": physics_aware, "in silico": in_silico}
    compared = pnn.compare(make, task, SHORT, methods=methods, seeds=2, progress=False)
    same = compared.difference("PAT", "PAT")
    assert same.mean == 0
    assert set(compared.verdicts()) == {"again", "in silico"}
    assert "paired: " in repr(compared)
    with pytest.raises(RangeError, match="seeds"):
        compared.difference("PAT", "none")


def test_the_usual_methods_are_those_that_systems_and_twins_allow(task):
    assert list(possible(make(physics_aware, 0))) == ["PAT", "in silico", "ideal"]
    board = Circuit(0, input_dim=16, replays=2, output_dim=16)
    twin = PhysicsTwin(board, CircuitEquations(replays=2))
    network = deep_pnn(board, twin, in_silico)
    assert list(possible(network)) == ["PAT", "in silico", "noise-aware", "ideal"]


@pytest.mark.usefixtures("quick_baselines")
def test_the_ideal_alone_needs_no_twin(task):
    def without(rule, seed):
        return deep_pnn([Toy(), Toy(6, 2)], [None, None], rule, seed=seed)

    (row,) = pnn.compare(without, task, SHORT, methods={"ideal": ideal}, progress=False).rows
    assert row.accuracy_on_twin is None
