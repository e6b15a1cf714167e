// Code to copy or, in a JupyterLab that exposes its commands, to put into a new cell.

function render({ model, el }) {
  el.classList.add("pnn-control", "pnn-code");
  const box = html("textarea", { readonly: "", "aria-label": "Code that repeats this", rows: 12,
    spellcheck: "false" });
  const copy = html("button", { type: "button" }, "Copy");
  const below = html("button", { type: "button" }, "Put into a cell below");
  const said = html("span", { role: "status" });
  el.append(html("header", {}, html("b", {}, "Code that repeats this"), said, copy, below), box);

  function paint() {
    const code = model.get("code");
    el.style.display = code ? "" : "none";
    if (box.value !== code) { box.value = code; said.textContent = ""; }
    box.rows = Math.min(16, code.split("\n").length);
    below.hidden = !home();
  }

  /** The notebook that shows this, and the number of its cell. */
  function home() {
    const app = globalThis.jupyterapp;
    const content = app?.shell?.currentWidget?.content;
    const at = content?.widgets?.findIndex?.((cell) => cell.node.contains(el)) ?? -1;
    return at < 0 ? null : { app, content, at };
  }

  copy.addEventListener("click", async () => {
    box.select();
    try {
      await navigator.clipboard.writeText(box.value);
      said.textContent = "copied";
    } catch { // a page without https, or a reader who refused
      said.textContent = document.execCommand("copy") ? "copied" : "selected: press Ctrl+C";
    }
  });
  below.addEventListener("click", async () => {
    const found = home();
    if (!found) return paint();
    found.content.activeCellIndex = found.at;
    await found.app.commands.execute("notebook:insert-cell-below");
    found.content.activeCell.model.sharedModel.setSource(box.value);
    said.textContent = "it stands in the cell below";
  });
  const { end } = painting(model, el, paint);
  return end;
}
