"""Views without a browser: what the model holds is shown, and what is clicked is done."""

import asyncio
import json
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import nbformat
import numpy as np
import pytest
from hands import click
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image
from records import EVALUATED, Scripted, record, wait_until

from pnnlab.background import Session
from pnnlab.errors import RangeError, ShapeError
from pnnlab.training import Record
from pnnlab.views import Picture, Plot, PlotGrid, Series, TrainingDashboard, use_style
from pnnlab.views import dashboard as dashboard_module
from pnnlab.views.chart import draw_live
from pnnlab.views.dashboard import error_text, tiles_html
from pnnlab.views.parts import count, duration, number
from pnnlab.views.style import DARK_PALETTE, PALETTE, LineStyle
from pnnlab.views.trainings import training_plots

TESTS = Path(__file__).parent


def ended(*records: Record) -> Session:
    session = Session(Scripted(records)).start()
    session.join()
    return session


class Hand:
    """Lets records through one at a time, when the test says so."""

    def __init__(self, steps: int = 100) -> None:
        self.steps = steps
        self.permits = threading.Semaphore(0)
        self.closed = False

    def __call__(self) -> Iterator[Record]:
        for step in range(1, self.steps + 1):
            self.permits.acquire()
            yield record(step, self.steps)

    def let(self, steps: int) -> None:
        self.permits.release(steps)


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def session(hand: Hand) -> Iterator[Session]:
    session = Session(Scripted(hand(), checkpoint=lambda: None))
    yield session
    session.stop()
    hand.let(1000)
    session.join()


@pytest.fixture
def dashboard(session: Session) -> Iterator[TrainingDashboard]:
    dashboard = TrainingDashboard(session)
    yield dashboard
    dashboard.close()


# --- the line plot -------------------------------------------------------------


def test_a_grid_gets_the_points_of_all_its_panels_as_one_buffer() -> None:
    plots = PlotGrid()
    lines = [Series("a", [1, 2], [3, 4]), Series("b", [5], [np.nan], style=LineStyle("green", ()))]
    one = Plot("T", "step", "volt (V)", lines, unit="V")
    plots.show([one, Plot("U", "step", "y", [Series("c", [6], [7])])])
    assert [[line["n"] for line in panel["lines"]] for panel in plots.panels] == [[2, 1], [1]]
    values = struct.unpack("<8f", plots.points)
    assert values[:5] + values[6:] == (1, 2, 3, 4, 5, 6, 7)
    assert np.isnan(values[5])
    assert plots.panels[0]["lines"][1]["light"] == PALETTE["green"]
    json.dumps(plots.panels, allow_nan=False)


def test_what_has_not_changed_is_not_sent_and_what_has_is_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plots, sent, observed = PlotGrid(), [], []
    monkeypatch.setattr(plots.comm, "send", lambda update, buffers: sent.append((update, buffers)))
    panel = Plot("T", "step", "y", [Series("a", [1, 2], [3, 4])])
    plots.observe(lambda change: observed.append(change["name"]))
    plots.show([panel, panel])
    assert observed == ["panels", "points"]
    ((message, buffers),) = sent
    assert message["method"] == "update"
    assert message["state"] == {"panels": plots.panels}
    assert message["buffer_paths"] == [["points"]]
    assert struct.unpack("<8f", *buffers) == (1, 2, 3, 4) * 2
    plots.show([panel, panel])
    assert len(sent) == 1
    changed = Series("a", [1, 2], [3, 5])
    plots.show([panel, replace(panel, marks=[changed])])
    assert (sent[-1][0]["state"], len(sent[-1][1])) == ({}, 1)
    plots.show([panel, replace(panel, marks=[changed], y_limits=(0, 9))])
    message, buffers = sent[-1]
    assert (message["state"]["panels"][1]["y_range"], buffers) == ([0, 9], [])
    assert message["buffer_paths"] == []


def test_a_page_that_comes_later_gets_what_is_shown() -> None:
    plots = PlotGrid()
    plots.show([Plot("T", "step", "y", [Series("a", [1, 2], [3, 4])])])
    state = plots.get_state()
    assert state["panels"][0]["title"] == "T"
    assert struct.unpack("<4f", state["points"]) == (1, 2, 3, 4)


def test_a_grid_that_was_closed_is_shown_nothing_more() -> None:
    plots = PlotGrid()
    plots.close()
    plots.show([Plot("T", "step", "y")])
    assert plots.panels[0]["title"] == "T"


def limits(plot: Plot) -> tuple[tuple[float, float], tuple[float, float]]:
    axes = Figure().subplots()
    draw_live(axes, plot)
    return axes.get_xlim(), axes.get_ylim()


def test_pictures_begin_at_zero_unless_told_otherwise() -> None:
    line = Series("a", [0, 10], [2.0, 5.0])
    x, (low, high) = limits(Plot("", "", "", [line]))
    assert (x, low) == ((0, 10), 0)
    assert 5 < high < 6
    assert limits(Plot("", "", "", [line], y_limits=(1, 9)))[1] == (1, 9)
    low, high = limits(Plot("", "", "", [line], log=True))[1]
    assert 0 < low < 2 < 5 < high
    below = Series("a", [0, 1], [-1.0, 1.0])
    assert limits(Plot("", "", "", [below]))[1][0] < -1
    for nothing in ([], [Series("a", [], [])], [Series("a", [1], [np.nan])]):
        low, high = limits(Plot("", "", "", nothing))[1]
        assert low == 0 < high
    flat = limits(Plot("", "", "", [Series("a", [3, 3], [0, 0])]))
    assert all(high > low for low, high in flat)


def test_a_line_that_cannot_be_drawn_says_what_is_wrong() -> None:
    with pytest.raises(ShapeError, match=r"'gap'.*\(2,\).*\(3,\)"):
        Series("gap", [1, 2], [1, 2, 3])
    with pytest.raises(ShapeError, match="choose from blue, vermillion"):
        Series("gap", [1], [1], style=LineStyle("red", ()))


@pytest.mark.parametrize("log", [False, True])
def test_the_still_form_shows_the_same_lines(log: bool) -> None:
    axes = Figure().subplots()
    lines = [
        Series("batch", [1, 2], [0.5, 0.4], style=LineStyle("grey", ()), faint=True),
        Series("device", [1, 2], [0.25, 0.125], style=LineStyle("blue", (6, 3))),
    ]
    draw_live(axes, Plot("Loss", "step", "loss (nat)", lines, unit="nat", log=log))
    assert axes.get_title(loc="left") + axes.get_title() == "Loss"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nat)")
    assert axes.get_yscale() == ("log" if log else "linear")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["device  0.125 nat"]
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [0.25, 0.125])


def test_an_empty_panel_says_why() -> None:
    axes = Figure().subplots()
    draw_live(axes, Plot("Gap", "step", "gap", note="no twin to compare with"))
    assert [text.get_text() for text in axes.texts] == ["no twin to compare with"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.12345, "0.123"),
        (93.24, "93.2"),
        (412, "412"),
        (1.5e7, "1.50e+07"),
        (2e-5, "2.00e-05"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


# --- style and pictures ----------------------------------------------------------


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, as WCAG 2 defines it."""

    def luminance(color: str) -> float:
        parts = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_device_and_twin_are_told_apart_on_light_and_on_dark() -> None:
    for name in ("blue", "vermillion", "grey", "green"):
        assert contrast(PALETTE[name], "#FFFFFF") >= 3
        assert contrast(DARK_PALETTE[name], "#111111") >= 3


def test_use_style_styles_and_nothing_else_does() -> None:
    with mpl.rc_context():
        mpl.rcdefaults()
        ended_session = ended(record(1, 1, **EVALUATED))
        TrainingDashboard(ended_session).figure()
        assert mpl.rcParams["axes.spines.top"]
        use_style()
        assert not mpl.rcParams["axes.spines.top"]
        assert mpl.rcParams["figure.facecolor"] == "#FFFFFF"


def test_a_picture_is_a_small_opaque_png() -> None:
    session = ended(*(record(s, 400, **(EVALUATED if s % 40 == 0 else {})) for s in range(1, 401)))
    picture = TrainingDashboard(session).figure()
    png = picture._repr_png_()
    with Image.open(BytesIO(png)) as image:
        assert image.width > 900
        assert image.convert("RGBA").getextrema()[3] == (255, 255)
    assert len(png) < 100_000
    assert repr(picture) == "Picture of 4 plots"
    assert isinstance(picture, Picture)


# --- model to view -----------------------------------------------------------------


def test_the_numbers_of_the_last_record_are_shown(session: Session, hand: Hand) -> None:
    html = tiles_html(ended(record(60), record(61, **EVALUATED), record(62)))
    for part in (">62 <small>of 100<", "91.2 %", "93.4 %", "12\u202f062", ">2.00<"):
        assert part in html, part
    assert "<span>Training time</span>31 s" in html
    session.start()
    hand.let(62)
    wait_until(lambda: "<span>Time left</span>19 s" in tiles_html(session))


def test_panels_follow_the_records() -> None:
    session = ended(*(record(s) for s in range(1, 50)), record(50, **EVALUATED))
    loss, accuracy, gap, clamped = training_plots(session)
    lines = {line.label: line for line in loss.lines}
    assert list(lines) == ["each batch", "batch", "device", "twin"]
    np.testing.assert_allclose(lines["each batch"].y, [2 / s for s in range(1, 51)])
    np.testing.assert_allclose(lines["batch"].y[-1], np.mean([2 / s for s in range(46, 51)]))
    assert lines["twin"].style.dash
    values = {line.label: float(np.asarray(line.y)[-1]) for line in accuracy.lines}
    assert values == pytest.approx({"batch": 50.0, "device": 91.2, "twin": 93.4})
    assert [float(np.asarray(line.y)[-1]) for line in gap.lines] == pytest.approx([1, 2])
    assert [float(np.asarray(line.y)[-1]) for line in clamped.lines] == pytest.approx([10, 20])
    for panel in (loss, accuracy, gap, clamped):
        assert panel.x_limits == (0, 64)
        assert "(" in panel.y_label, "a unit"


def test_a_network_without_a_twin_says_so() -> None:
    alone = {**EVALUATED, "twin_metric": None, "twin_loss": None, "gap": None}
    session = ended(record(1, **alone))
    loss, accuracy, gap, _ = training_plots(session)
    assert [line.label for line in loss.lines] == ["each batch", "batch", "device"]
    assert [line.label for line in accuracy.lines] == ["batch", "device"]
    assert gap.empty
    assert gap.note == "no twin to compare with"
    assert "twin" in tiles_html(session)
    assert "–" in tiles_html(session)
    assert len(TrainingDashboard(session).figure().figure.axes) == 4


def test_a_digital_network_shows_no_device() -> None:
    fields = {"clamped": (), "device_passes": 0, "device_metric": 0.9, "device_loss": 0.3}
    session = ended(record(1, **fields))
    dashboard = TrainingDashboard(session)
    assert [panel.title for panel in training_plots(session)] == ["Loss", "Accuracy"]
    assert len(dashboard.plots.panels) == 2
    picture = dashboard.figure()
    assert len(picture.figure.axes) == 2
    said = tiles_html(session) + picture.figure.get_suptitle()
    assert "device" not in said
    assert "90.0 %" in said


def test_a_session_that_failed_shows_why_and_what_to_do() -> None:
    def records(error: Exception) -> Iterator[Record]:
        yield record(1)
        raise error

    for error in (RangeError("x holds <3> NaN; look for a division"), ZeroDivisionError("by zero")):
        session = Session(Scripted(records(error))).start()
        with pytest.raises(type(error)):
            session.join()
        dashboard = TrainingDashboard(session)
        assert dashboard._error.layout.display is None
        shown = dashboard._error.value
        assert type(error).__name__ in shown
        assert "<3>" not in shown, "escaped"
        assert "Failed" in dashboard._state.value
        assert dashboard.toggle.disabled
        assert dashboard.stop.disabled
        assert "Failed at step 1" in dashboard.figure().figure.get_suptitle()
    assert "weights of step 1" in shown
    assert "await session.done()" in shown
    assert error_text(ended(record(1))) == ""


def test_before_the_first_step_everything_waits(dashboard: TrainingDashboard) -> None:
    assert dashboard.toggle.description == "Start"
    assert dashboard.stop.disabled
    assert dashboard.checkpoint.disabled
    assert [panel["note"] for panel in dashboard.plots.panels] == [
        "waiting for the first step",
        "waiting for the first step",
        "shown at the first evaluation",
        "waiting for the first step",
    ]
    assert "before the first step" in dashboard.figure().figure.get_suptitle()


def test_a_running_session_is_followed(
    dashboard: TrainingDashboard, session: Session, hand: Hand
) -> None:
    session.start()
    hand.let(7)
    wait_until(lambda: ">7 <small>" in dashboard._tiles.value)
    assert "Running" in dashboard._state.value
    wait_until(lambda: dashboard.plots.panels[0]["lines"][0]["n"] == 7)
    hand.let(1000)
    wait_until(lambda: "Finished" in dashboard._state.value)
    assert ">100 <small>" in dashboard._tiles.value
    wait_until(lambda: not painting())


def painting() -> bool:
    return any(thread.name == "pnnlab-dashboard" for thread in threading.enumerate())


def test_a_closed_dashboard_lets_the_session_go_on(session: Session, hand: Hand) -> None:
    dashboard = TrainingDashboard(session.start())
    hand.let(1)
    dashboard.close()
    wait_until(lambda: not painting())
    hand.let(1)
    wait_until(lambda: session.latest is not None and session.latest.step == 2)
    assert session.status == "running"


def test_updates_take_at_most_a_fiftieth_of_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    spent: list[float] = []
    plain = TrainingDashboard.refresh

    def timed(self: TrainingDashboard) -> None:
        began = time.thread_time()
        plain(self)
        while time.thread_time() - began < 0.004:  # as on a machine four times slower
            pass
        spent.append(time.thread_time() - began)

    def slowly() -> Iterator[Record]:
        for step in range(1, 4000):
            time.sleep(0.001)
            yield record(step, 4000)

    session = Session(Scripted(slowly()))
    monkeypatch.setattr(TrainingDashboard, "refresh", timed)
    TrainingDashboard(session)
    spent.clear()
    began = time.perf_counter()
    session.start()
    time.sleep(2)
    took = time.perf_counter() - began
    painted = len(spent)
    session.stop()
    session.join()
    assert painted >= 3
    assert sum(spent[: painted - 1]) / took <= 0.02


# --- view to model -------------------------------------------------------------------


def test_the_buttons_command_the_session(
    dashboard: TrainingDashboard, session: Session, hand: Hand
) -> None:
    click(dashboard.toggle)
    hand.let(3)
    wait_until(lambda: session.latest is not None and session.latest.step == 3)
    assert session.status == "running"
    wait_until(lambda: dashboard.toggle.description == "Pause")

    click(dashboard.toggle)
    wait_until(lambda: "Pausing after this step" in dashboard._state.value)
    assert dashboard.toggle.description == "Resume"
    hand.let(1)
    wait_until(lambda: "Paused" in dashboard._state.value)
    assert session.status == "paused"

    click(dashboard.checkpoint)
    wait_until(lambda: "checkpoint written at step 4" in dashboard._state.value)
    assert session.status == "paused"

    click(dashboard.toggle)
    wait_until(lambda: session.status == "running")
    hand.let(2)
    wait_until(lambda: session.latest is not None and session.latest.step == 6)

    wait_until(lambda: not dashboard.stop.disabled)
    click(dashboard.stop)
    wait_until(lambda: "Stopping after this step" in dashboard._state.value)
    hand.let(1)
    wait_until(lambda: session.status == "stopped")
    wait_until(lambda: "Stopped" in dashboard._state.value)
    assert dashboard.toggle.disabled


def test_a_pause_can_be_taken_back_before_it_began(
    dashboard: TrainingDashboard, session: Session, hand: Hand
) -> None:
    session.start()
    wait_until(lambda: dashboard.toggle.description == "Pause")
    click(dashboard.toggle)
    click(dashboard.toggle)
    hand.let(2)
    wait_until(lambda: session.latest is not None and session.latest.step == 2)
    assert session.status == "running"


def test_without_a_place_for_checkpoints_the_button_says_so() -> None:
    session = ended(record(1))
    dashboard = TrainingDashboard(session)
    assert dashboard.checkpoint.disabled
    assert "no place" in dashboard.checkpoint.tooltip


# --- how it is shown -------------------------------------------------------------------


def test_watching_shows_the_dashboard_and_then_its_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[object] = []
    monkeypatch.setattr(dashboard_module, "show", shown.append)
    dashboard = TrainingDashboard(Session(Scripted([record(1, 1, **EVALUATED)])))
    assert shown == [], "nothing is displayed by the constructor"
    asyncio.run(dashboard.watch())
    assert shown[0] is dashboard
    assert isinstance(shown[1], Picture)
    assert "Finished at step 1 of 1" in shown[1].figure.get_suptitle()


def test_a_failed_training_still_leaves_its_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def records() -> Iterator[Record]:
        yield record(1)
        raise RangeError("x is out of range")

    shown: list[object] = []
    monkeypatch.setattr(dashboard_module, "show", shown.append)
    with pytest.raises(RangeError, match="out of range"):
        asyncio.run(TrainingDashboard(Session(Scripted(records()))).watch())
    assert isinstance(shown[-1], Picture)


def test_the_text_that_stands_in_for_it_is_always_the_same() -> None:
    bundle = TrainingDashboard(ended(record(1)))._repr_mimebundle_()
    assert bundle["text/plain"] == "Training dashboard (alive in Jupyter)"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_training_that_goes_on_while_it_is_drawn_is_drawn_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluated: list[Record] = []

    def evaluate_once_more(_: Session) -> tuple[Record, ...]:
        step = len(evaluated) + 1
        evaluated.append(record(step, **EVALUATED))
        return tuple(evaluated)

    session = ended(record(1))
    monkeypatch.setattr(Session, "evaluations", property(evaluate_once_more))
    for panel in training_plots(session)[:2]:
        assert {line.label: len(line.x) for line in panel.lines}["device"] == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.9, "9.9 s"), (9.96, "10 s"), (59.7, "1 min 00 s"), (3725, "1 h 02 min")],
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_thousands_are_apart() -> None:
    assert count(1234567) == "1\u202f234\u202f567"


@pytest.mark.slow
def test_a_notebook_without_a_browser_trains_and_keeps_its_picture() -> None:
    """As nbclient, nbval and Voila run it: no page ever answers."""
    setup = f"""\
import sys
sys.path.insert(0, {str(TESTS)!r})
from records import EVALUATED, Scripted, record
from pnnlab.background import Session
from pnnlab.views import TrainingDashboard
evaluated = {{s: EVALUATED for s in range(5, 51, 5)}}
session = Session(Scripted(record(s, 50, **evaluated.get(s, {{}})) for s in range(1, 51)))"""
    cells = [
        setup,
        "await TrainingDashboard(session).watch()",
        "dashboard = TrainingDashboard(session)\ndashboard",
        "await session.done(); dashboard.figure()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert [[output.output_type for output in cell] for cell in outputs] == [
        [],
        ["display_data", "display_data"],
        ["execute_result"],
        ["execute_result"],
    ]
    for shown in (outputs[1][0], outputs[2][0]):
        assert "application/vnd.jupyter.widget-view+json" in shown.data
    for shown in (outputs[1][1], outputs[3][0]):
        assert set(shown.data) == {"text/plain", "image/png"}
        assert shown.data["text/plain"] == "Picture of 4 plots"
    assert len(nbformat.writes(notebook)) < 400_000
