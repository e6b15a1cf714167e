"""A curve and what else a hand meets, without a browser: what a page sends, and what it is told."""

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hands import share
from toy import Toy

from pnnlab.characterize.manual_control import ManualControl, Response
from pnnlab.views.chart import PlotGrid
from pnnlab.views.panel import Curve, HeatMap, live_plots, steady


class Owner:
    """Of the control under a curve."""

    def __init__(self) -> None:
        self.control = ManualControl(Toy(inputs=10, outputs=1))
        self.changes = self.lifts = 0
        self.curve = Curve(
            self.control, "x", {"Zero": torch.zeros(10)}, changed=self.change, lifted=self.lift
        )

    def change(self) -> None:
        self.changes += 1

    def lift(self) -> None:
        self.lifts += 1

    def sent(self, *runs: tuple[int, list[float]], count: int = 1, **content: Any) -> None:
        """What a page sends of a stroke."""
        packed = np.array([value for _, run in runs for value in run], "<f4").tobytes()
        given = {"kind": "draw", "view": "page", "count": count, "begins": True, "done": False}
        places = {"runs": [[start, len(run)] for start, run in runs]}
        self.curve._handle_custom_msg(given | places | content, [packed])

    @property
    def shown(self) -> list[float]:
        return [round(float(v), 3) for v in np.frombuffer(self.curve.values, "<f4")]


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_a_page_gets_all_of_it_in_the_first_message(monkeypatch: pytest.MonkeyPatch) -> None:
    later: set[str] = set()
    monkeypatch.setattr(Curve, "_send", lambda _, message, **__: later.update(message["state"]))
    owner = Owner()
    assert not later & {"spec", "values", "chosen"}
    assert owner.shown == [0.5] * 10
    assert owner.curve.spec["parts"] == [["all", 0, 10]]
    assert owner.curve.chosen == 5


def test_a_stroke_is_handed_on_and_answered(owner: Owner) -> None:
    owner.sent((2, [0.1, 0.2]), (7, [0.9]), count=5)
    assert owner.shown == [0.5, 0.5, 0.1, 0.2, 0.5, 0.5, 0.5, 0.9, 0.5, 0.5]
    assert owner.curve.answered == ["page", 5]
    assert owner.curve.refused == ""
    assert owner.lifts == 0


def test_an_answer_is_one_message(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[dict[str, Any]] = []
    monkeypatch.setattr(owner.curve, "_send", lambda message, **_: messages.append(message))
    owner.sent((0, [0.1]))
    states = [message["state"] for message in messages if message["method"] == "update"]
    assert len(states) == 1
    assert "answered" in states[0]


def test_what_is_chosen_is_not_sent_back(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[dict[str, Any]] = []
    monkeypatch.setattr(owner.curve, "_send", lambda message, **_: messages.append(message))
    share(owner.curve, chosen=3, part=0)
    assert owner.curve.chosen == 3
    assert messages == [], "keys may have moved on"


def test_a_refusal_is_said_in_its_own_words_and_the_rest_is_kept(owner: Owner) -> None:
    owner.sent((0, [0.9]), (1, [1.2]), count=2)
    assert "outside [0, 1]" in owner.curve.refused
    assert owner.shown[:2] == [0.9, 0.5]
    owner.sent((3, [0.4]), begins=False, done=True, count=3)
    assert "outside [0, 1]" in owner.curve.refused, "until the next stroke begins"
    assert owner.lifts == 1
    owner.sent((3, [0.3]), count=4)
    assert owner.curve.refused == ""


def test_a_lifted_hand_without_a_stroke_is_told(owner: Owner) -> None:
    owner.sent(begins=False, done=True)
    assert owner.lifts == 1


def test_a_preset_is_handed_on(owner: Owner) -> None:
    owner.curve._handle_custom_msg(
        {"kind": "preset", "view": "p", "count": 1, "name": "Zero", "begins": True, "done": True},
        [],
    )
    assert owner.shown == [0.0] * 10
    assert owner.lifts == 1


def test_a_fault_that_is_no_refusal_is_not_hidden(owner: Owner) -> None:
    told = {"kind": "preset", "view": "p", "count": 1, "name": "?", "begins": True, "done": True}
    with pytest.raises(KeyError):
        owner.curve._take(None, told, [])


def response(mean: list[float], *, twin: bool) -> Response:
    values = torch.tensor(mean, dtype=torch.float64)
    modelled = values + 0.1 if twin else None
    return Response(
        torch.rand(2), torch.rand(2), values, torch.full_like(values, 0.05), modelled, 8
    )


@pytest.mark.parametrize("twin", [False, True])
def test_a_response_is_sent_as_one_buffer_inside_its_axes(twin: bool) -> None:
    grid, plots = PlotGrid(), live_plots(response([0.2, 0.4, 0.6], twin=twin))
    grid.show(plots)
    rows = np.frombuffer(grid.points, "<f4").reshape(-1, 3)
    assert len(rows) == 3 + 7 * twin
    np.testing.assert_allclose(rows[1], [0.2, 0.4, 0.6], rtol=1e-6)
    np.testing.assert_allclose(rows[2], [0.1] * 3, rtol=1e-6)
    low, high = grid.panels[0]["y_range"]
    assert low <= 0.1
    assert high >= 0.7, "the band is inside"
    assert ("twin off by 10 %" in plots[0].title) == twin
    assert "noise 5 % of full scale" in plots[0].title
    assert len(plots) == 1 + twin
    if twin:
        np.testing.assert_allclose(rows[9], [0.1] * 3, rtol=1e-6)
        low, high = grid.panels[1]["y_range"]
        assert high >= 0.1
        assert low == -high
    again = live_plots(response([0.25, 0.4, 0.6], twin=twin), plots)
    assert [plot.y_limits for plot in again] == [plot.y_limits for plot in plots]


def test_axes_stay_until_they_no_longer_fit() -> None:
    first = steady(None, 0.1, 0.93)
    assert first[0] <= 0.1
    assert first[1] >= 0.93
    assert steady(first, 0.2, 0.8) == first
    assert steady(first, 0.2, 1.8)[1] >= 1.8
    small = steady(first, 0.4, 0.5)
    assert small[1] - small[0] < 0.5 * (first[1] - first[0])
    assert steady(None, 0.3, 0.3)[1] > steady(None, 0.3, 0.3)[0]
    for unit in (1e-9, 1e6):
        low, high = steady(None, 2 * unit, 8 * unit)
        assert 0 <= low <= 2 * unit
        assert 8 * unit <= high <= 10 * unit
        low, high = steady(None, unit, unit)
        assert 0.9 * unit < low < unit < high < 1.1 * unit


def sweep(twin: bool) -> xr.Dataset:
    mean = np.array([[[0.0, 0.5, 0.2], [0.1, 0.25, 0.2]]])
    dims = ("element", "value", "output")
    names = ("mean", "deviation", "modelled")[: 2 + twin]
    return xr.Dataset(
        {name: (dims, mean * (1.1 if name == "modelled" else 1)) for name in names},
        {"element": ["x[3]"], "value": [0.0, 1.0], "output": [0, 1, 2]},
    )


def test_a_map_holds_what_changes_what_is_read_and_what_the_twin_misses() -> None:
    heat = HeatMap()
    heat.show(sweep(twin=True))
    titles = ["Change", "Response", "Twin − device"]
    assert [layer["title"] for layer in heat.spec["layers"]] == titles
    assert (heat.spec["rows"], heat.spec["columns"]) == (2, 3)
    values = np.frombuffer(heat.values, "<f4").reshape(3, 2, 3)
    ranges = [layer["range"] for layer in heat.spec["layers"]]
    np.testing.assert_allclose(ranges, [[-0.25, 0.25], [0, 0.5], [-0.05, 0.05]])
    np.testing.assert_allclose(values[0], [[0, 0, 0], [0.1, -0.25, 0]], atol=1e-5)
    np.testing.assert_allclose(values[1], [[0, 0.5, 0.2], [0.1, 0.25, 0.2]], atol=1e-5)
    np.testing.assert_allclose(values[2], 0.1 * values[1], atol=1e-4)
    assert heat.spec["summary"] == "output 1 changes most, by 0.25"
    heat.show(sweep(twin=False))
    assert len(heat.spec["layers"]) == 2
