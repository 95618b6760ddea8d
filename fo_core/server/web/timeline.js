// The last seconds as three bands: the user's level, the dialogue state of every chunk, the bot's level.

const SECONDS = 20;
const NAMES = ["continue", "respond", "dismiss", "you", "bot"];

/** The colour of a band or state as its legend shows it, light or dark. */
function colour(name) {
  return getComputedStyle(document.querySelector(`.legend .${name}`), "::before").backgroundColor;
}

export class Timeline {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.marks = []; // {time, band: "you" | "state" | "bot", value}
    this.running = false;
  }

  /** @param {"you" | "state" | "bot"} band @param {number | string} value a level or a state */
  add(band, value) {
    this.marks.push({ time: performance.now() / 1000, band, value });
  }

  start() {
    if (this.running) return;
    this.running = true;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches ? 500 : 0;
    let last = 0;
    const frame = (now) => {
      if (!this.running) return;
      if (now - last >= still) {
        last = now;
        this.draw();
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  stop() {
    this.running = false;
  }

  draw() {
    const scale = devicePixelRatio || 1;
    const width = this.canvas.clientWidth * scale;
    const height = this.canvas.clientHeight * scale;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const pen = this.canvas.getContext("2d");
    const colours = Object.fromEntries(NAMES.map((name) => [name, colour(name)]));
    const now = performance.now() / 1000;
    this.marks = this.marks.filter((mark) => now - mark.time < SECONDS);
    pen.clearRect(0, 0, width, height);
    const band = height / 3;
    for (const { time, band: name, value } of this.marks) {
      const x = width * (1 - (now - time) / SECONDS);
      const state = name === "state";
      pen.fillStyle = colours[state ? value : name];
      if (state) {
        pen.fillRect(x - (width * 0.16) / SECONDS, band * 1.2, (width * 0.15) / SECONDS, band * 0.6);
      } else {
        const tall = Math.max(scale, Math.min(1, 2.5 * value) * band * 0.9);
        const top = name === "you" ? band - tall : height - tall;
        pen.fillRect(x, top, Math.max(scale, (width * 0.018) / SECONDS), tall);
      }
    }
  }
}
