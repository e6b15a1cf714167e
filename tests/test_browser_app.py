"""The app as Voila serves it, in headless Chromium: for everyone, and the same lab in every tab."""

import re
from pathlib import Path
from typing import Any

from browser import in_a_browser, lab_page
from playwright.sync_api import Page, expect
from served import served

from pnnlab import cli

pytestmark = in_a_browser

SLOWEST = 600_000  # ms, on a machine that does much else
TABS = {
    "Device": ".pnn-panel",
    "Training": ".pnn-dashboard",
    "Live inference": ".pnn-inference",
    "Past runs": ".pnn-dashboard table, .pnn-dashboard .pnn-message",
}
CONTROLS = "button|textbox|spinbutton|slider|combobox|listbox|checkbox|radio|tab|img|link"
STEP = ".pnn-dashboard .pnn-tiles div"

# Texts that stand out too little from what lies behind them (WCAG 2, level AA).
FAINT = """
() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const behind = (el) => {
    for (let at = el; at; at = at.parentElement) {
      const [r, g, b, alpha = 1] = parts(getComputedStyle(at).backgroundColor);
      if (alpha > 0.5) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const opacity = (el) => el ? getComputedStyle(el).opacity * opacity(el.parentElement) : 1;
  const light = (rgb) => rgb.map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  for (const el of document.querySelectorAll('.pnn-app *')) {
    const own = [...el.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
    if (!own.length || !el.getClientRects().length) continue;
    if (el.closest(':disabled, style, option')) continue;
    const style = getComputedStyle(el);
    if (style.visibility === 'hidden') continue;
    const under = behind(el);
    const [r, g, b, alpha = 1] = parts(el instanceof SVGElement ? style.fill : style.color);
    const part = alpha * opacity(el);
    const ink = [r, g, b].map((value, i) => part * value + (1 - part) * under[i]);
    const [high, low] = [light(ink), light(under)].sort((one, other) => other - one);
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(1)}: ${own[0].data.trim()}`);
  }
  return found;
}
"""
# Whether the element that has the focus would look the same without it.
HIDDEN_FOCUS = """
() => {
  const el = document.activeElement;
  if (!el?.closest('.pnn-app')) return null;
  const look = () => {
    const all = [el, ...el.querySelectorAll('*')].slice(0, 40);
    return all.map((one) => getComputedStyle(one)).map((style) => [style.outlineStyle,
      style.outlineWidth, style.boxShadow, style.borderColor, style.backgroundColor,
      style.stroke, style.strokeWidth].join()).join();
  };
  const focused = look();
  el.blur();
  const same = focused === look();
  el.focus();
  return [el.outerHTML.slice(0, 120), same];
}
"""


def look_at(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab).click()
    expect(page.locator(TABS[tab]).filter(visible=True).first).to_be_visible(timeout=SLOWEST)


def unnamed(page: Page) -> list[str]:
    """What a screen reader would call a button, a field or a picture, and no more."""
    found: list[str] = []
    whole = None  # how far the last control is indented: what is below it is part of it
    for line in page.locator(".pnn-app").aria_snapshot().splitlines():
        depth = len(line) - len(line.lstrip())
        if whole is not None and depth > whole:
            continue
        whole = depth if re.match(rf"\s*- ({CONTROLS})\b", line) else None
        if re.match(rf"\s*- ({CONTROLS})(:|$| \[)", line):
            found.append(line)
    return found


def walked(page: Page, most: int) -> list[tuple[str, bool]]:
    """Where the Tab key leads from here, and whether the focus cannot be seen there."""
    stops = []
    for _ in range(most):
        page.keyboard.press("Tab")
        stop: Any = page.evaluate(HIDDEN_FOCUS)
        if stop is not None:
            stops.append((stop[0], stop[1]))
    return stops


def step(page: Page) -> int:
    words = page.locator(STEP).first.inner_text()
    return int("".join(re.findall(r"\d", words.split("of")[0])))


def goes_on(page: Page) -> None:
    at = step(page)
    page.wait_for_function(
        "([where, was]) => { const shown = document.querySelector(where)?.innerText ?? '';"
        " return Number(shown.split('of')[0].replaceAll(/\\D/g, '')) > was; }",
        arg=[STEP, at],
    )


def test_the_app_is_for_everyone_and_one_lab_in_every_tab(tmp_path: Path) -> None:
    served_one = cli.APP.read_text(encoding="utf-8").replace(
        r"\"results\"", r"\"results\", epochs=4000"
    )
    assert "epochs=4000" in served_one, "a training that lasts as long as this test"
    (tmp_path / "lab.ipynb").write_text(served_one, encoding="utf-8")
    with served(tmp_path, "lab.ipynb") as address, lab_page(address) as lab:
        page = lab.page
        page.set_default_timeout(SLOWEST)
        page.goto(address, wait_until="commit")
        page.wait_for_selector(".pnn-app")
        problems: dict[str, list[str]] = {}
        for tab in TABS:
            look_at(page, tab)
            stops = walked(page, 12)
            problems |= {
                f"{tab}: without a name": unnamed(page),
                f"{tab}: too faint": page.evaluate(FAINT),
                f"{tab}: focus not seen": [where for where, hidden in stops if hidden],
            }
            assert stops, f"{tab}: the keyboard reaches nothing"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
            page.screenshot(path=tmp_path / f"{tab}.png", full_page=True)

        look_at(page, "Training")
        page.get_by_role("button", name="Start").click()
        page.wait_for_selector(STEP)
        goes_on(page)
        second = page.context.browser.new_page()
        second.set_default_timeout(SLOWEST)
        second.goto(f"{address}&theme=dark", wait_until="commit")
        second.wait_for_selector(STEP)
        goes_on(second)
        problems["dark: too faint"] = second.evaluate(FAINT)
        second.screenshot(path=tmp_path / "dark.png", full_page=True)
        at = step(second)
        page.reload(wait_until="commit")
        page.wait_for_selector(STEP)
        assert step(page) >= at
        goes_on(page)
        second.get_by_role("button", name="Stop").click()
        expect(page.locator(".pnn-state")).to_contain_text("Stopped", timeout=SLOWEST)

        assert {what: found for what, found in problems.items() if found} == {}
        assert lab.errors == []
        assert lab.outside == []
        assert [folder.name for folder in (tmp_path / "results").iterdir()] == ["digits-001"]
