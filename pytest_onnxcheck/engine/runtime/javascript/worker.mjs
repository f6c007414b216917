// Answers questions about sessions on stdin, as `worker.py` does, in node or in a browser:
//
//     node worker.mjs MODULES node            onnxruntime-node
//     node worker.mjs MODULES web             onnxruntime-web, in node
//     node worker.mjs MODULES web CHROMIUM    onnxruntime-web, in a page of this browser
//
// MODULES is the folder that `npm ci` installed the packages into. Whatever is printed goes to
// stderr, which the browser's console does too.

import { createRequire } from "node:module";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { answered, Sessions } from "./sessions.mjs";

console.log = console.error;

const [modules, runtime, chromium] = process.argv.slice(2);
const load = createRequire(join(modules, "package.json"));

const files = { read: async (path) => new Uint8Array(await readFile(path)), write: writeFile };

function clocks() {
  const { user, system } = process.cpuUsage();
  const processor = (user + system) / 1e6;
  return [performance.now() / 1e3, processor, processor];
}

async function started() {
  if (chromium) {
    const { openPage } = await import("./browser.mjs");
    return openPage(load("playwright-core").chromium, chromium, modules);
  }
  const ort = load(`onnxruntime-${runtime}`);
  const sessions = new Sessions(() => ort, files, runtime, clocks);
  const answer = ({ do: name, ...question }) => answered(() => sessions[name](question));
  return { answer, close: async () => {} };
}

let answer;
let close = async () => {};
try {
  ({ answer, close } = await started());
} catch (error) {
  const refused = { error: String(error?.message ?? error), kind: "import" };
  answer = async () => refused;
}
const lines = createInterface({ input: process.stdin });
// whoever asked is gone, and waits for no answer; a browser that is killed leaves its files behind
lines.once("close", () => close().finally(() => process.exit(0)));
for await (const line of lines) {
  const question = JSON.parse(line);
  const found = await answer(question);
  if (question.do === "hello" && found.value) found.value.packages.node = process.versions.node;
  process.stdout.write(`${JSON.stringify(found)}\n`);
}
