// A curve to draw, with mouse, finger or keys. What is drawn is shown at once and sent to the model
// (panel.py), one message at a time; the model answers each with the values that count.

const SPACE = { top: 16, right: 8, bottom: 32, left: 32 };
const HEIGHT = 158;
const BEYOND = 13; // pixels on either side of the limits
const SNAP = 4; // pixels beyond a limit that still mean the limit
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 0.01], ArrowDown: [0, -0.01],
  PageUp: [0, 0.1], PageDown: [0, -0.1], Home: [-Infinity, 0], End: [Infinity, 0] };

const rounded = (value) => Math.round(value * 1000) / 1000;
const bounded = (value, low, high) => Math.max(low, Math.min(high, value));

function render({ model, el }) {
  el.classList.add("pnn-control", "pnn-curve");
  const me = Math.random().toString(36).slice(2);
  let values = new Float32Array(0);
  const edits = new Map(); // element -> value, not sent yet
  let refusedPath = [];
  let [sent, answered] = [0, 0];
  let [drawing, begins, finished] = [null, true, false]; // last point of a stroke; its ends

  // --- what stands around the curve ---------------------------------------------------
  const title = html("b");
  const parts = html("select");
  const buttons = html("div", { role: "group" });
  const examples = html("select");
  const svg = node("svg", { height: HEIGHT, tabindex: 0, role: "slider" });
  const element = html("input", { type: "number", min: 0, step: 1 });
  const slider = html("input", { type: "range", min: 0, max: 1, step: 0.001 });
  const exact = html("input", { type: "number", step: 0.01 });
  const said = html("div", { role: "alert" });
  el.append(
    html("header", {}, title, buttons, examples), svg,
    html("div", { class: "row" }, parts, html("label", {}, "element", element), slider, exact), said);

  const shown = () => model.get("spec").parts[model.get("part")];
  const chosen = () => bounded(model.get("chosen"), 0, values.length - 1);

  function build() {
    const spec = model.get("spec");
    if (!spec.parts) return; // the model is on its way
    title.textContent = spec.title;
    el.style.setProperty("--light", spec.light);
    el.style.setProperty("--dark", spec.dark);
    parts.replaceChildren(...spec.parts.map(([name], i) => html("option", { value: i }, name)));
    parts.hidden = spec.parts.length < 2;
    parts.setAttribute("aria-label", `${spec.title}: part shown`);
    examples.setAttribute("aria-label", `${spec.title}: examples`);
    buttons.setAttribute("aria-label", `Presets of ${spec.title}`);
    buttons.replaceChildren(...spec.presets.map((name) => {
      const button = html("button", { type: "button" }, name);
      button.addEventListener("click", () => preset(name));
      return button;
    }));
    examples.hidden = !spec.examples.length;
    examples.replaceChildren(html("option", { value: "" }, "Examples…"),
      ...spec.examples.map((name) => html("option", {}, name)));
    slider.setAttribute("aria-label", `${spec.title}: value of the element`);
    exact.setAttribute("aria-label", `${spec.title}: value of the element, as a number`);
    element.setAttribute("aria-label", `${spec.title}: element`);
  }

  // --- to the model and back ---------------------------------------------------------
  /** Send what waits, if the last message was answered: however slow the link, nothing piles up. */
  function flush() {
    if (sent !== answered || (!edits.size && !finished)) return;
    const order = [...edits.keys()].sort((a, b) => a - b);
    const runs = [];
    for (const at of order) {
      const legal = edits.get(at) >= 0 && edits.get(at) <= 1;
      const last = runs.at(-1);
      if (last && last[0] + last[1] === at && last.legal === legal) last[1] += 1;
      else runs.push(Object.assign([at, 1], { legal }));
    }
    const content = { kind: "draw", view: me, count: ++sent, runs: runs.map(([at, n]) => [at, n]),
      begins, done: finished };
    model.send(content, undefined, [new Float32Array(order.map((at) => edits.get(at))).buffer]);
    edits.clear();
    begins = finished;
    finished = false;
  }

  function preset(name) {
    edits.clear();
    refusedPath = [];
    model.send({ kind: "preset", view: me, count: ++sent, name, begins: true, done: true });
  }

  function take() {
    const [view, count] = model.get("answered");
    if (view === me) answered = Math.max(answered, count);
    if (sent === answered) {
      values = floats(model, "values");
      for (const [at, value] of edits) if (value >= 0 && value <= 1) values[at] = value;
    }
    flush();
    repaint();
  }

  function edit(at, value) {
    edits.set(at, value);
    if (value >= 0 && value <= 1) values[at] = value;
  }

  function choose(at) {
    const next = bounded(Math.round(at) || 0, 0, values.length - 1);
    const holds = ([, low, high]) => low <= next && next < high;
    const other = model.get("spec").parts.findIndex(holds);
    const part = other < 0 || holds(shown()) ? model.get("part") : other;
    share(model, { chosen: next, part });
  }

  function put(value) {
    if (Number.isNaN(value)) return repaint();
    refusedPath = value >= 0 && value <= 1 ? [] : [[chosen(), value]];
    edit(chosen(), rounded(value));
    finished = true;
    flush();
    repaint();
  }

  // --- the pointer -------------------------------------------------------------------------
  const across = () => el.clientWidth - 12 - SPACE.left - SPACE.right;
  const up = HEIGHT - SPACE.top - SPACE.bottom;

  function point(event) {
    const box = svg.getBoundingClientRect();
    const [, low, high] = shown();
    const x = bounded((event.clientX - box.left - SPACE.left) / across(), 0, 1);
    let y = event.clientY - box.top - SPACE.top;
    if (y < 0 && y >= -SNAP) y = 0;
    if (y > up && y <= up + SNAP) y = up;
    const value = bounded(1 - y / up, -BEYOND / up, 1 + BEYOND / up);
    return { at: bounded(low + x * (high - low), low, high - 1e-6), value };
  }

  function stroke(from, to) {
    const [, low, high] = shown();
    const half = Math.max(0, (high - low) / across() / 2 - 0.5); // a pixel may hold many elements
    const first = bounded(Math.floor(Math.min(from.at, to.at) - half), low, high - 1);
    const last = bounded(Math.floor(Math.max(from.at, to.at) + half), low, high - 1);
    for (let at = first; at <= last; at++) {
      const way = Math.abs(to.at - from.at) < 1 ? 1 : bounded((at + 0.5 - from.at) / (to.at - from.at), 0, 1);
      const value = rounded(from.value + way * (to.value - from.value));
      edit(at, value);
      if (value < 0 || value > 1) refusedPath.push([at, value]);
    }
    model.set("chosen", Math.floor(to.at));
    flush();
    repaint();
  }

  svg.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    svg.setPointerCapture(event.pointerId);
    refusedPath = [];
    drawing = point(event);
    stroke(drawing, drawing);
    svg.focus({ preventScroll: true });
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) {
      const next = point(each);
      stroke(drawing, next);
      drawing = next;
    }
  });
  const lift = () => {
    if (!drawing) return;
    drawing = null;
    finished = true;
    share(model, { chosen: chosen() });
    flush();
  };
  svg.addEventListener("pointerup", lift);
  svg.addEventListener("pointercancel", lift);
  svg.addEventListener("keydown", (event) => {
    const [along, by] = KEYS[event.key] ?? [];
    if (along === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // a notebook moves between its cells with the same keys
    const [, low, high] = shown();
    if (by) put(values[chosen()] + by * (event.shiftKey ? 10 : 1));
    else choose(bounded(chosen() + along * (event.shiftKey ? 10 : 1), low, high - 1));
  });
  for (const input of [element, exact, slider]) {
    input.addEventListener("keydown", (event) => {
      event.stopPropagation(); // a notebook would take Enter, and letters, for commands
      if (event.key !== "Enter") return;
      event.preventDefault();
      input.dispatchEvent(new Event("change"));
    });
  }
  element.addEventListener("change", () => choose(element.valueAsNumber));
  exact.addEventListener("change", () => put(exact.valueAsNumber));
  slider.addEventListener("input", () => {
    refusedPath = [];
    edit(chosen(), slider.valueAsNumber);
    flush();
    repaint();
  });
  slider.addEventListener("change", () => { finished = true; flush(); });
  parts.addEventListener("change", () => {
    const part = Number(parts.value);
    share(model, { part, chosen: model.get("spec").parts[part][1] });
  });
  examples.addEventListener("change", () => { if (examples.value) preset(examples.value); examples.value = ""; });

  // --- the picture ---------------------------------------------------------------------
  function hatch(top) {
    let d = "";
    for (let x = SPACE.left - BEYOND; x < SPACE.left + across(); x += 7) d += `M${x},${top + BEYOND}l${BEYOND},${-BEYOND}`;
    return node("svg", { class: "beyond", "aria-hidden": true, x: SPACE.left, y: top, width: across(), height: BEYOND,
      viewBox: `${SPACE.left} ${top} ${across()} ${BEYOND}` }, node("path", { d }));
  }

  function paint() {
    const spec = model.get("spec");
    if (!values.length || !spec.parts?.length || across() < 60) return;
    const [, low, high] = shown();
    const step = across() / (high - low);
    const gap = step >= 5 ? Math.min(3, step * 0.2) : 0;
    const sx = (at) => SPACE.left + (at - low) * step;
    const sy = (value) => SPACE.top + up * (1 - value);
    const bottom = SPACE.top + up;
    let [body, tops] = ["", ""];
    for (let at = low; at < high; at++) {
      const [x0, x1] = [sx(at) + gap / 2, sx(at + 1) - gap / 2].map((x) => x.toFixed(1));
      const y = sy(values[at]).toFixed(1);
      if (gap) {
        body += `M${x0},${bottom}V${y}H${x1}V${bottom}`;
        tops += `M${x0},${y}H${x1}`;
      } else {
        body += `${at === low ? `M${x0},${bottom}V` : "V"}${y}H${x1}`;
        tops += `${at === low ? `M${x0},` : "V"}${y}H${x1}`;
      }
    }
    const now = chosen();
    svg.setAttribute("viewBox", `0 0 ${el.clientWidth - 12} ${HEIGHT}`);
    svg.replaceChildren(hatch(SPACE.top - BEYOND), hatch(bottom));
    for (const at of [0, 0.5, 1]) {
      svg.append(node("line", { class: at === 0.5 ? "" : "limit", x1: SPACE.left, x2: sx(high), y1: sy(at), y2: sy(at) }),
        node("text", { x: SPACE.left - 5, y: sy(at) + 4, "text-anchor": "end" }, String(at)));
    }
    for (const [at, text] of ticks(low, high - 1, bounded(across() / 70, 2, 8), 1)) {
      if (sx(at + 0.5) < sx(high) - 64) svg.append(node("text", { x: sx(at + 0.5), y: bottom + BEYOND + 12, "text-anchor": "middle" }, text));
    }
    svg.append(node("text", { x: sx(high), y: bottom + BEYOND + 12, "text-anchor": "end" }, "element"));
    svg.append(node("path", { class: "body", d: gap ? body : `${body}V${bottom}Z` }),
      node("path", { class: "tops", d: tops, "stroke-width": bounded(step, 1, 2.5) }));
    if (low <= now && now < high) {
      svg.append(node("path", { class: "chosen", d: `M${sx(now)},${bottom}V${SPACE.top}H${sx(now + 1)}V${bottom}` }),
        node("circle", { cx: sx(now + 0.5), cy: sy(values[now]), r: 4.5 }));
    }
    const crosses = refusedPath.filter(([at]) => low <= at && at < high).map(([at, value]) =>
      `M${sx(at + 0.5) - 3},${sy(bounded(value, -0.08, 1.08)) - 3}l6,6m0,-6l-6,6`);
    svg.append(node("path", { class: "refused", d: crosses.join("") }));

    const value = values[now];
    svg.setAttribute("aria-label", `${spec.title}: left and right choose an element, up and down change it`);
    svg.setAttribute("aria-valuemin", 0);
    svg.setAttribute("aria-valuemax", 1);
    svg.setAttribute("aria-valuenow", rounded(value));
    svg.setAttribute("aria-valuetext", `element ${now} of ${values.length}: ${rounded(value)}`);
    element.max = values.length - 1;
    parts.value = model.get("part");
    if (document.activeElement !== element) element.value = now;
    if (document.activeElement !== slider || !drawing) slider.value = value;
    if (document.activeElement !== exact || model.get("refused")) exact.value = rounded(value);
    if (said.textContent !== model.get("refused")) said.textContent = model.get("refused");
  }

  const { repaint, end } = painting(model, el, paint);
  model.on("change:spec", build);
  model.on("change", take);
  build();
  take();
  return () => { end(); model.off("change:spec", build); model.off("change", take); };
}
