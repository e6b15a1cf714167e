// A microphone: a click records for a moment, and the samples go to the kernel as they are. They
// are in no trait, so that nothing of a voice is ever stored in a notebook.

const COLLECT = `
class Collect extends AudioWorkletProcessor {
  process([input]) {
    if (input[0]) this.port.postMessage(input[0].slice());
    return true;
  }
}
registerProcessor("pnn-collect", Collect);`;

function loudness(samples) {
  let sum = 0;
  for (const value of samples) sum += value * value;
  const decibel = 10 * Math.log10(sum / samples.length + 1e-9);
  return Math.min(1, Math.max(0, (decibel + 60) / 60));
}

/** Record for some seconds; `onLevel` hears of the loudness and of the part of the time so far. */
async function record(seconds, onLevel) {
  const stream = await microphone();
  const context = new AudioContext();
  try {
    await context.resume();
    const collect = await worklet(context, "pnn-collect", COLLECT);
    const all = new Float32Array(Math.round(seconds * context.sampleRate));
    let count = 0;
    const ended = new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error("No sound came from the microphone: choose another one in "
        + "the browser's settings, and record again.")), 1000 * seconds + 4000);
      collect.port.onmessage = ({ data }) => {
        all.set(data.subarray(0, all.length - count), count);
        count = Math.min(all.length, count + data.length);
        onLevel(loudness(data), count / all.length);
        if (count < all.length) return;
        collect.port.onmessage = null; // or what still comes would speak of a recording
        resolve();
      };
    });
    context.createMediaStreamSource(stream).connect(collect);
    await ended;
    return { rate: context.sampleRate, samples: all };
  } finally {
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  }
}

async function play(samples, rate) {
  const context = new AudioContext();
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.onended = () => context.close();
  source.connect(context.destination);
  await context.resume();
  source.start();
}

function render({ model, el }) {
  el.classList.add("pnn-control", "pnn-microphone");
  const title = html("b");
  const button = html("button", { type: "button" }, "Record");
  const level = html("meter", { min: 0, max: 1, high: 0.97, "aria-label": "Loudness" });
  const said = html("span", { role: "status" });
  const refused = html("div", { role: "alert" });
  el.append(html("header", {}, title, button), html("div", { class: "row" }, level, said), refused);
  let busy = false;

  async function act() {
    if (busy) return;
    busy = true;
    button.disabled = true;
    model.set("refused", ""); // in this page: what it refuses is no other page's matter
    said.textContent = "waiting for the microphone";
    try {
      const { rate, samples } = await record(model.get("seconds"), (loud, part) => {
        level.value = loud;
        const words = `recording, ${Math.ceil(model.get("seconds") * (1 - part))} s left: speak now`;
        if (said.textContent !== words) said.textContent = words;
      });
      said.textContent = "recorded";
      model.send({ rate }, undefined, [samples.buffer]);
    } catch (error) {
      said.textContent = "";
      model.set("refused", REFUSALS[error.name] ?? error.message);
    } finally {
      level.value = 0;
      busy = false;
      button.disabled = false;
      button.focus();
    }
  }
  button.addEventListener("click", act);
  const heard = (content, buffers) => {
    const view = buffers[0];
    const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
    play(new Float32Array(bytes), content.rate);
  };
  model.on("msg:custom", heard);
  const { end } = painting(model, el, () => {
    title.textContent = model.get("title");
    refused.textContent = model.get("refused");
  });
  return () => { model.off("msg:custom", heard); end(); };
}
