// A number to type.

function render({ model, el }) {
  el.classList.add("pnn-control", "pnn-entry");
  const input = html("input", { type: "number", required: true });
  const label = html("label", {}, "", input);
  el.append(label);
  let typing = false;
  input.addEventListener("input", () => { typing = true; });
  input.addEventListener("change", () => {
    if (!input.reportValidity()) return; // the browser shows why
    typing = false;
    share(model, { value: input.valueAsNumber });
  });
  // A notebook would take Enter, and letters, for commands.
  input.addEventListener("keydown", (event) => event.stopPropagation());
  return painting(model, el, () => {
    label.firstChild.textContent = model.get("label");
    if (model.get("least") !== null) input.min = model.get("least");
    input.step = model.get("whole") ? 1 : "any";
    if (!typing) input.value = model.get("value");
  }).end;
}
