// A row of things to choose from, each a button with its name or its picture.

function render({ model, el }) {
  el.classList.add("pnn-control", "pnn-choice");
  const title = html("b");
  const more = html("button", { type: "button" }, "Others");
  const row = html("div", { role: "group" });
  el.append(html("header", {}, title, more), row);
  let shown = null;

  function offer() {
    shown = model.get("items");
    row.replaceChildren(...shown.map((item, place) => {
      const button = html("button", { type: "button", title: item.name, "aria-label": item.name });
      if (item.picture) button.append(html("img", { src: item.picture, alt: "" }));
      else button.append(item.text);
      button.addEventListener("click", () => model.send({ chosen: place }));
      return button;
    }));
  }
  function paint() {
    title.textContent = model.get("title");
    row.setAttribute("aria-label", model.get("title"));
    if (model.get("items") !== shown) offer();
    [...row.children].forEach((button, place) => {
      button.setAttribute("aria-pressed", String(place === model.get("chosen")));
    });
  }
  more.addEventListener("click", () => model.send({ more: true }));
  return painting(model, el, paint).end;
}
