// One connection of the Realtime protocol over WebSocket: JSON events out and in.

export class Realtime extends EventTarget {
  /**
   * Connect.
   * @param {string} key an API key, or ""
   * @param {(event: CustomEvent) => void} listener gets every event, the first one too
   * @returns {Promise<Realtime>}
   */
  static open(key, listener) {
    const url = new URL("v1/realtime?states=1&yield=1", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const protocols = ["realtime"];
    // A browser cannot set headers on a WebSocket; the key travels as a subprotocol instead.
    if (key) protocols.push(`openai-insecure-api-key.${key}`);
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url, protocols);
      const self = new Realtime(socket);
      self.addEventListener("event", listener);
      let refused = "The server refused the connection; is it full, or does it want an API key?";
      socket.onmessage = ({ data }) => {
        const event = JSON.parse(data);
        if (event.type === "session.created") resolve(self);
        if (event.type === "error") refused = event.error.message;
        self.dispatchEvent(new CustomEvent("event", { detail: event }));
      };
      socket.onclose = ({ reason }) => {
        reject(new Error(reason || refused));
        self.dispatchEvent(new CustomEvent("closed", { detail: reason || "" }));
      };
    });
  }

  constructor(socket) {
    super();
    this.socket = socket;
  }

  get open() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  /** Bytes that the network has not taken yet. */
  get waiting() {
    return this.socket.bufferedAmount;
  }

  send(type, fields = {}) {
    if (this.open) this.socket.send(JSON.stringify({ type, ...fields }));
  }

  close() {
    this.socket.close(1000);
  }
}
