// Live line plots, drawn at most once a frame from the model of chart.py, as SVG: sharp on every
// screen, and its text can be read and searched.

const SPACE = { top: 8, right: 14, bottom: 36, left: 54 };
const HEIGHT = 184;

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const factor of high < 50 * low ? [1, 2, 5] : [1]) found.push(factor * 10 ** power);
  }
  return found.filter((at) => at >= low && at <= high).map((at) => [at, `${Number(at.toPrecision(1))}`]);
}

/** Each panel of the model, its lines with their points. */
function unpack(model) {
  const all = floats(model, "points");
  let start = 0;
  const next = (n) => all.subarray(start, start += n);
  return model.get("panels").map((panel) => ({
    ...panel,
    lines: panel.lines.map((line) => (
      { ...line, x: next(line.n), y: next(line.n), wide: line.band ? next(line.n) : null,
        style: `--light:${line.light};--dark:${line.dark}` })),
  }));
}

/** What the axis shows of these rows, if the model gives none: as `Plot.limits` in chart.py. */
function reach(rows, margin, log) {
  let [low, high] = [Infinity, -Infinity];
  for (const row of rows) {
    for (const value of row) {
      if (!Number.isFinite(value) || (log && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) return log ? [0.1, 10] : [0, 1];
  if (log) return [low / 1.5, high * 1.5];
  if (margin && low >= 0) return [0, high * (1 + margin) || 1];
  if (low === high) return [low - 1, high + 1];
  return [low - margin * (high - low), high + margin * (high - low)];
}

function ranges(panel) {
  const seen = panel.lines.filter((line) => !line.faint).map((line) => line.y);
  return [
    panel.x_range ?? reach(panel.lines.map((line) => line.x), 0, false),
    panel.y_range ?? reach(seen, 0.06, panel.log),
  ];
}

function path(line, sx, sy) {
  let d = "";
  let pen = "M";
  for (let i = 0; i < line.x.length; i++) {
    const y = sy(line.y[i]);
    if (!Number.isFinite(y)) { pen = "M"; continue; } // NaN, or not positive on a log scale
    d += `${pen}${sx(line.x[i]).toFixed(1)},${y.toFixed(1)}`;
    pen = "L";
  }
  return d;
}

/** The outline of a band of half the width `wide` around a line. */
function band(line, sx, sy) {
  const edge = (sign) => Array.from(line.wide, (wide, i) => (
    `${sx(line.x[i]).toFixed(1)},${sy(line.y[i] + sign * wide).toFixed(1)}`));
  return line.wide.length ? `M${[...edge(1), ...edge(-1).reverse()].join("L")}Z` : "";
}

function nearest(line, x) {
  let low = 0;
  let high = line.x.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (line.x[middle] < x) low = middle; else high = middle;
  }
  return x - line.x[low] < line.x[high] - x ? low : high;
}

/** Room for one panel after another. */
function plot() {
  const el = html("div", { class: "pnn-plot" });
  const header = document.createElement("header");
  const svg = node("svg", { tabindex: 0, role: "slider", "aria-readonly": true, height: HEIGHT });
  el.append(header, svg);
  let panel = null;
  let read = null; // the x whose values are read
  let xAt = () => null; // the x of a place in pixels

  function axes([[x0, x1], [y0, y1]], width, sx, sy) {
    const [right, bottom] = [width - SPACE.right, HEIGHT - SPACE.bottom];
    const marks = panel.note ? [] : panel.log ? logTicks(y0, y1) : ticks(y0, y1, 4);
    for (const [at, text] of marks) {
      const y = sy(at);
      svg.append(node("line", { x1: SPACE.left, x2: right, y1: y, y2: y }));
      svg.append(node("text", { x: SPACE.left - 6, y: y + 4, "text-anchor": "end" }, text));
    }
    for (const [at, text] of ticks(x0, x1, Math.max(2, Math.min(6, width / 90)))) {
      const beyond = sx(at) + 4 * text.length > width; // half a text, at 8 pixels a digit
      svg.append(node("text", { x: beyond ? width : sx(at), y: bottom + 15,
        "text-anchor": beyond ? "end" : "middle" }, text));
    }
    const middle = (SPACE.top + bottom) / 2;
    svg.append(node("text", { x: (SPACE.left + right) / 2, y: HEIGHT - 5, "text-anchor": "middle" },
      panel.x_label));
    svg.append(node("text", { transform: `translate(12 ${middle}) rotate(-90)`,
      "text-anchor": "middle" }, panel.y_label));
    svg.append(node("text", { class: "note", x: (SPACE.left + right) / 2, y: middle,
      "text-anchor": "middle" }, panel.note));
  }

  function legend(x) {
    const title = html("b", {}, panel.title);
    if (x !== null && panel.lines[0]?.n) {
      const at = panel.lines[0].x[nearest(panel.lines[0], x)];
      title.append(`, ${panel.x_label} ${Number.isInteger(at) ? at : number(at)}`);
    }
    // The last value of running data is the latest; the last of the outputs, which have bands, is none.
    const banded = panel.lines.some((line) => line.band);
    const unit = panel.unit ? ` ${panel.unit}` : "";
    const named = panel.lines.filter((line) => !line.faint).map((line) => {
      const at = x === null ? line.n - 1 : nearest(line, x);
      const shown = line.n && (x !== null || !banded);
      const wide = line.band ? ` ± ${number(line.wide[at])}` : "";
      const value = shown ? `  ${number(line.y[at])}${wide}${unit}` : "";
      const swatch = node("path", { d: "M0,4H22", style: line.style,
        "stroke-dasharray": line.dash.join(" ") });
      return html("span", {}, node("svg", { "aria-hidden": true }, swatch), line.label + value);
    });
    header.replaceChildren(title, ...named);
    const words = [title, ...named].map((part) => part.textContent).join(", ");
    svg.setAttribute("aria-label", words);
    svg.setAttribute("aria-valuetext", words);
    svg.setAttribute("aria-valuenow", x ?? 0);
  }

  function paint() {
    const width = el.clientWidth - 12;
    if (width < 100) return;
    const scale = panel.log ? Math.log10 : (y) => y;
    const shown = ranges(panel);
    const [[x0, x1], [y0, y1]] = [shown[0], shown[1].map(scale)];
    const across = width - SPACE.left - SPACE.right;
    const up = HEIGHT - SPACE.top - SPACE.bottom;
    const sx = (x) => SPACE.left + (across * (x - x0)) / (x1 - x0 || 1);
    const sy = (y) => SPACE.top + up * (1 - (scale(y) - y0) / (y1 - y0 || 1));
    xAt = (pixel) => (pixel < SPACE.left || pixel > SPACE.left + across ? null
      : x0 + ((pixel - SPACE.left) / across) * (x1 - x0));
    svg.setAttribute("aria-valuemin", x0);
    svg.setAttribute("aria-valuemax", x1);
    legend(read);
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.replaceChildren();
    axes(shown, width, sx, sy);
    // A nested svg clips what leaves the axes; the 4 pixels let marks on the frame be whole.
    const inside = node("svg", { "aria-hidden": true, x: SPACE.left, y: SPACE.top - 4,
      width: across + 4, height: up + 8, viewBox: `${SPACE.left} ${SPACE.top - 4} ${across + 4} ${up + 8}` });
    for (const line of panel.lines) {
      if (line.band) inside.append(node("path", { d: band(line, sx, sy), style: line.style, class: "band" }));
      const d = path(line, sx, sy);
      inside.append(node("path", { d, style: line.style, class: line.faint ? "faint" : "",
        "stroke-dasharray": line.dash.join(" ") }));
      if (line.markers && line.n <= 60) {
        inside.append(node("path", { d: d.replaceAll("L", "M").replaceAll(/M[^M]+/g, "$&h0"),
          style: line.style, class: "marks" }));
      }
    }
    if (read !== null) {
      inside.append(node("line", { class: "at", x1: sx(read), x2: sx(read), y1: SPACE.top, y2: SPACE.top + up }));
    }
    svg.append(inside);
  }

  svg.addEventListener("pointermove", (event) => {
    read = xAt(event.clientX - svg.getBoundingClientRect().left);
    paint();
  });
  for (const leave of ["pointerleave", "blur"]) {
    svg.addEventListener(leave, () => { read = null; paint(); });
  }
  svg.addEventListener("keydown", (event) => {
    const line = panel.lines.find((one) => one.n && !one.faint);
    if (!line) return;
    const at = read === null ? -1 : nearest(line, read);
    const moves = { ArrowLeft: Math.max(0, at - 1), ArrowRight: Math.min(line.n - 1, at + 1),
      Home: 0, End: line.n - 1 };
    if (event.key === "Escape") read = null;
    else if (event.key in moves) read = line.x[moves[event.key]];
    else return;
    event.preventDefault();
    event.stopPropagation(); // a notebook would move to another cell of its own
    paint();
  });
  return { el, show(shown) { panel = shown; paint(); } };
}

function render({ model, el }) {
  el.classList.add("pnn-plots");
  const plots = [];
  return painting(model, el, () => {
    const panels = unpack(model);
    while (plots.length < panels.length) {
      plots.push(plot());
      el.append(plots.at(-1).el);
    }
    for (const one of plots.splice(panels.length)) one.el.remove();
    panels.forEach((panel, place) => plots[place].show(panel));
  }).end;
}
