"""The device panel without a browser: what a hand wants reaches the device, and is shown."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hands import click, share
from records import Scripted, record, wait_until
from torch import Tensor
from toy import Toy, ToyTwin, toy_response

from pnnlab.background import Session
from pnnlab.characterize import ManualControl
from pnnlab.errors import InstrumentError
from pnnlab.instruments.bench import open_bench
from pnnlab.instruments.generator import Limits
from pnnlab.instruments.programme import CircuitProgramme
from pnnlab.physical_system import PhysicalSystem
from pnnlab.systems import SHG, Circuit, Oscillators, Plate
from pnnlab.training import Record
from pnnlab.views.panel import OLD, POINTS, REPEATS, DevicePanel
from pnnlab.views.parts import LatestRequests
from pnnlab.virtual_bench import VirtualBench


class Real(PhysicalSystem):
    """A device that costs shots, and breaks when it is told to."""

    def __init__(self) -> None:
        super().__init__(6, 36, 6)
        self.broken = False

    def _measure(self, x: Tensor, theta: Tensor) -> Tensor:
        if self.broken:
            raise InstrumentError("the oscilloscope does not answer: is it <on>?")
        return toy_response(x, theta, 1.1)


def draw(panel: DevicePanel, side: str, start: int, values: list[float], *, done: bool) -> None:
    """A stroke, as a page sends it."""
    packed = np.array(values, "<f4").tobytes()
    runs = [[start, len(values)]] if values else []
    told = {"kind": "draw", "view": "page", "count": 1, "begins": bool(values), "done": done}
    panel.curves[side]._handle_custom_msg(told | {"runs": runs}, [packed])


def settle(panel: DevicePanel) -> None:
    wait_until(lambda: not panel.requests.busy)


def shown(panel: DevicePanel) -> list[float]:
    """The mean that is drawn."""
    n = panel.response.panels[0]["lines"][0]["n"]
    return np.frombuffer(panel.response.points, "<f4")[n : 2 * n].tolist()


def old(panel: DevicePanel) -> bool:
    """Whether the response is marked as that of another drive."""
    return OLD in panel.response._dom_classes


def test_a_simulated_device_is_looked_at_from_the_start_and_while_one_draws() -> None:
    panel = DevicePanel(ManualControl(Toy(noise=0, drift=0), ToyTwin()))
    assert "8 shots" in panel.response.panels[0]["lines"][0]["label"]
    assert panel.control.passes == 8
    first = shown(panel)
    draw(panel, "theta", 0, [1.0, 0.9], done=False)
    settle(panel)
    assert shown(panel) != first
    expected = toy_response(panel.control.x[None], panel.control.theta, 1.1)[0]
    np.testing.assert_allclose(shown(panel), expected, rtol=1e-5)
    assert np.frombuffer(panel.curves["theta"].values, "<f4")[:2].tolist() == [
        1.0,
        np.float32(0.9),
    ]
    assert "measured while you draw" in panel._status.value
    assert "16 device passes" in panel._status.value
    assert not old(panel)


def test_a_real_device_is_driven_when_the_hand_is_lifted_and_not_before() -> None:
    device = Real()
    panel = DevicePanel(ManualControl(device))
    assert device.passes == 0
    assert "not driven before you ask" in panel.response.panels[0]["note"]
    draw(panel, "x", 0, [0.1], done=False)
    settle(panel)
    assert device.passes == 0
    assert old(panel)
    assert panel.measure.description == "Measure: 8 shots"
    draw(panel, "x", 1, [], done=True)
    settle(panel)
    assert device.passes == 8
    assert not old(panel)
    draw(panel, "x", 1, [0.3], done=False)
    assert old(panel), "what is shown was measured before"
    click(panel.measure)
    settle(panel)
    assert device.passes == 16
    assert not old(panel)


def test_what_is_outside_the_limits_is_refused_beside_the_curve_and_not_driven() -> None:
    device = Real()
    panel = DevicePanel(ManualControl(device))
    draw(panel, "theta", 7, [1.3], done=False)
    assert "outside [0, 1]" in panel.curves["theta"].refused
    assert "nothing was driven" in panel.curves["theta"].refused
    assert panel.curves["x"].refused == ""
    assert device.passes == 0
    assert panel.control.theta[7] == 0.5


def test_presets_are_offered_where_they_fit() -> None:
    mine = {"a vowel": torch.linspace(0.2, 0.8, 6), "trained": torch.rand(36)}
    panel = DevicePanel(ManualControl(Toy(noise=0, drift=0)), presets=mine)
    assert panel.curves["x"].spec["examples"] == ["a vowel"]
    assert panel.curves["theta"].spec["examples"] == ["trained"]

    def choose(side: str, name: str) -> Tensor:
        told = {"kind": "preset", "view": "page", "count": 1, "begins": True, "done": True}
        panel.curves[side]._handle_custom_msg(told | {"name": name}, [])
        settle(panel)
        return panel.control.side(side)

    assert torch.equal(choose("x", "a vowel"), mine["a vowel"])
    assert torch.equal(choose("x", "Ramp"), torch.linspace(0, 1, 6))
    one, other = choose("theta", "Random"), choose("theta", "Random")
    assert not torch.equal(one, other), "another one at every click"
    assert panel.curves["theta"].values == other.numpy().tobytes()


def test_another_unit_answers_otherwise_and_one_that_is_none_is_refused() -> None:
    made: list[int] = []

    def units(number: int) -> PhysicalSystem:
        made.append(number)
        return Circuit(number, input_dim=8, replays=1, output_dim=8)

    panel = DevicePanel(ManualControl(units(0)), units=units)
    first = shown(panel)
    share(panel.unit, value=4)
    settle(panel)
    assert shown(panel) != first
    assert panel.control.system.unit == 4
    assert panel.control.passes == 16
    share(panel.unit, value=-1)
    settle(panel)
    assert "unit is -1; it must be at least 0" in panel._refusal.value
    assert 'role="alert"' in panel._refusal.value
    assert panel.unit.value == 4
    assert made == [0, 4, -1]
    share(panel.unit, value=0)
    assert panel._refusal.value == ""
    settle(panel)


def test_without_a_choice_of_units_there_is_no_chooser() -> None:
    assert DevicePanel(ManualControl(Toy())).unit.layout.display == "none"


def test_what_changes_with_the_chosen_control() -> None:
    panel = DevicePanel(ManualControl(Toy(noise=0, drift=0), ToyTwin()))
    share(panel.curves["theta"], chosen=7)
    assert panel.sweep.description == "What changes with theta[7]?  84 shots"
    before = panel.control.passes
    click(panel.sweep)
    settle(panel)
    assert panel.control.passes - before == POINTS * REPEATS == 84
    assert panel.map.spec["control"] == "theta[7]"
    assert panel.swept is not None
    moved = np.ptp(panel.swept["mean"].values[0], 0)
    assert moved.argmax() == 7 % 6
    assert panel.map.now == 0.5
    draw(panel, "theta", 7, [0.75], done=False)
    settle(panel)
    assert panel.map.now == 0.75, "the line follows the hand"


def test_the_code_of_what_was_done_is_sent_to_the_notebook() -> None:
    panel = DevicePanel(ManualControl(Circuit(1, input_dim=8, replays=1, output_dim=4)))
    draw(panel, "x", 2, [0.25, 0.5], done=True)
    settle(panel)
    assert panel.code.code == ""
    click(panel.send)
    again: dict[str, Any] = {}
    exec(panel.code.code, again)
    assert torch.equal(again["x"], panel.control.x)
    assert "x[2] = 0.25" in panel.code.code


def test_a_device_that_fails_says_so_and_can_be_tried_again() -> None:
    device = Real()
    panel = DevicePanel(ManualControl(device))
    device.broken = True
    click(panel.measure)
    settle(panel)
    assert "the oscilloscope does not answer: is it &lt;on&gt;?" in panel._refusal.value
    assert panel.latest is None
    device.broken = False
    click(panel.measure)
    settle(panel)
    assert panel._refusal.value == ""
    assert panel.latest is not None


@pytest.fixture
def permits() -> threading.Semaphore:
    return threading.Semaphore(0)


@pytest.fixture
def training(permits: threading.Semaphore) -> Iterator[Session]:
    def records() -> Iterator[Record]:
        for step in range(1, 100):
            permits.acquire()
            yield record(step)

    session = Session(Scripted(records())).start()
    yield session
    session.stop()
    permits.release(100)
    session.join()


def test_a_training_that_owns_the_device_is_asked_for_a_moment(
    training: Session, permits: threading.Semaphore
) -> None:
    drivers: list[str] = []

    class Owned(Toy):
        def _simulate(self, x: Tensor, theta: Tensor) -> Tensor:
            drivers.append(threading.current_thread().name)
            return super()._simulate(x, theta)

    panel = DevicePanel(ManualControl(Owned()), session=training)
    assert drivers == []
    draw(panel, "x", 0, [0.1], done=False)
    assert drivers == [], "not while one draws"
    draw(panel, "x", 0, [], done=True)
    wait_until(lambda: training.actions != ())
    assert "a measurement: 8 shots" in panel._status.value
    assert drivers == []
    permits.release()
    settle(panel)
    assert drivers == ["pnnlab-training_0"]
    assert panel.latest is not None


def test_one_panel_for_every_kind_of_system() -> None:
    for system, parts in (
        (Circuit(0, input_dim=8, replays=2, output_dim=4), 5),
        (Plate(0, input_dim=8, replays=1, output_dim=4), 3),
        (Oscillators(4), 3),
        (SHG(0), 1),
    ):
        panel = DevicePanel(ManualControl(system))
        assert panel.response.panels[0]["lines"][0]["n"] == system.output_dim
        assert len(panel.curves["theta"].spec["parts"]) == parts
        ends = [(group.start, group.stop) for group in system.theta_groups()]
        assert [start for start, _ in ends[1:]] == [stop for _, stop in ends[:-1]]
        assert not ends or (ends[0][0], ends[-1][1]) == (0, system.param_dim)


def test_on_a_bench_every_look_is_a_batch_of_shots() -> None:
    programme, limits = CircuitProgramme(16, 2, 8), Limits(low_v=-10, high_v=10)
    circuit = Circuit(3, input_dim=16, replays=2, output_dim=8, drift=False)
    with (
        VirtualBench(circuit.analog_ports()) as there,
        open_bench(
            there.generator, there.oscilloscope, programme, limits=limits, guarded=False
        ) as bench,
    ):
        panel = DevicePanel(ManualControl(bench, variable="bench"))
        assert len(panel.curves["theta"].spec["parts"]) == 5
        draw(panel, "x", 3, [0.9, 0.1], done=True)
        settle(panel)
        assert bench.passes == 8
        assert np.isfinite(shown(panel)).all()
        click(panel.send)
        assert "system = bench" in panel.code.code


def test_the_still_form_shows_the_same() -> None:
    panel = DevicePanel(ManualControl(Toy(), ToyTwin()))
    assert len(panel.figure().figure.axes) == 4
    click(panel.sweep)
    settle(panel)
    figure = panel.figure().figure
    titles = [axes.get_title(loc="left") + axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["Input x", "Parameters θ", "Response", "Twin − device"]
    assert titles[4] == "Change from x[3] = 0"
    assert "92 device passes" in figure.get_suptitle()
    alone = DevicePanel(ManualControl(Real())).figure().figure
    assert len(alone.axes) == 2, "nothing was measured yet"


def test_the_text_that_stands_in_for_it_is_always_the_same() -> None:
    bundle = DevicePanel(ManualControl(Toy()))._repr_mimebundle_()
    assert bundle["text/plain"] == "Device panel (alive in Jupyter)"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_the_last_wish_is_carried_out_and_those_between_are_not() -> None:
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def wish(name: str) -> Callable[[], None]:
        return lambda: done.append(name)

    def first() -> None:
        begun.set()
        go_on.wait()
        done.append("first")

    requests = LatestRequests()
    requests.submit("look", first)
    begun.wait()
    requests.submit("look", wish("second"))
    requests.submit("sweep", wish("sweep"))
    requests.submit("look", wish("third"))
    go_on.set()
    wait_until(lambda: not requests.busy)
    assert done == ["first", "sweep", "third"]
