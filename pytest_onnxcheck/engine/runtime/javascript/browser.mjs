// A page in a browser that answers the questions: served on loopback, driven by playwright-core.

import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { basename, dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const OWN = dirname(fileURLToPath(import.meta.url));
const MIME = { ".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm" };
/** what lets a page share memory between threads, and have its clock at 5 us instead of 100 */
const ISOLATED = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};
/** it looks up nothing by itself; WebGPU is behind a flag on Linux */
const FLAGS = [
  ...["--no-first-run", "--disable-quic", "--disable-sync", "--disable-component-update"],
  ...["--disable-background-networking", "--enable-unsafe-webgpu"],
];

/**
 * Starts a browser with the page `page.html`.
 *
 * @param chromium Playwright's.
 * @param program The browser.
 * @param modules The folder with the packages.
 * @returns `answer` answers a question, `close` ends the browser.
 */
export async function openPage(chromium, program, modules) {
  const site = await serve(join(modules, "node_modules", "onnxruntime-web", "dist"));
  const browser = await chromium.launch({ executablePath: program, args: FLAGS });
  const page = await browser.newPage();
  page.on("console", (message) => console.error(message.text()));
  page.on("pageerror", (error) => console.error(String(error)));
  // whoever asked starts another, with another browser
  const end = (how) => {
    console.error(how);
    process.exit(1);
  };
  page.on("crash", () => end("the page crashed"));
  browser.on("disconnected", () => end("the browser ended"));
  await page.goto(`${site.address}/page.html`);
  await page.waitForFunction(() => globalThis.answer);
  const answer = async (question) => {
    site.let(question);
    const found = await page.evaluate((asked) => globalThis.answer(asked), question);
    if (question.do === "hello" && found.value) found.value.packages.browser = browser.version();
    return found;
  };
  const close = async () => {
    browser.removeAllListeners("disconnected");
    await browser.close();
  };
  return { answer, close };
}

/**
 * Serves our scripts, those of onnxruntime-web, and the files that questions name; no others, and
 * under a secret address, since everybody on this machine can ask.
 */
async function serve(dist) {
  const secret = randomBytes(16).toString("hex");
  const named = new Set();
  const server = createServer(async (request, response) => {
    try {
      const [, given, part, ...rest] = decodeURIComponent(request.url).split("/");
      const path = rest.join("/");
      if (given !== secret) throw new Error("not here");
      if (part === "file" && named.has(path) && request.method === "PUT") {
        await writeFile(path, await body(request));
        response.writeHead(204, ISOLATED).end();
        return;
      }
      const file =
        part === "file" && named.has(path)
          ? path
          : part === "ort"
            ? join(dist, basename(path))
            : join(OWN, basename(part));
      const bytes = await readFile(file);
      const type = MIME[extname(file)] ?? "application/octet-stream";
      response.writeHead(200, { "Content-Type": type, "Cache-Control": "no-store", ...ISOLATED });
      response.end(bytes);
    } catch {
      response.writeHead(404, ISOLATED).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `http://127.0.0.1:${server.address().port}/${secret}`,
    /** Lets the page have the files that a question names. */
    let(question) {
      const sides = (question.sides ?? []).map(([, inputs]) => inputs);
      const data = Object.values(question.opening?.data ?? {});
      for (const path of [question.path, question.inputs, question.outputs, ...sides, ...data]) {
        if (path) named.add(path);
      }
    },
  };
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}
