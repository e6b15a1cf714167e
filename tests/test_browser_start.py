"""Widgets whose code comes late, or whose state comes in any order, show what they should."""

import base64
import pkgutil
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anywidget
import pytest
import torch
from browser import in_a_browser, lab_page, write_notebook
from hands import click, share
from playwright.sync_api import expect
from records import record, wait_until
from test_live_inference import DIGITS, VOWELS, network
from test_views import ended
from test_views_confusion import found
from torch import nn
from toy import Toy, ToyTwin

import pnnlab
from pnnlab.characterize import ManualControl
from pnnlab.demos import LiveInference
from pnnlab.plants import Pendulum
from pnnlab.views import ConfusionView, DevicePanel, PendulumView, TrainingDashboard
from pnnlab.views.browser_sound import BrowserSound
from pnnlab.views.parts import OneOf, PageWidget, Table, table_row

pytestmark = in_a_browser

# The code of a widget takes longer than the two seconds that anywidget gives it.
LATE = """
const make = URL.createObjectURL.bind(URL);
URL.createObjectURL = (thing) => make(thing.type !== "text/javascript" ? thing
  : new Blob(["await new Promise((go) => setTimeout(go, 3000));\\n", thing], { type: thing.type }));
"""
SHOWN = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
import ipywidgets
from pnnlab.views import Plot, PlotGrid, Series
from pnnlab.demos.inputs import ExampleList

def show(grid, n):
    lines = [Series("a", range(n), range(n))]
    grid.show([Plot("T", "step", "y", lines)])

told, asked = PlotGrid(), PlotGrid()
choice = ExampleList("Which", on_choose=lambda _: show(asked, 5), on_more=print)
choice.offer([{{"name": "this one", "text": "this one"}}])
show(told, 3)
ipywidgets.VBox([choice, told, asked])
"""


def test_widgets_whose_code_comes_late_show_what_the_kernel_sends(server: tuple[str, Path]) -> None:
    write_notebook(server[1] / "late.ipynb", SHOWN)
    with lab_page(server[0]) as lab:
        lab.page.add_init_script(LATE)
        lab.open("late.ipynb")
        lab.run_all()
        grids = lab.page.locator(".pnn-plots")
        # Sent before the code came, and refused.
        expect(grids.first.locator(".pnn-plot > svg")).to_have_attribute("aria-label", "T, a  2.00")
        lab.page.get_by_role("button", name="this one").click()
        # Sent long after that.
        expect(grids.last.locator(".pnn-plot > svg")).to_have_attribute("aria-label", "T, a  4.00")
        assert lab.errors == []


# A model as a page has it, and a widget of `code` in it that begins with one state and then takes
# others; gives what is seen then.
TAKES = """
async ([code, first, changes]) => {
  const known = (value) => (value?.bytes === undefined ? value
    : new DataView(Uint8Array.from(atob(value.bytes), (byte) => byte.charCodeAt(0)).buffer));
  const state = {};
  const put = (changed) => Object.entries(changed).forEach(([name, value]) => {
    state[name] = known(value);
  });
  let calls = [];
  const tell = (event) => calls.filter(([names]) => names.split(" ").includes(event))
    .forEach(([, call]) => call());
  const model = { get: (name) => state[name], set() {}, send() {},
    on(names, call) { calls.push([names, call]); },
    off(names, call) { calls = calls.filter((one) => one[0] !== names || one[1] !== call); } };
  const painted = async () => {
    for (let i = 0; i < 4; i++) await new Promise((go) => requestAnimationFrame(go));
  };
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const { render } = (await import(url)).default;
  const el = document.createElement("div");
  document.body.append(el);
  put(first);
  const end = render({ model, el });
  await painted();
  for (const changed of changes) {
    put(changed);
    Object.keys(changed).forEach((name) => tell(`change:${name}`));
    tell("change");
    await painted();
  }
  const typed = [...el.querySelectorAll("input, select, textarea")].map((one) => one.value);
  const seen = [el.innerHTML.replaceAll(/pnn-[a-z0-9]{9,}/g, "an id"), typed];
  document.body.toggleAttribute("data-other-theme");
  await null; // the widget is told of it, and looks once the new style is there
  el.remove();
  end();
  return seen;
}
"""


@pytest.fixture(scope="module")
def widgets() -> Iterator[list[anywidget.AnyWidget]]:
    """Widgets of every kind, with much to show."""
    panel = DevicePanel(ManualControl(Toy(), ToyTwin()), units=lambda unit: Toy(seed=unit))
    digits = LiveInference(network(64, 16, 10), DIGITS).choose(1)
    vowels = LiveInference(network(12, 12, 7), VOWELS)
    for ask in (panel.sweep, panel.send):
        wait_until(lambda: not panel.requests.busy)
        click(ask)
    wait_until(lambda: bool(panel.map.spec) and not panel.requests.busy)
    confusion = ConfusionView(found(), torch.rand(6, 64))
    share(confusion, cell=[1, 1])
    board = TrainingDashboard(ended(record(1), record(2)))
    folds = OneOf({"one": "One", "other": "Other"}, label="Look", folds=True)
    folds.value = "other"
    table = Table("Runs", ["name"], ["number"], choosing="Show", chosen=["a"])
    table.rows = [table_row(key, [(key, key), (str(n), n)]) for n, key in enumerate("ab")]
    pendula = PendulumView({"held by nothing": nn.Linear(4, 1)}, Pendulum(), steps=60)
    sound = BrowserSound()
    yield [
        one
        for whole in (panel, digits, vowels, board, confusion, folds, table, pendula, sound)
        for one in inside(getattr(whole, "widget", whole))
        if isinstance(one, anywidget.AnyWidget)
    ]
    for view in (panel, digits, vowels, board):
        view.close()


def inside(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from inside(child)


def kind_of(widget: anywidget.AnyWidget) -> type[anywidget.AnyWidget]:
    kind = type(widget).__base__  # anywidget makes a class of each widget's own
    assert kind is not None
    return kind


def sent(value: object) -> object:
    return {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def test_a_widget_shows_the_same_in_whatever_order_its_state_comes(
    widgets: list[anywidget.AnyWidget],
) -> None:
    for module in pkgutil.walk_packages(pnnlab.__path__, "pnnlab."):
        __import__(module.name)
    kinds = {kind for kind in PageWidget.__subclasses__() if "pnnlab" in kind.__module__}
    assert {kind_of(widget) for widget in widgets} == kinds
    order = random.Random(0)
    with lab_page("about:blank") as lab:
        lab.page.emulate_media(reduced_motion="reduce")  # an animation is never twice the same
        for widget in widgets:
            names = list(kind_of(widget).class_own_traits(sync=True))
            whole = {name: sent(getattr(widget, name)) for name in names}
            empty = {name: sent(widget.traits()[name].default()) for name in names}
            expected = lab.page.evaluate(TAKES, [widget._esm, whole, []])
            for _ in range(4):
                order.shuffle(names)
                changes = [{name: whole[name]} for name in names]
                got = lab.page.evaluate(TAKES, [widget._esm, empty, changes])
                assert got == expected, (kind_of(widget), names)
        lab.page.wait_for_timeout(500)  # it has looked
        assert lab.errors == []
