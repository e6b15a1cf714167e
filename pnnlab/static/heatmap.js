// All outputs of a device while one control goes from 0 to 1.

const SPACE = { top: 8, right: 92, bottom: 38, left: 54 };
const HEIGHT = 236;

function render({ model, el }) {
  el.classList.add("pnn-control", "pnn-heatmap");
  const header = html("header");
  const title = html("b");
  const read = html("span");
  const layers = html("select", { "aria-label": "Shown" });
  header.append(title, read, layers);
  const svg = node("svg", { height: HEIGHT, tabindex: 0, role: "slider", "aria-readonly": true });
  const canvas = html("canvas");
  el.append(header, svg, canvas);
  let cell = null; // [row, column] that is read
  let picture = ""; // the painted layer, as an address
  let layer = 0;
  const bounded = (value, most) => Math.max(0, Math.min(most, value));

  function shownValues(spec) {
    const size = spec.rows * spec.columns;
    return floats(model, "values").subarray(layer * size, (layer + 1) * size);
  }

  /** One pixel a value; the browser enlarges it. */
  function colour() {
    const spec = model.get("spec");
    if (!spec.layers) return;
    layer = Math.min(layer, spec.layers.length - 1);
    layers.replaceChildren(...spec.layers.map((one, i) => html("option", { value: i }, one.title)));
    layers.value = layer;
    layers.hidden = spec.layers.length < 2;
    const { colors, range: [low, high] } = spec.layers[layer];
    const values = shownValues(spec);
    [canvas.width, canvas.height] = [spec.columns, spec.rows];
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(spec.columns, spec.rows);
    for (let at = 0; at < values.length; at++) {
      const row = spec.rows - 1 - Math.floor(at / spec.columns); // 0 is at the bottom
      const to = 4 * (row * spec.columns + (at % spec.columns));
      const part = bounded((values[at] - low) / (high - low), 1);
      pixels.data.set([...colors[Math.round(part * (colors.length - 1))], 255], to);
    }
    context.putImageData(pixels, 0, 0);
    picture = canvas.toDataURL();
    repaint();
  }

  const across = () => el.clientWidth - 12 - SPACE.left - SPACE.right;
  const up = HEIGHT - SPACE.top - SPACE.bottom;

  function paint() {
    const spec = model.get("spec");
    const width = el.clientWidth - 12;
    el.style.display = spec.layers ? "" : "none";
    if (!spec.layers || width < 200) return;
    const shown = spec.layers[layer];
    const sx = (at) => SPACE.left + (across() * (at + 0.5)) / spec.columns;
    const half = up / spec.rows / 2;
    const sy = (control) => SPACE.top + half + (up - 2 * half) * (1 - control);
    title.textContent = `${shown.title} while ${spec.control} goes from 0 to 1`;
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.replaceChildren(
      node("image", { href: picture, x: SPACE.left, y: SPACE.top, width: across(), height: up,
        preserveAspectRatio: "none" }),
      node("path", { class: "frame", d: `M${SPACE.left},${SPACE.top}h${across()}v${up}h${-across()}z` }));
    for (const [at, text] of ticks(0, 1, 4)) {
      svg.append(node("text", { x: SPACE.left - 6, y: sy(at) + 4, "text-anchor": "end" }, text));
    }
    for (const [at, text] of ticks(0, spec.columns - 1, Math.max(2, Math.min(10, width / 90)), 1)) {
      svg.append(node("text", { x: sx(at), y: SPACE.top + up + 16, "text-anchor": "middle" }, text));
    }
    const middle = SPACE.top + up / 2;
    svg.append(
      node("text", { x: SPACE.left + across() / 2, y: HEIGHT - 5, "text-anchor": "middle" }, "output"),
      node("text", { transform: `translate(12 ${middle}) rotate(-90)`, "text-anchor": "middle" },
        `${spec.control} (of range)`),
      ...["under", "now"].map((name) =>
        node("path", { class: name, d: `M${SPACE.left},${sy(model.get("now"))}h${across()}` })),
      node("text", { x: SPACE.left + across() + 4, y: sy(model.get("now")) + 4 }, "now"));
    bar(shown, width);
    if (cell) {
      const [row, column] = cell;
      const control = row / (spec.rows - 1);
      read.textContent = `output ${column}, ${spec.control} = ${number(control)}:  ${number(shownValues(spec)[row * spec.columns + column])}`;
      svg.append(node("circle", { cx: sx(column), cy: sy(control), r: 5 }));
    } else read.textContent = "";
    svg.setAttribute("aria-label", `${title.textContent}: arrows read single values`);
    svg.setAttribute("aria-valuenow", cell ? cell[1] : 0);
    svg.setAttribute("aria-valuetext", cell ? read.textContent : spec.summary);
  }

  function bar(shown, width) {
    const x = width - SPACE.right + 34;
    const stops = shown.colors.map((color, i) => node("stop", { offset: i / (shown.colors.length - 1),
      "stop-color": `rgb(${color})` }));
    const id = `pnn-${Math.random().toString(36).slice(2)}`;
    svg.append(node("defs", {}, node("linearGradient", { id, x1: 0, x2: 0, y1: 1, y2: 0 }, ...stops)),
      node("rect", { x, y: SPACE.top, width: 10, height: up, fill: `url(#${id})` }));
    const [low, high] = shown.range;
    for (const [at, text] of ticks(low, high, 4)) {
      const y = SPACE.top + up * (1 - (at - low) / (high - low));
      svg.append(node("text", { x: x + 15, y: y + 4 }, text));
    }
  }

  const { repaint, end } = painting(model, el, paint);
  svg.addEventListener("pointermove", (event) => {
    const spec = model.get("spec");
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left - SPACE.left) / across();
    const y = 1 - (event.clientY - box.top - SPACE.top) / up;
    const inside = x >= 0 && x < 1 && y >= 0 && y < 1;
    cell = inside ? [Math.floor(y * spec.rows), Math.floor(x * spec.columns)] : null;
    repaint();
  });
  for (const leave of ["pointerleave", "blur"]) svg.addEventListener(leave, () => { cell = null; repaint(); });
  svg.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    event.stopPropagation();
    const spec = model.get("spec");
    const [row, column] = cell ?? [0, 0];
    const [up_, along] = cell ? moves[event.key] : [0, 0];
    cell = [bounded(row + up_, spec.rows - 1), bounded(column + along, spec.columns - 1)];
    repaint();
  });
  layers.addEventListener("change", () => { layer = Number(layers.value); colour(); });
  model.on("change:values", colour);
  model.on("change:spec", colour);
  colour();
  return () => { end(); model.off("change:values", colour); model.off("change:spec", colour); };
}
