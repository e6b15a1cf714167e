// A table that can be sorted by its headings and whose rows can be chosen.

function swatch(row) {
  const line = { d: "M0,4H26", "stroke-dasharray": row.dash.join(" "),
    style: `--light:${row.light};--dark:${row.dark}` };
  return node("svg", { "aria-hidden": true }, node("path", line));
}

function compare([, a], [, b]) {
  if (a === b) return 0;
  if (a === null) return 1; // what is missing comes last, in either order
  if (b === null) return -1;
  return a < b ? -1 : 1;
}

function render({ model, el }) {
  el.classList.add("pnn-table");
  const caption = html("caption");
  const head = html("thead");
  const body = html("tbody");
  const scroll = html("div", {}, html("table", {}, caption, head, body));
  el.append(scroll);
  let by = null; // the column that it is sorted by
  let falling = false;

  function choose(key, on) {
    const kept = model.get("chosen").filter((other) => other !== key);
    model.set("chosen", on ? [...kept, key] : kept);
    // A message, as of `share`; the kernel drops what is no longer there.
    model.send({ chosen: model.get("chosen") });
  }

  function headings() {
    const cells = model.get("columns").map((column, place) => {
      const order = by === place ? (falling ? "descending" : "ascending") : null;
      const button = html("button", { type: "button" }, column.name,
        html("span", { "aria-hidden": "true" }, { ascending: " ▲", descending: " ▼" }[order] ?? ""));
      button.addEventListener("click", () => {
        falling = by === place ? !falling : column.numeric;
        by = place;
        paint();
        head.querySelectorAll("button")[place].focus();
      });
      return html("th", { scope: "col", class: column.numeric && "number", "aria-sort": order },
        button);
    });
    const first = model.get("choosing") ? [html("th", { scope: "col" },
      html("span", { class: "unseen" }, model.get("choosing")))] : [];
    head.replaceChildren(html("tr", {}, ...first, ...cells));
  }

  function line(row) {
    const columns = model.get("columns");
    const cells = row.note
      ? [html("th", { scope: "row" }, row.cells[0][0]),
        html("td", { class: "note", colspan: columns.length - 1 }, row.note)]
      : row.cells.map(([text], place) => (place
        ? html("td", { class: columns[place]?.numeric && "number" }, text)
        : html("th", { scope: "row" }, ...(row.light ? [swatch(row)] : []), text)));
    if (model.get("choosing")) {
      const on = model.get("chosen").includes(row.key);
      const box = html("input", { type: "checkbox", "data-key": row.key,
        "aria-label": `${model.get("choosing")} ${row.cells[0][0]}` });
      box.checked = on;
      box.disabled = Boolean(row.note);
      box.addEventListener("change", () => choose(row.key, box.checked));
      cells.unshift(html("td", { class: "choice" }, box));
    }
    const made = html("tr", { class: row.note && "broken" }, ...cells);
    made.addEventListener("click", (event) => {
      if (event.target.tagName !== "INPUT") made.querySelector("input:enabled")?.click();
    });
    return made;
  }

  function paint() {
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    caption.textContent = model.get("label");
    headings();
    const rows = [...model.get("rows")];
    if (by !== null) {
      rows.sort((a, b) => {
        const [one, other] = [a.cells[by] ?? ["", null], b.cells[by] ?? ["", null]];
        const missing = one[1] === null || other[1] === null;
        return falling && !missing ? -compare(one, other) : compare(one, other);
      });
    }
    body.replaceChildren(...rows.map(line));
    if (focused) body.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  model.on("change", paint);
  paint();
  const undress = followTheme(el);
  return () => { model.off("change", paint); undress(); };
}
