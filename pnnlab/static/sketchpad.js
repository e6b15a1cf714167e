// A pad to draw on, with mouse, finger or keys. The model holds the strokes; a new one
// is sent while it is drawn, if `continuous`, and always when the pen is lifted.

const SIZE = 1000; // strokes are in thousandths of the pad
const NEAR = 9; // points nearer than this to the one before are left out
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEP = 50; // of an arrow key; a fifth of it with Shift
const PAUSE = 120; // ms between two messages while a stroke is drawn
const HELP = "Arrow keys move the pen, Space lowers and lifts it, Backspace takes the last stroke "
  + "back, Escape clears.";

function outline(stroke) {
  let d = "";
  for (let i = 0; i < stroke.length; i += 2) d += `${i ? "L" : "M"}${stroke[i]},${stroke[i + 1]}`;
  return stroke.length === 2 ? `${d}h0` : d; // a dot
}

function render({ model, el }) {
  el.classList.add("pnn-control", "pnn-sketchpad");
  const title = html("b");
  const undo = html("button", { type: "button" }, "Undo");
  const clear = html("button", { type: "button" }, "Clear");
  const svg = node("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, tabindex: 0, role: "application",
    "data-lm-suppress-shortcuts": "true" });
  const said = html("div", { role: "status" });
  el.append(html("header", {}, title, undo, clear), svg, said);

  let drawing = null; // the pointer that draws
  let pen = [SIZE / 2, SIZE / 2]; // of the keys
  let lowered = false;
  let keys = false; // whether the pen is moved by keys
  let timer = 0;

  const send = () => { clearTimeout(timer); timer = 0; share(model, { strokes: model.get("strokes") }); };
  const change = (strokes) => {
    model.set("strokes", strokes);
    if (model.get("continuous")) timer ||= setTimeout(send, PAUSE);
  };
  const begin = (x, y) => change([...model.get("strokes"), [x, y]]);
  const extend = (x, y) => {
    const strokes = model.get("strokes");
    const last = strokes.at(-1);
    if (!last) return begin(x, y);
    if (Math.hypot(x - last.at(-2), y - last.at(-1)) < NEAR) return undefined;
    return change([...strokes.slice(0, -1), [...last, x, y]]);
  };
  const lift = () => { drawing = null; lowered = false; send(); };
  const drop = (strokes) => { lowered = false; drawing = null; model.set("strokes", strokes); send(); };
  const place = (event) => {
    const box = svg.getBoundingClientRect();
    const at = (value, from, size) => Math.round(SIZE * Math.min(1, Math.max(0, (value - from) / size)));
    return [at(event.clientX, box.left, box.width), at(event.clientY, box.top, box.height)];
  };

  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || drawing !== null) return;
    event.preventDefault();
    svg.focus({ preventScroll: true });
    svg.setPointerCapture(event.pointerId);
    drawing = event.pointerId;
    lowered = keys = false;
    pen = place(event);
    begin(...pen);
  });
  svg.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drawing) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const each of all.length ? all : [event]) extend(...(pen = place(each)));
  });
  for (const end of ["pointerup", "pointercancel"]) {
    svg.addEventListener(end, (event) => { if (event.pointerId === drawing) lift(); });
  }
  svg.addEventListener("keydown", (event) => {
    const move = KEYS[event.key];
    if (move) {
      const step = event.shiftKey ? STEP / 5 : STEP;
      pen = pen.map((value, axis) => Math.min(SIZE, Math.max(0, value + step * move[axis])));
      if (lowered) extend(...pen);
    } else if (event.key === " " || event.key === "Enter") {
      if (lowered) lift(); else { lowered = true; begin(...pen); }
    } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) {
      drop(model.get("strokes").slice(0, -1));
    } else if (event.key === "Escape" || event.key === "Delete") {
      drop([]);
    } else return;
    keys = true;
    event.preventDefault();
    event.stopPropagation();
    paint();
  });
  svg.addEventListener("blur", () => { if (lowered) lift(); paint(); });
  svg.addEventListener("focus", () => paint());
  undo.addEventListener("click", () => drop(model.get("strokes").slice(0, -1)));
  clear.addEventListener("click", () => drop([]));

  function paint() {
    const strokes = model.get("strokes");
    title.textContent = model.get("title");
    undo.disabled = clear.disabled = !strokes.length;
    svg.setAttribute("aria-label", `${model.get("title")}: a pad. ${HELP}`);
    svg.replaceChildren(...strokes.map((stroke) => node("path", { d: outline(stroke) })));
    if (!strokes.length) {
      svg.append(node("text", { x: SIZE / 2, y: SIZE / 2, "text-anchor": "middle" }, "draw here"));
    }
    if (document.activeElement === svg && keys) {
      svg.append(node("circle", { cx: pen[0], cy: pen[1], r: 26, class: lowered ? "down" : "" }));
    }
    const count = strokes.length === 1 ? "1 stroke" : `${strokes.length} strokes`;
    const words = lowered ? "pen down, Space lifts it" : strokes.length ? count : "no stroke yet";
    if (said.textContent !== words) said.textContent = words;
  }
  const { end } = painting(model, el, paint);
  return () => { clearTimeout(timer); end(); };
}
