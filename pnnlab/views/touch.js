// What the things to touch have in common: it stands after dark.js and before their own code.

function node(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Three significant digits. */
function number(value) {
  if (!Number.isFinite(value)) return "–";
  if (value && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6)) return value.toExponential(2);
  const digits = value ? 2 - Math.floor(Math.log10(Math.abs(value))) : 0;
  return value.toFixed(Math.max(0, Math.min(digits, 6)));
}

/** Round numbers between low and high, about `count` of them, with their texts. */
function ticks(low, high, count, least = 0) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const nice = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const step = Math.max(least, nice);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    found.push([i * step, (i * step || 0).toFixed(digits)]);
  }
  return found;
}

/** The floats of a binary trait, at any offset in its message. */
function floats(model, name) {
  const view = model.get(name);
  const bytes = view?.buffer?.slice(view.byteOffset, view.byteOffset + view.byteLength);
  return new Float32Array(bytes ?? 0);
}

/** Paint at most once a frame: when the model changes, and with every new size or theme. */
function painting(model, el, paint) {
  let frame = 0;
  const repaint = () => { frame ||= requestAnimationFrame(() => { frame = 0; paint(); }); };
  const dress = () => { el.toggleAttribute("data-dark", isDark(el)); repaint(); };
  model.on("change", repaint);
  const resized = new ResizeObserver(dress); // called at first showing too
  resized.observe(el);
  const themed = new MutationObserver(() => setTimeout(dress, 300)); // once the new style is there
  themed.observe(document.body, { attributes: true });
  const end = () => {
    cancelAnimationFrame(frame);
    model.off("change", repaint);
    resized.disconnect();
    themed.disconnect();
  };
  return { repaint, end };
}
