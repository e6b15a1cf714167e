// The microphone as it is, without what browsers do for calls; for the widgets that listen.

const REFUSALS = {
  NotAllowedError: "The microphone was refused: allow it for this page beside the browser's "
    + "address, and try again.",
  NotFoundError: "There is no microphone: connect one, and try again.",
  NotReadableError: "The microphone is in use elsewhere: close what uses it, and try again.",
};
const PROCESSING = ["echoCancellation", "noiseSuppression", "autoGainControl"];

/** A stream of one channel, of which nothing is processed that can be switched off. */
async function microphone() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("A browser lends the microphone only to pages from this computer or by https: "
      + "open this one so.");
  }
  const plain = Object.fromEntries(PROCESSING.map((name) => [name, false]));
  return navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...plain } });
}

/** A node of a processor whose code is given. */
async function worklet(context, name, code, options = {}) {
  const module = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  try {
    await context.audioWorklet.addModule(module);
  } finally {
    URL.revokeObjectURL(module);
  }
  return new AudioWorkletNode(context, name, options);
}
