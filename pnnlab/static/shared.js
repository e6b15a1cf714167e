// What the widgets here share; it stands before their own code.

// anywidget (0.9.18 to 0.11) gives a widget's code two seconds to load. Where it takes longer, on a
// busy machine, its model refuses every message of the kernel from then on: the widget never changes.
/** Let a model whose code came too late take messages all the same; called once per model. */
function initialize({ model }) {
  const listen = (own) => own._handle_comm_msg({ content: { data: {} } }).catch(() => {
    if (!own.comm) return; // a stored widget, without a kernel
    const plain = Object.getPrototypeOf(own.constructor).prototype; // before anywidget's change to it
    own.comm.on_msg(plain._handle_comm_msg.bind(own));
    own.comm.send({ method: "request_state" }); // with all that was refused
  });
  // What is given here only stands for the model; a change hands out the model itself. To unset what
  // is not there is a change that leaves nothing behind.
  model.on("change:nothing", listen);
  model.set("nothing", true, { unset: true });
  model.off("change:nothing", listen);
}

/** Whether what lies behind the element is dark: true in any host, whatever it calls its themes. */
function isDark(el) {
  for (let behind = el; behind; behind = behind.parentElement) {
    const [r, g, b, alpha = 1] = getComputedStyle(behind).backgroundColor.match(/[\d.]+/g).map(Number);
    if (alpha > 0.5) return 0.299 * r + 0.587 * g + 0.114 * b < 128;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Keep the attribute data-dark true to the page, at every size and theme; returns what ends that. */
function followTheme(el, then = () => {}) {
  const dress = () => {
    if (!el.isConnected) return; // taken off the page since
    el.toggleAttribute("data-dark", isDark(el));
    then();
  };
  const shown = new ResizeObserver(dress); // called at first showing too
  shown.observe(el);
  const themed = new MutationObserver(() => setTimeout(dress, 300)); // once the new style is there
  themed.observe(document.body, { attributes: true });
  return () => { shown.disconnect(); themed.disconnect(); };
}

/** Paint at most once a frame: when the model changes, and with every new size or theme. */
function painting(model, el, paint) {
  let frame = 0;
  const repaint = () => { frame ||= requestAnimationFrame(() => { frame = 0; paint(); }); };
  model.on("change", repaint);
  const undress = followTheme(el, repaint);
  const end = () => {
    cancelAnimationFrame(frame);
    model.off("change", repaint);
    undress();
  };
  return { repaint, end };
}

/** An element with attributes and children; of these attributes, none that is missing or false. */
function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** The same of a drawing. */
function node(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
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
    const at = i * step || 0; // no minus before a zero
    found.push([at, at >= 1e5 ? at.toLocaleString("en", { notation: "compact" }) : at.toFixed(digits)]);
  }
  return found;
}

// A message, not the state: with ipykernel 7.4 a page sends but one of those while a cell waits.
/** Set what kernel and page share; `PageWidget` in parts.py takes it. */
function share(model, state) {
  for (const [name, value] of Object.entries(state)) model.set(name, value);
  model.send({ state });
}

/** The floats of a binary trait, at any offset in its message. */
function floats(model, name) {
  const view = model.get(name);
  const bytes = view?.buffer?.slice(view.byteOffset, view.byteOffset + view.byteLength);
  return new Float32Array(bytes ?? 0);
}
