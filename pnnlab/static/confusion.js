// A confusion matrix as a grid of buttons, and the inputs behind the one that is open.

function image(levels, width, height) {
  const canvas = html("canvas", { width, height });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  levels.forEach((level, i) => pixels.data.set([level, level, level, 255], 4 * i));
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function curve(levels) {
  const x = (i) => ((72 * i) / Math.max(1, levels.length - 1)).toFixed(1);
  const d = [...levels].map((level, i) => (
    `${i ? "L" : "M"}${x(i)},${(48 * (1 - level / 255)).toFixed(1)}`)).join("");
  return node("svg", { viewBox: "-2 -2 76 52" }, node("path", { d }));
}

function render({ model, el }) {
  el.classList.add("pnn-confusion");
  const grid = html("table");
  const behind = html("div", { class: "behind", "aria-live": "polite" });
  el.append(grid, behind);
  let at = [0, 0]; // the one cell that Tab reaches; arrows move it

  const buttonAt = ([row, column]) => grid.querySelector(`[data-cell="${row},${column}"]`);
  function reach(cell) {
    grid.querySelectorAll("button").forEach((button) => { button.tabIndex = -1; });
    at = cell;
    const button = buttonAt(cell);
    if (button) button.tabIndex = 0;
    return button;
  }
  function open(cell) {
    const now = model.get("cell");
    const next = now[0] === cell[0] && now[1] === cell[1] ? [] : cell;
    share(model, { cell: next });
  }

  function cellOf(count, total, row, column) {
    const classes = model.get("classes");
    const [true_, named] = [classes[row], classes[column]];
    const button = html("button", { type: "button", "data-cell": `${row},${column}`,
      class: row === column ? "right" : "wrong", tabindex: -1,
      "aria-label": `${count} of ${true_} named ${named}` }, count ? String(count) : "·");
    // A few mistakes must be seen beside many right answers: the shade grows as a square root.
    button.style.setProperty("--part", `${Math.round(68 * Math.sqrt(count / Math.max(1, total)))}%`);
    button.addEventListener("click", () => { reach([row, column]); open([row, column]); });
    return html("td", {}, button);
  }

  function matrix() {
    const held = grid.contains(document.activeElement);
    const classes = model.get("classes");
    const heading = html("tr", {}, html("td"), ...classes.map((name) => (
      html("th", { scope: "col" }, name))));
    const rows = model.get("matrix").map((counts, row) => {
      const total = counts.reduce((sum, count) => sum + count, 0);
      return html("tr", {}, html("th", { scope: "row" }, classes[row]),
        ...counts.map((count, column) => cellOf(count, total, row, column)));
    });
    grid.replaceChildren(
      html("caption", {}, html("b", {}, "Confusion"), `  ${model.get("title")}`,
        html("small", {}, "rows: true class · columns: named class · choose a cell to see the inputs behind it")),
      html("thead", {}, heading), html("tbody", {}, ...rows));
    const button = reach(at[0] < classes.length && at[1] < classes.length ? at : [0, 0]);
    if (held) button?.focus();
  }

  function mark() {
    const open = model.get("cell").join(",");
    grid.querySelectorAll("button").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.cell === open));
    });
  }

  function examples() {
    const picked = model.get("picked");
    behind.replaceChildren();
    if (!picked.examples) return;
    const view = model.get("values");
    const all = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    const size = picked.height ? picked.width * picked.height : picked.width;
    if (all.length !== size * picked.examples.length) return; // its values are still on the way
    const more = picked.of - picked.examples.length;
    const figures = picked.examples.map((number, i) => {
      const levels = all.subarray(i * size, (i + 1) * size);
      const drawn = picked.height ? image(levels, picked.width, picked.height) : curve(levels);
      drawn.setAttribute("role", "img");
      drawn.setAttribute("aria-label", `example ${number}`);
      return html("figure", {}, drawn, html("figcaption", {}, `no. ${number}`));
    });
    behind.append(html("p", {}, html("b", {}, picked.title),
      more > 0 ? `  the first ${picked.examples.length}, ${more} more not shown` : ""),
    html("div", {}, ...figures));
  }

  grid.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    const last = model.get("classes").length - 1;
    const next = at.map((place, i) => Math.max(0, Math.min(last, place + step[i])));
    reach(next)?.focus();
    event.preventDefault();
    event.stopPropagation(); // a notebook would move to another cell of its own
  });
  const dressed = () => { matrix(); mark(); };
  model.on("change:matrix change:classes change:title", dressed);
  model.on("change:cell", mark);
  model.on("change:picked change:values", examples);
  dressed();
  examples();
  const undress = followTheme(el);
  return () => {
    model.off("change:matrix change:classes change:title", dressed);
    model.off("change:cell", mark);
    model.off("change:picked change:values", examples);
    undress();
  };
}
