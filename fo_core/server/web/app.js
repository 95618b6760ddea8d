// The page: wires microphone, loudspeaker and protocol to what a person sees.

import { Microphone, Speaker, fromBase64, toBase64 } from "./audio.js";
import { Realtime } from "./realtime.js";
import { Timeline } from "./timeline.js";
import { Call } from "./webrtc.js";

const el = (id) => document.getElementById(id);
const timeline = new Timeline(el("timeline"));
const MAX_WAITING = 256 * 1024; // bytes; a stalled network loses the newest audio, not the page

let line = null; // the connection: Realtime, or a Call, which carries the audio itself
let microphone = null;
let speaker = null; // of a Realtime connection
let heardEnd = 0; // when the user's speech ended, ms of performance.now()
let response = null; // {id, item, done, text: HTMLElement, note: HTMLElement, first}
const entries = new Map(); // item id -> list entry

function say(text) {
  el("status").textContent = text;
}

function entry(item, role, text) {
  let found = entries.get(item);
  if (!found) {
    const row = document.createElement("li");
    row.className = role;
    const who = document.createElement("b");
    who.textContent = role === "user" ? "You" : "Model";
    const words = document.createElement("span");
    const note = document.createElement("small");
    row.append(who, words, note);
    el("conversation").append(row);
    found = { row, words, note };
    entries.set(item, found);
    row.scrollIntoView({ block: "nearest" });
  }
  if (text !== undefined) found.words.textContent = text;
  return found;
}

function configure(update = {}) {
  const kind = el("detection").value;
  const session = { type: "realtime", ...update };
  session.audio = {
    input: {
      ...(microphone && speaker ? { format: { type: "audio/pcm", rate: microphone.rate } } : {}),
      transcription: { model: "self" },
      turn_detection: kind === "manual" ? null : { type: kind },
    },
  };
  if (!el("voice").disabled) session.audio.output = { voice: el("voice").value };
  const instructions = el("instructions").value.trim();
  if (instructions) session.instructions = instructions;
  line.send("session.update", { session });
  el("commit").disabled = kind !== "manual";
}

/** Whether the model's voice is still to be heard. */
const playing = () => (speaker ? speaker.rest > 0 : line?.playing);

/** Silence the model; over WebSocket the server is told how much of the answer was heard. */
function hush() {
  if (!speaker) line?.clear();
  if (!speaker || !response?.item) return;
  const rest = speaker.rest ?? 0;
  speaker.clear();
  if (response.done && rest <= 0) return;
  line.send("conversation.item.truncate", {
    item_id: response.item,
    content_index: 0,
    audio_end_ms: speaker.playedMs(response.item),
  });
  entries.get(response.item)?.row.classList.add("cut");
}

function firstAudio(item) {
  if (!response?.first) return;
  response.first = false;
  el("voice").disabled = true; // a session has one voice
  say("Speaking.");
  if (heardEnd && item) {
    const wait = Math.round(performance.now() - heardEnd);
    entry(item, "assistant").note.textContent = `first audio after ${wait} ms`;
  }
}

function yourTurn() {
  el("interrupt").disabled = true;
  say("Your turn.");
}

const handlers = {
  "session.created": ({ session }) => {
    el("model").textContent = `Model: ${session.model ?? "unknown"}`;
    if (!el("instructions").value) el("instructions").placeholder = session.instructions ?? "";
  },
  "input_audio_buffer.speech_started": () => {
    if (speaker) hush(); // over WebRTC the server has stopped already
    say("Listening to you.");
  },
  "input_audio_buffer.speech_stopped": () => {
    heardEnd = performance.now();
    say("You have finished; thinking.");
  },
  "input_audio_buffer.committed": ({ item_id }) => entry(item_id, "user", "…"),
  "conversation.item.input_audio_transcription.completed": ({ item_id, transcript }) =>
    entry(item_id, "user", transcript || "(nothing understood)"),
  "conversation.item.input_audio_transcription.failed": ({ item_id }) =>
    entry(item_id, "user", "(no transcript)"),
  "response.created": ({ response: made }) => {
    response = { id: made.id, item: null, done: false, first: true };
    el("interrupt").disabled = false;
  },
  "response.output_item.added": ({ item }) => {
    response.item = item.id;
    entry(item.id, "assistant", "");
  },
  "response.output_audio_transcript.delta": ({ item_id, delta }) => {
    entry(item_id, "assistant").words.textContent += delta;
  },
  "response.output_text.delta": ({ item_id, delta }) => {
    entry(item_id, "assistant").words.textContent += delta;
  },
  "response.output_audio.delta": ({ item_id, delta }) => {
    firstAudio(item_id);
    speaker.play(item_id, fromBase64(delta));
  },
  "output_audio_buffer.started": () => firstAudio(response?.item),
  "output_audio_buffer.stopped": () => yourTurn(),
  "output_audio_buffer.cleared": () => {
    if (response?.done) el("interrupt").disabled = true;
  },
  "response.done": ({ response: made }) => {
    if (response) response.done = true;
    el("interrupt").disabled = !playing();
    heardEnd = 0;
    if (made.status === "cancelled") entries.get(response?.item)?.row.classList.add("cut");
    if (made.status === "failed") say(`Failed: ${made.status_details?.error?.message ?? "no reason given"}`);
    else if (!playing()) say("Your turn.");
  },
  "conversation.item.truncated": ({ item_id }) => entries.get(item_id)?.row.classList.add("cut"),
  "freeze_omni.playback_yielded": ({ by }) => {
    speaker?.giveWay(by);
    say("Listening to you; the answer waits.");
  },
  "freeze_omni.playback_resumed": () => {
    speaker?.goOn();
    say("Speaking.");
  },
  "freeze_omni.dialogue_state": ({ state }) => timeline.add("state", state),
  error: ({ error }) => say(`Error: ${error.message}`),
};

/** Offer the model's voices, its own first. */
async function listVoices() {
  const key = el("key").value;
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const found = await fetch("v1/models", { headers }).catch(() => null);
  if (!found?.ok) return; // the model's own voice is there all the same
  const { data } = await found.json();
  const names = data[0]?.voices ?? [];
  const chosen = el("voice").value;
  el("voice").replaceChildren(
    ...names.map((name, at) => new Option(name === "default" ? "the model's own" : name, at ? name : "default")),
  );
  if (names.slice(1).includes(chosen)) el("voice").value = chosen;
}

/** Connect; returns what a person should know about it. */
async function connect() {
  say("Connecting.");
  const told = ({ detail }) => handlers[detail.type]?.(detail);
  const key = el("key").value;
  let note = "";
  if (el("transport").value === "webrtc") {
    const onLevel = (level) => timeline.add("bot", level);
    try {
      line = await Call.open(key, told, microphone?.stream, onLevel);
    } catch (error) {
      note = `WebSocket in place of WebRTC: ${error.message}`;
    }
  }
  if (!line) {
    speaker = new Speaker(({ rest, level }) => {
      if (speaker) speaker.rest = rest;
      timeline.add("bot", level);
      if (line && rest <= 0 && response?.done) yourTurn();
    });
    await speaker.open();
    line = await Realtime.open(key, told);
  }
  const mine = line;
  line.addEventListener("closed", ({ detail }) => {
    if (line === mine) stop(detail || "Connection closed."); // else it was we who closed it
  });
  el("type").querySelector("button").disabled = false;
  timeline.start();
  return note;
}

async function start() {
  el("talk").disabled = true;
  try {
    microphone = new Microphone((samples) => {
      let peak = 0;
      for (const value of samples) peak = Math.max(peak, Math.abs(value));
      el("level").value = peak;
      timeline.add("you", peak);
      if (speaker && line?.open && line.waiting < MAX_WAITING) {
        line.send("input_audio_buffer.append", { audio: toBase64(samples) });
      }
    });
    await microphone.open(!el("headphones").checked);
    const note = line ? "" : await connect();
    configure();
    el("talk").textContent = "Stop talking";
    el("talk").setAttribute("aria-pressed", "true");
    say(note || "Speak whenever you like.");
  } catch (error) {
    await stop(error.name === "NotAllowedError" ? "The microphone was not allowed." : error.message);
  }
  el("talk").disabled = false;
}

async function stop(reason = "Stopped.") {
  const [old, mic, out] = [line, microphone, speaker];
  line = microphone = speaker = response = null;
  old?.close();
  timeline.stop();
  await Promise.allSettled([mic?.close(), out?.close()]);
  for (const id of ["interrupt", "commit"]) el(id).disabled = true;
  el("type").querySelector("button").disabled = true;
  el("level").value = 0;
  el("voice").disabled = false;
  el("talk").textContent = "Start talking";
  el("talk").setAttribute("aria-pressed", "false");
  say(reason);
}

el("talk").onclick = () => (line || microphone ? stop() : start());
el("interrupt").onclick = () => {
  if (!response?.done) line?.send("response.cancel");
  hush();
};
el("commit").onclick = () => {
  heardEnd = performance.now();
  line?.send("input_audio_buffer.commit");
  line?.send("response.create");
};
el("detection").onchange = () => line && configure();
el("voice").onchange = () => line && configure();
el("instructions").onchange = () => line && configure();
el("type").onsubmit = (event) => {
  event.preventDefault();
  const text = el("text").value.trim();
  if (!text || !line) return;
  hush();
  const id = `typed_${Date.now().toString(36)}`;
  line.send("conversation.item.create", {
    item: { id, type: "message", role: "user", content: [{ type: "input_text", text }] },
  });
  entry(id, "user", text);
  heardEnd = performance.now();
  line.send("response.create");
  el("text").value = "";
};
el("key").value = sessionStorage.getItem("key") ?? "";
el("key").onchange = () => {
  sessionStorage.setItem("key", el("key").value);
  listVoices();
};
listVoices();
