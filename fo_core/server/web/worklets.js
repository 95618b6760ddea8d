// Runs in the audio threads: one processor hands the microphone on, the other plays without gaps.

/** Posts mono blocks of the microphone, Float32Array of about 20 ms, at the context's own rate. */
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.size = Math.round(sampleRate / 50);
    this.block = new Float32Array(this.size);
    this.filled = 0;
  }

  process([input]) {
    const channels = input.length;
    if (!channels) return true;
    for (let i = 0; i < input[0].length; i++) {
      let sum = 0;
      for (let c = 0; c < channels; c++) sum += input[c][i];
      this.block[this.filled++] = sum / channels;
      if (this.filled === this.size) {
        this.port.postMessage(this.block, [this.block.buffer]); // which takes the buffer away
        this.block = new Float32Array(this.size);
        this.filled = 0;
      }
    }
    return true;
  }
}

const DUCK_GAIN = 0.2; // of a low voice
const DUCK_SECONDS = 0.01; // in which the voice is lowered and raised

/**
 * Plays what it is sent, piece after piece, and says how much of each item was heard.
 *
 * In: {item, samples}, {clear: true} or {yield: "pause" | "duck" | null}: stand still, speak in a low
 * voice, or go on with the sample after the last one. Out: {item, played, rest, level} about every 20 ms; `played`
 * counts this item's samples that left the queue.
 */
class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = [];
    this.offset = 0;
    this.played = 0;
    this.item = null;
    this.since = 0;
    this.peak = 0;
    this.yielded = null;
    this.gain = 1;
    this.port.onmessage = ({ data }) => {
      if (data.clear) {
        this.report();
        this.queue = [];
        this.offset = 0;
        this.yielded = null;
        this.gain = 1;
      } else if ("yield" in data) {
        this.yielded = data.yield;
        this.report();
      } else {
        this.queue.push(data);
      }
    };
  }

  report() {
    const rest = this.queue.reduce((sum, piece) => sum + piece.samples.length, -this.offset);
    this.port.postMessage({ item: this.item, played: this.played, rest, level: this.peak });
    this.since = 0;
    this.peak = 0;
  }

  process(_, [output]) {
    const out = output[0];
    const step = 1 / (DUCK_SECONDS * sampleRate);
    const to = this.yielded === "duck" ? DUCK_GAIN : 1;
    let i = 0;
    while (i < out.length && this.queue.length && this.yielded !== "pause") {
      const piece = this.queue[0];
      if (piece.item !== this.item) {
        this.item = piece.item;
        this.played = 0;
      }
      const count = Math.min(out.length - i, piece.samples.length - this.offset);
      for (let k = 0; k < count; k++) {
        if (this.gain > to) this.gain = Math.max(to, this.gain - step);
        else if (this.gain < to) this.gain = Math.min(to, this.gain + step);
        const value = this.gain * piece.samples[this.offset + k];
        out[i + k] = value;
        this.peak = Math.max(this.peak, Math.abs(value));
      }
      i += count;
      this.offset += count;
      this.played += count;
      if (this.offset === piece.samples.length) {
        this.queue.shift();
        this.offset = 0;
        if (!this.queue.length) this.report();
      }
    }
    for (let c = 1; c < output.length; c++) output[c].set(out);
    this.since += out.length;
    if (i && this.since >= sampleRate / 50) this.report();
    return true;
  }
}

registerProcessor("capture", Capture);
registerProcessor("playback", Playback);
