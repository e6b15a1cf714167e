"""Pendula in a real browser: they move, and a drag with the mouse or a key pushes them."""

import base64

import numpy as np
from browser import in_a_browser, lab_page

from pnnlab.views.pendulum_view import PendulumView

pytestmark = in_a_browser

SHOW = """
async ({ code, style, frames }) => {
  const bytes = Uint8Array.from(atob(frames), (c) => c.charCodeAt(0));
  const state = { names: ["in silico", "PAT"], stopped: [40, -1], step_s: 0.01, pushed_at: 50,
    push: 0, frames: new DataView(bytes.buffer) };
  const heard = {};
  window.sent = [];
  const model = { get: (name) => state[name], off: () => {},
    on: (name, act) => { heard[name] = act; }, send: (message) => sent.push(message.state),
    set: (name, value) => { state[name] = value; heard[`change:${name}`]?.(); } };
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const widget = (await import(url)).default;
  const el = document.createElement("div");
  document.head.append(Object.assign(document.createElement("style"), { textContent: style }));
  document.body.append(el);
  window.end = widget.render({ model, el });
}
"""


def test_pendula_move_and_are_pushed() -> None:
    seconds = np.arange(101) * 0.01
    falling = np.stack([0 * seconds, 3 * seconds**2, 0 * seconds], 1)
    swaying = np.stack([0.3 * np.sin(9 * seconds), 0.1 * np.cos(9 * seconds), 2 + 0 * seconds], 1)
    frames = base64.b64encode(np.stack([falling, swaying]).astype("<f4").tobytes()).decode()
    given = {"code": PendulumView._esm, "style": PendulumView._css, "frames": frames}
    with lab_page("about:blank") as lab:
        page = lab.page
        page.evaluate(SHOW, given)
        rods = page.locator(".rod")
        assert rods.count() == 2
        first = rods.nth(1).get_attribute("d")
        page.wait_for_function(
            "first => document.querySelectorAll('.rod')[1].getAttribute('d') !== first", arg=first
        )
        page.get_by_text("stopped at its limit").wait_for()
        assert page.locator("svg[data-stopped]").count() == 1
        box = page.locator(".pnn-pendulum svg").nth(1).bounding_box()
        page.mouse.move(box["x"] + 150, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 210, box["y"] + 100, steps=4)
        page.mouse.up()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Escape")
        pushes = [state["push"] for state in page.evaluate("sent")]
        assert np.allclose(pushes, [3.0, 1.0, 0.0])
        page.evaluate("end()")
        still = rods.nth(1).get_attribute("d")
        page.wait_for_timeout(200)
        assert rods.nth(1).get_attribute("d") == still
