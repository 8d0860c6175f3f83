// Captions from an asr-stream server, and speech to it, for any page:
//
//   import { listen, speak } from "http://127.0.0.1:8765/captions.js";
//   listen((message) => { if (message.type === "final") console.log(message.text); });
//   const session = await speak((message) => console.log(message)); // the visitor's microphone, until session.stop()
//
// The messages are those of docs/protocol.md. Pages of other origins need --allow-origin.

// A server that wants a token finds it in the address of its own pages (?token=…), else in the options of these functions.

const MAX_BUFFERED_BYTES = 1_000_000; // that the network has not taken yet; ten seconds of audio or so
const OWN_PAGE = new URL(import.meta.url).origin === location.origin; // what other pages call token is not for this server
const TOKEN = OWN_PAGE ? new URLSearchParams(location.search).get("token") : null;

/** Where the server takes WebSockets: the server that this module came from. */
function address(path) {
  const url = new URL(path, import.meta.url);
  url.protocol = url.protocol.replace("http", "ws");
  return url;
}

/** A WebSocket; as browsers can add no header, a token travels as a subprotocol. */
function open(url, token) {
  return new WebSocket(url, token ? ["asr-stream", `token.${token}`] : []);
}

/**
 * Tell every caption message to `tell` until `close()` is called on what this returns. A connection that is lost is
 * tried again after 0.5 s, then after ever longer waits up to 10 s; `live` is told true and false.
 */
export function listen(tell, { url = address("captions"), token = TOKEN, live = () => {} } = {}) {
  let socket, retry = 0, wait = 500, closed = false;

  function connect() {
    clearTimeout(retry);
    retry = 0;
    socket = open(url, token);
    socket.onopen = () => {
      wait = 500;
      live(true);
    };
    socket.onmessage = ({ data }) => closed || tell(JSON.parse(data));
    socket.onclose = () => {
      if (closed) return;
      live(false);
      retry = setTimeout(connect, wait);
      wait = Math.min(10000, wait * 1.7);
    };
  }

  const now = () => retry && !document.hidden && connect();
  window.addEventListener("online", now);
  document.addEventListener("visibilitychange", now);
  connect();
  return {
    close() {
      closed = true;
      clearTimeout(retry);
      window.removeEventListener("online", now);
      document.removeEventListener("visibilitychange", now);
      socket.close();
    },
  };
}

/**
 * A session for any audio: `send` it as ArrayBuffers, then `end`. `config` is that of docs/protocol.md. `ended` becomes
 * "" when all has been said, or a sentence about what went wrong.
 */
export function recognize(tell, config = {}, { url = address("recognize"), token = TOKEN } = {}) {
  const socket = open(url, token);
  const waiting = [JSON.stringify({ type: "config", ...config })];
  let complaint = "";
  const send = (data) => {
    if (socket.readyState === WebSocket.CONNECTING) waiting.push(data);
    else if (socket.readyState === WebSocket.OPEN) socket.send(data);
    if (socket.bufferedAmount > MAX_BUFFERED_BYTES) {
      complaint = "The network is too slow for audio.";
      socket.close();
    }
  };
  const ended = new Promise((resolve) => {
    let opened = false;
    socket.onopen = () => {
      opened = true;
      waiting.forEach((data) => socket.send(data));
    };
    socket.onmessage = ({ data }) => tell(JSON.parse(data));
    socket.onclose = ({ code, reason }) => {
      if (code === 1000) resolve(complaint);
      else if (opened) resolve(complaint || reason || "The connection was lost.");
      else resolve("The server takes no audio now: it cannot be reached, or all its places are taken.");
    };
  });
  return { send, end: () => send('{"type":"end"}'), ended };
}

/**
 * A session for the visitor's microphone, once they have allowed it; an Error says in a sentence why there is none.
 * `stop()` ends it: the last words are still told, then `ended` becomes "" or a sentence as for `recognize`.
 */
export async function speak(tell, config = {}, options = {}) {
  const microphone = await openMicrophone();
  const awake = await navigator.wakeLock?.request("screen").catch(() => undefined); // a telephone that sleeps is deaf
  const context = new AudioContext();
  const tracks = microphone.getTracks();
  const release = () => {
    tracks.forEach((track) => track.stop());
    awake?.release();
    if (context.state !== "closed") context.close();
  };
  let session;
  try {
    await context.audioWorklet.addModule(new URL("microphone.js", import.meta.url));
    await context.resume();
    session = recognize(tell, { ...config, sample_rate: context.sampleRate, format: "s16le" }, options);
  } catch (error) {
    release();
    throw new Error(`The browser cannot record: ${error.message}`);
  }
  const recorder = new AudioWorkletNode(context, "recorder", { channelCount: 1, channelCountMode: "explicit" });
  recorder.port.onmessage = ({ data }) => (data ? session.send(data) : session.end());
  context.createMediaStreamSource(microphone).connect(recorder).connect(context.destination); // it stays silent
  const stop = () => {
    tracks.forEach((track) => track.stop());
    if (context.state === "running") recorder.port.postMessage("end"); // it answers when all it has heard was sent
    else session.end();
  };
  tracks.forEach((track) => track.addEventListener("ended", stop)); // unplugged, or no longer allowed
  session.ended.then(release);
  return { stop, ended: session.ended };
}

async function openMicrophone() {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Error("Browsers give the microphone only to pages that come over https or from localhost: "
      + "open this page by such an address.");
  }
  try {
    // What makes a voice pleasant for people on the phone makes it harder to recognise, except for its level.
    const wanted = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
    return await navigator.mediaDevices.getUserMedia({ audio: wanted });
  } catch (error) {
    throw new Error({
      NotAllowedError: "This page may not use the microphone: allow it in the browser's settings for this site.",
      NotFoundError: "There is no microphone: connect one.",
      NotReadableError: "The microphone cannot be opened: another program may be using it.",
    }[error.name] ?? `There is no microphone: ${error.message}`);
  }
}
