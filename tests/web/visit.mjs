// Opens a page: node visit.mjs MODULES CHROMIUM ADDRESS. Prints what it shows, and what it said.

import { createRequire } from "node:module";

const [modules, program, address] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/package.json`)("playwright-core");

const browser = await chromium.launch({ executablePath: program });
const page = await browser.newPage();
const said = [];
page.on("console", (message) => said.push(message.text()));
page.on("pageerror", (error) => said.push(String(error)));
page.on("requestfailed", (request) => said.push(request.url()));
await page.goto(address);
const shown = page.locator("#result");
await page.waitForFunction(() => !document.querySelector("#result").textContent.includes("…"));
const [text, visible, isolated] = [
  await shown.textContent(),
  await shown.isVisible(),
  await page.evaluate(() => globalThis.crossOriginIsolated),
];
await browser.close();
console.log(JSON.stringify({ text, visible, isolated, said }));
