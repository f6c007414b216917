// The page's side of `browser.mjs`: `answer` answers a question, with files from the server.

import { answered, Sessions, WEBGPU } from "./sessions.mjs";

const address = (path) => `file/${encodeURIComponent(path)}`;

async function read(path) {
  const response = await fetch(address(path));
  if (!response.ok) throw new Error(`${path} cannot be read`);
  return new Uint8Array(await response.arrayBuffer());
}

async function write(path, bytes) {
  const response = await fetch(address(path), { method: "PUT", body: bytes });
  if (!response.ok) throw new Error(`${path} cannot be written`);
}

/** A page shows no processor time: the wall clock stands for it. */
function clocks() {
  const seconds = performance.now() / 1e3;
  return [seconds, seconds, seconds];
}

const adapter = await navigator.gpu?.requestAdapter();
const ort = (provider) => import(`./ort/ort.${provider === WEBGPU ? "webgpu" : "wasm"}.min.mjs`);
const sessions = new Sessions(ort, { read, write }, "web", clocks, adapter ? [WEBGPU] : []);
globalThis.answer = ({ do: name, ...question }) => answered(() => sessions[name](question));
