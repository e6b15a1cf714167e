// Pendula side by side, played in a loop from the frames of the model. A drag across a pendulum, or
// the arrow keys, push: the kernel answers with other frames.

const [WIDE, HIGH, BASE] = [300, 280, 135]; // of one pendulum, and the height of its arm
const [ARM, ROD] = [58, 95]; // about as long as those of a QUBE-Servo 2 to each other
const DEPTH = 0.3; // of the arm's circle, seen from a little above it
const REST = 0.8; // s between two rounds
const PER_PIXEL = 0.05; // rad/s
const KEY = 2; // rad/s of an arrow key

/** Ends of arm and rod on the page, at angles in rad. */
function ends(arm, rod) {
  const [x, y] = [WIDE / 2 + ARM * Math.sin(arm), BASE + DEPTH * ARM * Math.cos(arm)];
  const across = ROD * Math.sin(rod);
  return [[x, y], [x + across * Math.cos(arm), y - ROD * Math.cos(rod) - DEPTH * across * Math.sin(arm)]];
}

function pendulum(name) {
  const base = node("ellipse", { cx: WIDE / 2, cy: BASE, rx: ARM, ry: DEPTH * ARM, class: "base" });
  const arm = node("path", { class: "arm" });
  const rod = node("path", { class: "rod" });
  const tip = node("circle", { r: 6, class: "tip" });
  const hit = node("path", { class: "push" });
  const title = node("text", { x: WIDE / 2, y: 18, "text-anchor": "middle", class: "name" }, name);
  const said = node("text", { x: WIDE / 2, y: HIGH - 8, "text-anchor": "middle" });
  const svg = node("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": name },
    base, arm, rod, tip, hit, title, said);
  return { svg, show([theta, alpha, volts], stopped, seconds, push) {
    const [elbow, end] = ends(theta, alpha);
    arm.setAttribute("d", `M${WIDE / 2},${BASE}L${elbow}`);
    rod.setAttribute("d", `M${elbow}L${end}`);
    tip.setAttribute("cx", end[0]);
    tip.setAttribute("cy", end[1]);
    hit.setAttribute("d", push ? `M${end[0]},${end[1]}h${12 * push}` : "");
    svg.toggleAttribute("data-stopped", stopped);
    const shown = Math.round(10 * volts) / 10 || 0; // no "-0"
    said.textContent = stopped ? "stopped at its limit" : `${seconds.toFixed(1)} s, ${shown.toFixed(1)} V`;
  } };
}

function render({ model, el }) {
  el.classList.add("pnn-control", "pnn-pendulum");
  const title = html("b", {}, "Drag across to push the rods");
  const again = html("button", { type: "button" }, "No push");
  const said = html("span", { role: "status" });
  const stage = html("div", { tabindex: 0, role: "application", "data-lm-suppress-shortcuts": "true",
    "aria-label": "Pendula. Left and right arrow push the rods, Escape takes the push away." });
  el.append(html("header", {}, title, said, again), stage);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches; // then the end is shown
  let names = [];
  let pendula = [];
  let frames = [];
  let began = 0;
  let frame = 0;
  let from = null; // where a drag began
  let aimed = 0;

  const tell = () => {
    const push = model.get("push");
    said.textContent = push ? `push of ${number(push)} rad/s after ${
      number(model.get("pushed_at") * model.get("step_s"))} s` : "no push";
  };
  const send = (push) => share(model, { push: Math.max(-8, Math.min(8, push)) });
  const restart = () => {
    if (String(names) !== String(model.get("names"))) {
      names = model.get("names");
      pendula = names.map(pendulum);
      stage.replaceChildren(...pendula.map((one) => one.svg));
    }
    frames = floats(model, "frames");
    began = performance.now();
    tell();
  };
  model.on("change", restart);

  function paint(now) {
    frame = requestAnimationFrame(paint);
    const count = frames.length / 3 / names.length;
    if (!(count >= 1)) return; // not all of its state is here
    const step_s = model.get("step_s");
    const seconds = ((now - began) / 1000) % (count * step_s + REST);
    const at = still ? count - 1 : Math.max(0, Math.min(count - 1, Math.floor(seconds / step_s)));
    const struck = from === null && Math.abs(at - model.get("pushed_at") - 4) < 10;
    pendula.forEach((one, place) => {
      const start = 3 * (place * count + at);
      const stop = model.get("stopped")[place];
      one.show(frames.subarray(start, start + 3), stop >= 0 && at >= stop, at * step_s,
        from === null ? (struck ? model.get("push") : 0) : aimed);
    });
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    [from, aimed] = [event.clientX, 0];
  });
  stage.addEventListener("pointermove", (event) => {
    if (from !== null) aimed = Math.max(-8, Math.min(8, PER_PIXEL * (event.clientX - from)));
  });
  stage.addEventListener("pointerup", () => {
    if (from !== null && aimed) send(aimed);
    from = null;
  });
  stage.addEventListener("pointercancel", () => { from = null; });
  stage.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (turn) send(model.get("push") + KEY * turn);
    else if (event.key === "Escape") send(0);
    else return;
    event.preventDefault();
    event.stopPropagation(); // a notebook would move to another cell
  });
  again.addEventListener("click", () => send(0));

  restart();
  frame = requestAnimationFrame(paint);
  const undress = followTheme(el);
  return () => {
    cancelAnimationFrame(frame);
    undress();
    model.off("change", restart);
  };
}
