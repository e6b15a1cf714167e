// A loudspeaker and a microphone for the kernel, once a click has allowed it: each sound is started
// at a stated frame, and what is heard is recorded from that very frame on.

// The sound passes through the processor that records, so that it ends when the beats of the kernel
// stay away, whatever the page is doing. The less regular they are, the longer it waits for one.
const BENCH = `
const KNOWN = 100; // beats after which their gaps are known
const LEAST = 0.04 * sampleRate, MOST = 2 * sampleRate; // frames without a beat
class Bench extends AudioWorkletProcessor {
  constructor() {
    super();
    this.beats = 0;
    this.last = currentFrame;
    this.gap = 0; // the longest; a very old one counts less
    this.ended = 0; // sounds, one after another, because beats were late
    this.port.onmessage = ({ data }) => {
      if (data.record) {
        this.task = data;
      } else {
        this.beats++;
        const fading = this.beats > KNOWN ? 0.998 : 1;
        this.gap = Math.max(currentFrame - this.last, fading * this.gap);
      }
      this.last = currentFrame;
    };
  }
  process([microphone, sound], [output]) {
    const task = this.task;
    if (!task) return true;
    const known = this.beats > KNOWN ? Math.max(LEAST, 1.5 * this.gap) * 2 ** this.ended : MOST;
    if (currentFrame - this.last > Math.min(known, MOST)) {
      this.ended++;
      this.port.postMessage({ key: task.key });
      this.task = null;
      return true;
    }
    if (sound[0]) output[0].set(sound[0]);
    if (microphone[0]) {
      for (let n = 0; n < microphone[0].length; n++) {
        const place = currentFrame + n - task.from;
        if (place >= 0 && place < task.record.length) task.record[place] = microphone[0][n];
      }
    }
    if (currentFrame + 128 - task.from >= task.record.length) {
      this.port.postMessage(task, [task.record.buffer]);
      this.task = null;
      this.ended = 0;
    }
    return true;
  }
}
registerProcessor("pnn-bench", Bench);`;
const AHEAD = 0.1; // s between a message and its sound

let sound = null; // of this page: it has one loudspeaker and one microphone

/** Open both; `refuse` is told why they can no longer be used. */
async function openSound(rate, refuse) {
  const stream = await microphone();
  const [track] = stream.getAudioTracks();
  const context = new AudioContext({ sampleRate: rate, latencyHint: "balanced" });
  const own = { context, rate: context.sampleRate, source: null, key: "" };
  own.stop = () => {
    own.source?.disconnect();
    own.source = null;
    own.key = "";
  };
  own.close = (reason) => {
    if (own.closed) return;
    own.closed = true;
    own.stop();
    stream.getTracks().forEach((each) => each.stop());
    context.close();
    if (sound === own) sound = null;
    refuse(reason);
  };
  const granted = track.getSettings();
  const on = PROCESSING.filter((name) => granted[name] === true);
  if (on.length) {
    own.close(`The browser keeps ${on.join(" and ")} on, which spoils every record: use another `
      + "browser, such as Chrome or Firefox, and another microphone.");
    throw new Error("");
  }
  const muted = "The microphone is muted: unmute it in the system's settings, and start again.";
  track.onmute = () => own.close(muted);
  track.onended = () => own.close("The microphone was taken away: connect it, and start again.");
  context.onstatechange = () => {
    if (context.state !== "running") own.close("The page's sound was suspended: start again.");
  };
  own.node = await worklet(context, "pnn-bench", BENCH, {
    numberOfInputs: 2, channelCount: 1, channelCountMode: "explicit", outputChannelCount: [1],
  });
  context.createMediaStreamSource(stream).connect(own.node, 0, 0);
  own.node.connect(context.destination);
  await context.resume();
  if (track.muted) own.close(muted);
  if (own.closed) throw new Error(""); // the reason was told
  return own;
}

function play(own, key, samples, length, heard) {
  if (own.key === key) return; // another view of the same page has it
  own.stop();
  own.key = key;
  const { context } = own;
  const buffer = context.createBuffer(1, samples.length, context.sampleRate);
  buffer.copyToChannel(samples, 0);
  const from = Math.ceil((context.currentTime + AHEAD) * context.sampleRate);
  own.source = new AudioBufferSourceNode(context, { buffer });
  own.source.connect(own.node, 0, 1);
  own.source.start(from / context.sampleRate);
  own.node.port.onmessage = ({ data }) => {
    if (own.key !== data.key) return;
    own.stop();
    heard(data.record);
  };
  const record = new Float32Array(length);
  own.node.port.postMessage({ key, from, record }, [record.buffer]);
}

function render({ model, el }) {
  el.classList.add("pnn-control", "pnn-sound");
  const button = html("button", { type: "button" });
  const said = html("span", { role: "status" });
  const refused = html("div", { role: "alert" });
  el.append(html("header", {}, html("b", {}, "Sound of this page"), button), said, refused);
  const refuse = (reason) => share(model, { refused: reason });

  async function act() {
    if (sound) {
      sound.close("The sound was stopped in the page: start it again.");
      return;
    }
    button.disabled = true;
    try {
      sound = await openSound(model.get("wanted_hz"), refuse);
      share(model, { rate: sound.rate, refused: "" });
    } catch (error) {
      if (error.message) refuse(REFUSALS[error.name] ?? error.message);
    } finally {
      button.disabled = false;
      repaint();
    }
  }
  button.addEventListener("click", act);

  const told = (content, buffers) => {
    if (!sound) {
      if (content.play) refuse("The sound of this page is not started: start it.");
    } else if (content.play) {
      const view = buffers[0];
      const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
      play(sound, content.play, new Float32Array(bytes), content.length, (record) => {
        model.send({ heard: content.play }, undefined, record ? [record.buffer] : []);
      });
    } else if (content.stop) {
      sound.stop();
    } else {
      sound.node.port.postMessage({});
    }
  };
  model.on("msg:custom", told);
  const leave = () => sound?.close("The page was closed: open it, and start the sound again.");
  addEventListener("pagehide", leave);
  const { repaint, end } = painting(model, el, () => {
    button.textContent = sound ? "Stop" : "Start";
    said.textContent = sound
      ? `ready: ${sound.rate} samples a second, nothing processed`
      : `Plays noise, at up to ${Math.round(100 * model.get("level"))} % of full scale, and records `
        + "what the microphone hears of it. Nobody should wear headphones.";
    refused.textContent = sound ? "" : model.get("refused");
  });
  return () => {
    model.off("msg:custom", told);
    removeEventListener("pagehide", leave);
    end();
    if (!document.querySelector(".pnn-sound")) leave();
  };
}
