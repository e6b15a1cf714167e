// A row of buttons of which one is down; of those that unfold something, at most one.

function render({ model, el }) {
  el.classList.add("pnn-one-of");
  el.setAttribute("role", "group");
  const paint = () => {
    const focused = [...el.querySelectorAll("button")].indexOf(document.activeElement);
    const folds = model.get("folds");
    const buttons = model.get("options").map(([value, text]) => {
      const down = value === model.get("value");
      const mark = folds ? [html("span", { "aria-hidden": "true" }, down ? "▾" : "▸")] : [];
      const state = { [folds ? "aria-expanded" : "aria-pressed"]: String(down) };
      const button = html("button", { type: "button", ...state }, ...mark, text);
      button.addEventListener("click", () => share(model, { value: down && folds ? "" : value }));
      return button;
    });
    el.classList.toggle("pnn-folds", folds);
    el.setAttribute("aria-label", model.get("label"));
    el.replaceChildren(html("span", {}, model.get("label")), ...buttons);
    if (focused >= 0) buttons[focused]?.focus();
  };
  model.on("change", paint);
  paint();
  return () => model.off("change", paint);
}
