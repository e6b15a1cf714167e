// Shared by the widgets here; it stands before their own code.

/** Whether what lies behind the element is dark: true in any host, whatever it calls its themes. */
function isDark(el) {
  for (let behind = el; behind; behind = behind.parentElement) {
    const [r, g, b, alpha = 1] = getComputedStyle(behind).backgroundColor.match(/[\d.]+/g).map(Number);
    if (alpha > 0.5) return 0.299 * r + 0.587 * g + 0.114 * b < 128;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Keep the attribute data-dark true to the page; returns what ends that. */
function followTheme(el) {
  const dress = () => el.toggleAttribute("data-dark", isDark(el));
  const shown = new ResizeObserver(dress); // called at first showing too
  shown.observe(el);
  const themed = new MutationObserver(() => setTimeout(dress, 300)); // once the new style is there
  themed.observe(document.body, { attributes: true });
  return () => { shown.disconnect(); themed.disconnect(); };
}

/** An HTML element with attributes and children. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
