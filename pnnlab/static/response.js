// What a device answered, with its noise, its twin, and the difference of the two below.

const SPACE = { top: 8, right: 14, left: 54 };
const MAIN = 168; // height of the response
const BELOW = 62; // and of the difference
const BETWEEN = 16;
const FOOT = 38;

function render({ model, el }) {
  el.classList.add("pnn-control", "pnn-response");
  const header = html("header");
  const svg = node("svg", { tabindex: 0, role: "slider", "aria-readonly": true });
  el.append(header, svg);
  let read = null; // the output whose values are read

  function unpack(spec) {
    const all = floats(model, "points");
    const [mean, deviation, modelled] = [0, 1, 2].map((i) => all.subarray(i * spec.n, (i + 1) * spec.n));
    return { mean, deviation, modelled: spec.twin ? modelled : null };
  }

  const line = (values, sx, sy) =>
    Array.from(values, (value, i) => `${i ? "L" : "M"}${sx(i).toFixed(1)},${sy(value).toFixed(1)}`).join("");

  function between(low, high, sx, sy) {
    const back = Array.from(low, (value, i) => `L${sx(i).toFixed(1)},${sy(value).toFixed(1)}`).reverse();
    return `${line(high, sx, sy)}${back.join("")}Z`;
  }

  function scale(top, height, [low, high], label, count) {
    const sy = (value) => top + height * (1 - (value - low) / (high - low));
    const right = el.clientWidth - 12 - SPACE.right;
    for (const [at, text] of ticks(low, high, count)) {
      svg.append(node("line", { x1: SPACE.left, x2: right, y1: sy(at), y2: sy(at) }),
        node("text", { x: SPACE.left - 6, y: sy(at) + 4, "text-anchor": "end" }, text));
    }
    svg.append(node("text", { transform: `translate(12 ${top + height / 2}) rotate(-90)`,
      "text-anchor": "middle" }, label));
    return sy;
  }

  function legend(spec, data) {
    const swatch = (...shapes) => node("svg", { "aria-hidden": true, viewBox: "0 0 24 12" },
      ...shapes.map(([name, d]) => node("path", { class: name, d })));
    const at = (values) => (read === null ? "" : `  ${number(values[read])}`);
    const noise = read === null ? "" : ` ± ${number(spec.band * data.deviation[read])}`;
    const items = [html("span", {}, swatch(["band", "M0,0H24V12H0Z"], ["device", "M0,6H24"]),
      `device ± ${spec.band} SD of ${spec.shots} shots${at(data.mean)}${noise}`)];
    if (data.modelled) items.push(html("span", {}, swatch(["twin", "M0,6H24"]), `twin${at(data.modelled)}`));
    const title = html("b", {}, read === null ? spec.title : `Output ${read}`);
    const words = read === null && spec.summary ? [html("span", {}, spec.summary)] : [];
    header.replaceChildren(title, ...words, ...items);
    const said = [title, ...words, ...items].map((item) => item.textContent).join(", ");
    svg.setAttribute("aria-label", `${spec.title}: left and right read single outputs`);
    svg.setAttribute("aria-valuemin", 0);
    svg.setAttribute("aria-valuemax", spec.n - 1);
    svg.setAttribute("aria-valuenow", read ?? 0);
    svg.setAttribute("aria-valuetext", said);
  }

  function paint() {
    const spec = model.get("spec");
    const width = el.clientWidth - 12;
    if (spec.n === undefined || width < 100) return;
    const height = SPACE.top + MAIN + (spec.twin ? BETWEEN + BELOW : 0) + FOOT;
    svg.setAttribute("height", height);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    if (!spec.shots) {
      header.replaceChildren(html("b", {}, spec.title));
      svg.setAttribute("aria-label", `${spec.title}: ${spec.note}`);
      svg.append(node("text", { class: "note", x: width / 2, y: height / 2, "text-anchor": "middle" }, spec.note));
      return;
    }
    if (read !== null) read = Math.min(read, spec.n - 1);
    const data = unpack(spec);
    if (data.mean.length < spec.n) return; // the points are still on their way
    const across = width - SPACE.left - SPACE.right;
    const sx = (at) => SPACE.left + (across * at) / Math.max(1, spec.n - 1);
    const sy = scale(SPACE.top, MAIN, spec.y_range, spec.y_label, 4);
    const drawn = node("g", { class: model.get("old") ? "old" : "" });
    const spread = data.deviation.map((value) => spec.band * value);
    const [low, high] = [data.mean.map((m, i) => m - spread[i]), data.mean.map((m, i) => m + spread[i])];
    drawn.append(node("path", { class: "band", d: between(low, high, sx, sy) }),
      node("path", { class: "device", d: line(data.mean, sx, sy) }));
    if (data.modelled) {
      const top = SPACE.top + MAIN + BETWEEN;
      const dy = scale(top, BELOW, spec.difference_range, "difference", 4);
      const difference = data.modelled.map((value, i) => value - data.mean[i]);
      const nothing = difference.map(() => 0);
      drawn.append(node("path", { class: "twin", d: line(data.modelled, sx, sy) }),
        node("path", { class: "noise", d: between(spread.map((s) => -s), spread, sx, dy) }),
        node("path", { class: "fill", d: between(nothing, difference, sx, dy) }),
        node("path", { class: "difference", d: line(difference, sx, dy) }));
    }
    const inside = node("svg", { "aria-hidden": true, x: SPACE.left - 2, y: 0, width: across + 4, height,
      viewBox: `${SPACE.left - 2} 0 ${across + 4} ${height}` }, drawn);
    const foot = height - FOOT;
    for (const [at, text] of ticks(0, spec.n - 1, Math.max(2, Math.min(10, width / 90)), 1)) {
      svg.append(node("text", { x: sx(at), y: foot + 16, "text-anchor": "middle" }, text));
    }
    svg.append(node("text", { x: SPACE.left + across / 2, y: foot + 33, "text-anchor": "middle" }, "output"));
    if (read !== null) {
      inside.append(node("line", { class: "at", x1: sx(read), x2: sx(read), y1: SPACE.top, y2: foot }));
    }
    svg.append(inside);
    legend(spec, data);
  }

  const { repaint, end } = painting(model, el, paint);
  svg.addEventListener("pointermove", (event) => {
    const across = el.clientWidth - 12 - SPACE.left - SPACE.right;
    const x = (event.clientX - svg.getBoundingClientRect().left - SPACE.left) / across;
    read = x < -0.01 || x > 1.01 ? null : Math.max(0, Math.round(x * (model.get("spec").n - 1)));
    repaint();
  });
  svg.addEventListener("pointerleave", () => { read = null; repaint(); });
  svg.addEventListener("blur", () => { read = null; repaint(); });
  svg.addEventListener("keydown", (event) => {
    const last = model.get("spec").n - 1;
    const moves = { ArrowLeft: (read ?? 1) - 1, ArrowRight: (read ?? -1) + 1, Home: 0, End: last };
    if (event.key === "Escape") read = null;
    else if (event.key in moves) read = Math.max(0, Math.min(last, moves[event.key]));
    else return;
    event.preventDefault();
    event.stopPropagation();
    repaint();
  });
  return end;
}
