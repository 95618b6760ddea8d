// One call over WebRTC: the microphone and the model's voice as tracks, events over a data channel.

const WAIT = 10_000; // ms for the call to begin
const LOOK = 50; // ms between two looks at the model's loudness

export class Call extends EventTarget {
  /**
   * Call the server.
   * @param {string} key an API key, or ""
   * @param {(event: CustomEvent) => void} listener gets every event, the first one too
   * @param {MediaStream | undefined} stream the microphone; without one the model is only heard
   * @param {(level: number) => void} onLevel gets the loudness of the model's voice, 0 to 1
   * @returns {Promise<Call>}
   */
  static async open(key, listener, stream, onLevel) {
    if (!window.RTCPeerConnection) throw new Error("this browser has no WebRTC.");
    const self = new Call(new RTCPeerConnection(), onLevel);
    self.addEventListener("event", listener);
    try {
      await self.begin(key, stream);
    } catch (error) {
      self.close();
      throw error;
    }
    return self;
  }

  constructor(peer, onLevel) {
    super();
    this.peer = peer;
    this.channel = peer.createDataChannel("oai-events");
    this.audio = new Audio();
    this.audio.autoplay = true;
    this.playing = false;
    this.timer = setInterval(() => onLevel(this.level), LOOK);
    peer.ontrack = ({ streams, track }) => {
      this.audio.srcObject = streams[0] ?? new MediaStream([track]);
    };
    this.channel.onmessage = ({ data }) => this.take(JSON.parse(data));
    this.channel.onclose = () => this.end("Connection closed.");
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "failed") this.end("The connection was lost.");
    };
  }

  async begin(key, stream) {
    const [track] = stream?.getAudioTracks() ?? [];
    if (track) this.peer.addTrack(track, stream);
    else this.peer.addTransceiver("audio", { direction: "recvonly" });
    await this.peer.setLocalDescription();
    const headers = { "Content-Type": "application/sdp" };
    if (key) headers.Authorization = `Bearer ${key}`;
    const body = this.peer.localDescription.sdp;
    const answer = await fetch("v1/realtime/calls?states=1", { method: "POST", body, headers });
    const text = await answer.text();
    if (!answer.ok) throw new Error(reason(text) ?? `the server answered ${answer.status}.`);
    const begun = new Promise((resolve, reject) => {
      this.addEventListener("event", resolve, { once: true });
      this.addEventListener("closed", ({ detail }) => reject(new Error(detail)), { once: true });
      setTimeout(() => reject(new Error("no connection by UDP.")), WAIT);
    });
    await this.peer.setRemoteDescription({ type: "answer", sdp: text });
    await begun;
  }

  take(event) {
    if (event.type === "output_audio_buffer.started") this.playing = true;
    else if (event.type.startsWith("output_audio_buffer.")) this.playing = false;
    this.dispatchEvent(new CustomEvent("event", { detail: event }));
  }

  get level() {
    return this.peer.getReceivers()[0]?.getSynchronizationSources()[0]?.audioLevel ?? 0;
  }

  get open() {
    return this.channel.readyState === "open";
  }

  send(type, fields = {}) {
    if (this.open) this.channel.send(JSON.stringify({ type, ...fields }));
  }

  /** Silence the model; the server knows how much of it was sent and keeps that. */
  clear() {
    if (this.playing) this.send("output_audio_buffer.clear");
  }

  end(why) {
    if (this.peer.signalingState === "closed") return;
    this.close();
    this.dispatchEvent(new CustomEvent("closed", { detail: why }));
  }

  close() {
    clearInterval(this.timer);
    this.channel.onclose = null;
    this.audio.srcObject = null;
    this.peer.close();
  }
}

/** What is wrong, in the server's words. */
function reason(text) {
  try {
    return JSON.parse(text).error.message;
  } catch {
    return undefined;
  }
}
