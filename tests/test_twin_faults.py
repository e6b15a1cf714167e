"""A twin that is not good trains, with a warning in the dashboard, the record and the table."""

import warnings

import pytest
import torch
from toy import Toy, toy_response

from pnnlab import characterize, twins
from pnnlab.background import Session
from pnnlab.layers import deep_pnn
from pnnlab.results.comparison import result_row
from pnnlab.results.tables import results_table
from pnnlab.runs import Run, read_run
from pnnlab.tasks import Task
from pnnlab.training import FitSettings, Training
from pnnlab.twins import Mlp, NeuralSettings, NeuralTwin, Twin
from pnnlab.views.dashboard import error_text, summary

UNFITTED = "the twin of layer 1 is not good: it has not been fitted"


class Exact(Twin):
    label = "exact twin"

    def __init__(self, factor: float) -> None:
        super().__init__(Toy())
        self.factor = factor

    def model(self, x, theta):
        return self.factor * toy_response(x, theta, 1.1)


@pytest.fixture
def task():
    x = torch.rand(120, 6, generator=torch.Generator().manual_seed(0))
    return Task.from_arrays(x, (3 * x[:, 0]).long())


def started(twin, task):
    settings = FitSettings(epochs=1, batch_size=16, evaluations=1)
    return Training(deep_pnn(Toy(), twin, classes=3), task, settings)


def test_the_warning_is_in_the_record_the_dashboard_and_the_table(task, tmp_path):
    with pytest.warns(RuntimeWarning, match=UNFITTED):
        training = started(NeuralTwin(Toy(), Mlp((8,))), task)
    session = Session(Run.open(tmp_path, training))
    assert UNFITTED in error_text(session)
    session.start().join()
    assert [event.message for event in read_run(tmp_path).events] == [UNFITTED]
    assert UNFITTED in error_text(session)
    assert "a twin is not good" in summary(session)
    row = result_row(training, task, system="toy", method="PAT", twin="neural")
    assert "neural, not good" in results_table([row])


def test_a_good_twin_gives_no_warning(task, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = started(Exact(1.0), task)
    session = Session(Run.open(tmp_path, training)).start()
    session.join()
    assert read_run(tmp_path).events == ()
    assert error_text(session) == ""
    assert "not good" not in summary(session)
    assert result_row(training, task, system="toy", method="PAT", twin="exact").twin == "exact"


def test_a_report_that_fails_warns_until_one_passes(task):
    data = characterize.collect(Toy(), 60, seed=0)
    twin = Exact(-1.0)
    report = twins.report(Toy(), twin, data, depth=1)
    assert report.verdict.startswith("failed: NMSE")
    with pytest.warns(RuntimeWarning, match="layer 1 is not good: its report failed: NMSE"):
        started(twin, task)
    twin.factor = 1.0
    assert not twins.report(Toy(), twin, data, depth=1).verdict.startswith("failed")
    assert started(twin, task).twin_faults == ()


def test_a_failed_report_outlives_the_disk_and_ends_with_a_fit(tmp_path):
    data = characterize.collect(Toy(), 60, seed=0)
    twin = NeuralTwin(Toy(), Mlp((8,)))
    twin.fault = ""  # so that the report looks at what it does
    twins.report(Toy(), twin, data, depth=1)
    assert "its report failed" in twin.reported
    again = twins.load(twins.save(twin, tmp_path / "twin.pt"))
    assert again.reported == twin.reported
    fitted = twins.fit_neural(again, data, NeuralSettings(epochs=2)).twin
    assert fitted.reported == ""
