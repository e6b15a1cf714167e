"""The view of a sweep without a browser: what the sweep holds is shown while it runs."""

import re
from pathlib import Path

import numpy as np
import pytest
import sweep_tasks
from records import wait_until

from pnnlab.results.sweeping import Done, Sweep
from pnnlab.views import Picture, SweepView, dashboard
from pnnlab.views.dashboard import accuracies, sweep_tiles


def tiles(sweep: Sweep) -> list[str]:
    return re.findall(r"<div><span>(\w+(?: left)?)</span>(\d+)", sweep_tiles(sweep))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(sweep_tasks.faulty, {"seed": [0, 1, 3]}, tmp_path, workers=0)


def test_it_follows_a_sweep_that_anyone_runs(sweep: Sweep) -> None:
    view = SweepView(sweep)
    assert "0 of 3 done, 0 failed, 3 left." in view._state.value
    assert view._error.layout.display == "none"
    seen = []
    for _ in sweep.outcomes():
        sweep.dashboard = 'http://x/"status'
        view.refresh()
        seen.append(tiles(sweep))
        assert 'href="http://x/&quot;status"' in view._state.value
    assert seen[-1] == [("Done", "2"), ("Running", "0"), ("Failed", "1"), ("Time left", "0")]
    assert seen[0][:3] == [("Done", "1"), ("Running", "1"), ("Failed", "0")]
    wait_until(lambda: "2 of 3 done, 1 failed, 0 left." in view._state.value)
    wait_until(lambda: "href" not in view._state.value)
    assert "ValueError: seed 1 is bad" in view._error.value
    view.close()
    assert sweep.observers == []


def test_running_it_shows_it_and_its_picture(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(dashboard, "show", shown.append)
    view = SweepView(sweep)
    assert view.run() is sweep
    assert shown[0] is view
    assert isinstance(shown[1], Picture)
    assert len(shown) == 2
    view.close()


def test_accuracies_are_means_by_method_in_the_order_in_which_they_came(sweep: Sweep) -> None:
    row = sweep_tasks.short(0)
    for number, (method, accuracy) in enumerate([("PAT", 0.5), ("ideal", 0.9), ("PAT", 0.7)]):
        rows = (type(row)(system="s", task="t", method=method, accuracy=accuracy),)
        sweep.done[str(number)] = Done({}, rows)
    plot = accuracies(sweep)
    assert [line.label for line in plot.lines] == ["PAT", "ideal"]
    assert np.allclose(plot.lines[0].x, [1, 3])
    assert np.allclose(plot.lines[0].y, [50, 60])
    assert np.allclose(plot.lines[1].y, [90])
