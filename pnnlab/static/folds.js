// A row of buttons of which one at a time unfolds something.

function render({ model, el }) {
  el.classList.add("pnn-folds");
  const paint = () => {
    const focused = [...el.querySelectorAll("button")].indexOf(document.activeElement);
    const buttons = model.get("names").map((name) => {
      const open = name === model.get("unfolded");
      const mark = html("span", { "aria-hidden": "true" }, open ? "▾" : "▸");
      const button = html("button", { type: "button", "aria-expanded": String(open) }, mark, name);
      button.addEventListener("click", () => {
        // A message, as of `share`; the kernel opens what there is.
        model.send({ unfold: name === model.get("unfolded") ? "" : name });
      });
      return button;
    });
    el.replaceChildren(html("span", {}, model.get("label")), ...buttons);
    if (focused >= 0) buttons[focused]?.focus();
  };
  el.setAttribute("role", "group");
  el.setAttribute("aria-label", model.get("label"));
  model.on("change", paint);
  paint();
  return () => model.off("change", paint);
}
