// Microphone in, loudspeaker out. Nothing here knows the protocol.

const OUT_RATE = 24000;

/** The microphone as blocks of samples at the device's own rate. */
export class Microphone {
  /** @param {(samples: Float32Array) => void} onBlock gets about 20 ms at a time */
  constructor(onBlock) {
    this.onBlock = onBlock;
  }

  get rate() {
    return this.context.sampleRate;
  }

  /** Ask for the microphone and start. @param {boolean} echoCancelling */
  async open(echoCancelling) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("This browser gives no microphone here: open the page by https or on localhost.");
    }
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: {
        channelCount: 1,
        echoCancellation: echoCancelling,
        noiseSuppression: true,
        autoGainControl: true,
      },
    });
    this.context = new AudioContext({ latencyHint: "interactive" });
    await this.context.audioWorklet.addModule("worklets.js");
    await this.context.resume();
    this.node = new AudioWorkletNode(this.context, "capture", { numberOfOutputs: 0 });
    this.node.port.onmessage = ({ data }) => this.onBlock(data);
    this.context.createMediaStreamSource(this.stream).connect(this.node);
  }

  async close() {
    this.stream?.getTracks().forEach((track) => track.stop());
    await this.context?.close();
    this.stream = this.context = undefined;
  }
}

/** Plays 24 kHz samples in the order they come, without gaps. */
export class Speaker {
  /** @param {(now: {item: string, played: number, rest: number, level: number}) => void} onPlayed */
  constructor(onPlayed) {
    this.onPlayed = onPlayed;
    this.played = new Map(); // item -> samples played
  }

  async open() {
    this.context = new AudioContext({ sampleRate: OUT_RATE, latencyHint: "interactive" });
    await this.context.audioWorklet.addModule("worklets.js");
    await this.context.resume();
    this.node = new AudioWorkletNode(this.context, "playback", { outputChannelCount: [2] });
    this.node.port.onmessage = ({ data }) => {
      if (data.item) this.played.set(data.item, data.played);
      this.onPlayed(data);
    };
    this.node.connect(this.context.destination);
  }

  /** @param {string} item @param {Float32Array} samples */
  play(item, samples) {
    if (!this.played.has(item)) this.played.set(item, 0);
    this.node?.port.postMessage({ item, samples }, [samples.buffer]);
  }

  clear() {
    this.node?.port.postMessage({ clear: true });
  }

  /** Stand still, or speak in a low voice, until {@link goOn}. @param {"pause" | "duck"} by */
  giveWay(by) {
    this.node?.port.postMessage({ yield: by });
  }

  /** Go on with the sample after the last one. */
  goOn() {
    this.node?.port.postMessage({ yield: null });
  }

  /** Milliseconds of an item that were played. */
  playedMs(item) {
    return Math.floor(((this.played.get(item) ?? 0) * 1000) / OUT_RATE);
  }

  async close() {
    await this.context?.close();
    this.context = this.node = undefined;
  }
}

/** Float32 samples in [-1, 1] as base64 of little-endian int16. */
export function toBase64(samples) {
  const bytes = new Uint8Array(samples.length * 2);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < samples.length; i++) {
    const value = Math.max(-1, Math.min(1, samples[i]));
    view.setInt16(2 * i, Math.round(value * 32767), true);
  }
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return btoa(text);
}

/** Base64 of little-endian int16 as Float32 samples. */
export function fromBase64(text) {
  const raw = atob(text);
  const bytes = Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const samples = new Float32Array(bytes.length >> 1);
  for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
  return samples;
}
