"""What a view costs: the kernel, the training beside it, the page, and the memory.

The kernel is a real one, with a client that listens as a page does. Times that a page takes are
those beyond what the smallest widget takes in the same page, in turn with it: what else the machine
does slows both.
"""

import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from browser import Lab, jupyter_lab, lab_page, needs_chromium, write_notebook
from jupyter_client.manager import start_new_kernel
from records import EVALUATED, Scripted, record

from pnnlab.background import Session
from pnnlab.training import Record
from pnnlab.views import TrainingDashboard

HERE = Path(__file__).parent
Times: TypeAlias = dict[str, list[float]]
Seen: TypeAlias = dict[str, list[tuple[float, int]]]
PATHS = [str(HERE), str(HERE.parent / "tests"), str(HERE.parent)]

MORE_THAN_BARE = 1.5  # times what a widget takes that sends the same points as they are
SLOWER = 1.02
FIRST_PAINT = 1.0  # s
LAG = 0.1  # s, of an update on its way to the page
PER_SECOND = 20

HOURS, STEPS_PER_SECOND = 10, 10
STEPS = HOURS * 3600 * STEPS_PER_SECOND
EVERY = 100  # steps from one evaluation to the next
LOOKS = 200  # at the memory: it rises and falls as histories grow and are thinned
MORE_MEMORY = 1.05  # at most, of the most in the last five hours to the most in the first five


def in_a_kernel(code: str) -> dict[str, float]:
    """What ``code`` gives, run in a new kernel where in_kernel.py can be imported."""
    manager, client = start_new_kernel(kernel_name="python3", stderr=sys.stderr)
    said: list[str] = []

    def hear(message: dict[str, object]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream" and content["name"] == "stdout":
            said.append(content["text"])
        if message["msg_type"] == "error":
            raise AssertionError("\n".join(content["traceback"]))

    setup = f"import sys, json; sys.path[:0] = {PATHS!r}; import in_kernel"
    try:
        client.execute_interactive(setup, output_hook=hear)
        client.execute_interactive(f"print(json.dumps({code}))", output_hook=hear)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    found: dict[str, float] = json.loads("".join(said))
    return found


def test_an_update_of_two_traces_takes_little_of_the_kernel(benchmark):
    cost = benchmark.pedantic(in_a_kernel, ("in_kernel.update_cost()",), rounds=1)
    for what, milliseconds in cost.items():
        benchmark.extra_info[f"ms to update 1 000 points twice, {what}"] = round(milliseconds, 3)
    ratio = cost["alone"] / cost["of a bare widget"]
    benchmark.extra_info["alone to bare"] = round(ratio, 2)
    assert ratio <= MORE_THAN_BARE
    assert cost["of a dashboard"] <= cost["of a bare widget"]


def test_a_training_is_hardly_slowed_by_its_dashboard(benchmark):
    found = benchmark.pedantic(in_a_kernel, ("await in_kernel.slowdown()",), rounds=1)
    for what, value in found.items():
        benchmark.extra_info[f"a step with the dashboard to one without, {what}"] = round(value, 4)
    assert found["processor time"] <= SLOWER


def traced() -> int:
    """The memory in use, a few milliseconds after the last look: an update may be under way."""
    time.sleep(0.004)
    return tracemalloc.get_traced_memory()[0]


def test_memory_is_bounded_over_ten_hours(benchmark):
    held: list[int] = []

    def ten_hours() -> Iterator[Record]:
        for step in range(1, STEPS + 1):
            if step % (STEPS // LOOKS) == 0:
                dashboard.refresh()
                held.append(min(traced() for _ in range(5)))
            yield record(step, STEPS, **(EVALUATED if step % EVERY == 0 else {}))

    session = Session(Scripted(ten_hours()))
    tracemalloc.start()
    try:
        dashboard = TrainingDashboard(session)
        benchmark.pedantic(lambda: session.start().join(), rounds=1)
    finally:
        tracemalloc.stop()
    benchmark.extra_info["steps"] = STEPS
    first, last = max(held[: LOOKS // 2]), max(held[LOOKS // 2 :])
    benchmark.extra_info["most memory of the last five hours to that of the first"] = round(
        last / first, 3
    )
    benchmark.extra_info["MB"] = round(last / 1e6, 2)
    assert last <= MORE_MEMORY * first
    assert session.latest is not None
    assert session.latest.step == STEPS


# --- in a page -----------------------------------------------------------------------

SETUP = f"""
import asyncio, json, sys, time
sys.path[:0] = {PATHS!r}
import anywidget, traitlets
import numpy as np
from IPython.display import display
from pnnlab.background import Session
from pnnlab.views import Plot, PlotGrid, Series, TrainingDashboard
from records import EVALUATED, Scripted, record

class Least(anywidget.AnyWidget):
    _esm = '''export default {{ render({{ model, el }}) {{
      el.className = 'least';
      const show = () => {{ el.textContent = model.get('n'); }};
      model.on('change:n', show); show();
    }} }};'''
    n = traitlets.Int(0).tag(sync=True)

def panel(n):
    y = np.random.default_rng(n).random((2, 1000))
    x = np.arange(1000.0)
    lines = [Series(str(n), x, y[0]), Series('twin', x, y[1])]
    return Plot('Response', 'step', 'y (V)', lines)

def session():
    records = [record(s, 400, **(EVALUATED if s % 20 == 0 else {{}})) for s in range(1, 401)]
    done = Session(Scripted(records))
    done.start().join()
    return done

done = session()
display(Least(), PlotGrid())  # the widget library is loaded
"""
# In turn, thrice: the least widget, then a dashboard. Kernel and page share the machine's clock.
SHOWN = """
sent = {'least': [], 'board': []}
for number in range(3):
    for name, make in (('least', Least), ('board', lambda: TrainingDashboard(done))):
        sent[name].append(time.time())
        display(make())
        await asyncio.sleep(4)
print(json.dumps(sent))
"""
LIVE = f"""
least, plot = Least(), PlotGrid()
plot.add_class('live')
display(least, plot)
await asyncio.sleep(3)
sent = {{'least': [], 'plot': []}}
for n in range(1, {5 * PER_SECOND + 1}):
    shown = panel(n)
    sent['least'].append(time.time()); least.n = n
    sent['plot'].append(time.time()); plot.show([shown])
    await asyncio.sleep({1 / PER_SECOND})
print(json.dumps(sent))
"""
# The page notes when what it was sent has been painted: how many there are, and what they say.
WATCH = """
() => {
  window.seen = { leasts: [], boards: [], least: [], plot: [] };
  const last = { leasts: 1, boards: 0, least: 0, plot: 0 };
  const note = (name, value) => {
    if (!(value > last[name])) return;
    last[name] = value;
    requestAnimationFrame(() => seen[name].push([Date.now() / 1000, value]));
  };
  new MutationObserver(() => {
    const leasts = [...document.querySelectorAll('.least')];
    const drawn = (board) => board.querySelectorAll('.pnn-plot > svg path').length > 8;
    note('leasts', leasts.length);
    note('boards', [...document.querySelectorAll('.pnn-dashboard')].filter(drawn).length);
    note('least', Number(leasts.at(-1)?.textContent));
    const label = document.querySelector('.live .pnn-plot > svg')?.getAttribute('aria-label');
    note('plot', Number(label?.match(/Response, (\\d+) /)?.[1]));
  }).observe(document.body,
    { subtree: true, childList: true, characterData: true, attributes: true });
}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Path]]:
    folder = tmp_path_factory.mktemp("notebooks")
    own = tmp_path_factory.mktemp("own")
    with jupyter_lab(folder, own) as address, lab_page(address) as lab:
        yield lab, folder


def sent_and_seen(lab: tuple[Lab, Path], name: str, cell: str) -> tuple[Times, Seen]:
    """When the kernel sent what, and what the page noted of it, in a notebook of two cells."""
    view, folder = lab
    write_notebook(folder / name, SETUP, cell)
    view.open(name)
    view.page.evaluate(WATCH)
    view.run_all()
    view.wait_until_done(300)
    view.page.wait_for_timeout(1000)  # what was sent last has been painted
    said = view.page.locator(".jp-OutputArea-output pre").last.inner_text()
    return json.loads(said), view.page.evaluate("seen")


def late(sent: list[float], seen: list[tuple[float, int]], first: int) -> float:
    """Median time from sending to painting; what was sent counts from ``first``."""
    assert len(seen) >= min(3, len(sent)), "the page saw too little"
    return statistics.median(at - sent[number - first] for at, number in seen)


@needs_chromium
def test_a_dashboard_is_painted_at_once(benchmark, lab: tuple[Lab, Path]):
    sent, seen = benchmark.pedantic(sent_and_seen, (lab, "paint.ipynb", SHOWN), rounds=1)
    board, least = late(sent["board"], seen["boards"], 1), late(sent["least"], seen["leasts"], 2)
    benchmark.extra_info["first paint of a dashboard (s)"] = round(board, 3)
    benchmark.extra_info["of the least widget (s)"] = round(least, 3)
    assert board - least <= FIRST_PAINT


@needs_chromium
def test_the_page_keeps_up_with_twenty_updates_a_second(benchmark, lab: tuple[Lab, Path]):
    sent, seen = benchmark.pedantic(sent_and_seen, (lab, "live.ipynb", LIVE), rounds=1)
    plot, least = late(sent["plot"], seen["plot"], 1), late(sent["least"], seen["least"], 1)
    benchmark.extra_info["lag of two traces of 1 000 points (s)"] = round(plot, 3)
    benchmark.extra_info["lag of a number (s)"] = round(least, 3)
    assert plot - least <= LAG
