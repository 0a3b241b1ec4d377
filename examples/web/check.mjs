/**
 * Opens the page in a headless Chromium and uses it: what it shows must be right, what fails must be said, nothing
 * may come from elsewhere. Without a Chromium it says so and checks nothing.
 *
 *     examples/web/build.sh && node examples/web/check.mjs [SCREENSHOT.png]
 */

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { Chromium, findChromium } from "./chromium.mjs";
import { serve } from "./serve.mjs";

const SITE = fileURLToPath(new URL("../../target/web", import.meta.url));
const path = findChromium();
if (path === null) {
  console.log("skipped: no Chromium here ($CHROMIUM names one)");
  process.exit(0);
}

// A second site whose model was cut off on the way, and a third with a model that is none.
const broken = mkdtempSync(join(tmpdir(), "undiffuse-web-"));
for (const name of ["short", "foreign", "missing"]) cpSync(SITE, join(broken, name), { recursive: true });
const weights = readFileSync(join(SITE, "digits.safetensors"));
writeFileSync(join(broken, "short/digits.safetensors"), weights.subarray(0, 100_000));
writeFileSync(join(broken, "foreign/digits.safetensors"), "<!doctype html><title>Not found</title>");
rmSync(join(broken, "missing/digits.safetensors"));

const server = await serve({ "/": SITE, "/broken/": broken });
const browser = await Chromium.start(path);
const complaints = [];
const foreign = [];
browser.on("Runtime.exceptionThrown", ({ exceptionDetails: e }) => complaints.push(e.exception?.description ?? e.text));
browser.on("Log.entryAdded", ({ entry }) => entry.level === "error" && complaints.push(entry.text));
browser.on("Network.requestWillBeSent", ({ request }) => {
  if (!request.url.startsWith(server.address) && !request.url.startsWith("data:")) foreign.push(request.url);
});

const state = () => browser.evaluate("document.getElementById('status').dataset.state");
const status = () => browser.evaluate("document.getElementById('status').textContent");
const error = () => browser.evaluate("document.getElementById('error').hidden ? '' : document.getElementById('error').textContent");
const settled = () => browser.until("!['running', 'loading'].includes(document.getElementById('status').dataset.state)", 300);
const click = (selector) => browser.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
const set = (id, value) =>
  browser.evaluate(`{
    const input = document.getElementById(${JSON.stringify(id)});
    input.value = ${JSON.stringify(value)};
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }`);
/** Grey levels of a canvas, 0 to 1. */
const grey = async (id) => {
  const levels = await browser.evaluate(`{
    const canvas = document.getElementById(${JSON.stringify(id)});
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]);
  }`);
  return levels.map((v) => v / 255);
};
/** The drawing at the model's size: means over squares of 10 x 10. */
const clean = async () => {
  const large = await grey("drawing");
  const out = new Array(784).fill(0);
  large.forEach((v, i) => (out[Math.floor(i / 2800) * 28 + Math.floor((i % 280) / 10)] += v / 100));
  return out;
};
/** Decibels over the range of grey levels. */
const psnr = (a, b) => {
  assert.equal(a.length, b.length);
  return -10 * Math.log10(a.reduce((sum, v, i) => sum + (v - b[i]) ** 2, 0) / a.length);
};

try {
  await browser.open(`${server.address}/index.html`);
  await settled();
  assert.equal(await state(), "ready", await error());
  assert.match(await status(), /1,112,801 weights, simd128 kernels/);

  // A digit of the model, which is centred by itself; noise on it; the noise taken away.
  await set("seed", "3");
  await click("#invent");
  await settled();
  assert.equal(await state(), "done", await error());
  await set("seed", "1");
  await set("count", "1");
  const digit = await clean();
  assert(digit.filter((v) => v > 0.7).length > 30, "the model drew next to nothing");
  const noisy = psnr(await grey("spoiled"), digit);
  await click("#restore");
  await settled();
  assert.equal(await state(), "done", await error());
  const denoised = await grey("restored");
  const [before, after] = [noisy.toFixed(1), psnr(denoised, digit).toFixed(1)];
  console.log(`denoised: ${before} dB before, ${after} dB after; ${await status()}`);
  assert(psnr(denoised, digit) > noisy + 4, "denoising did not help");

  // The same seed, the same picture; another seed, another.
  await click("#restore");
  await settled();
  assert.deepEqual(await grey("restored"), denoised);
  await set("seed", "2");
  await click("#restore");
  await settled();
  assert.notDeepEqual(await grey("restored"), denoised);

  // What is hidden is filled in, and what is seen stays.
  await click("input[value=lower]");
  await set("method", "calibrated");
  await click("#restore");
  await settled();
  assert.equal(await state(), "done", await error());
  const filled = await grey("restored");
  const upper = psnr(filled.slice(0, 392), digit.slice(0, 392));
  console.log(`filled in: the upper half, which is seen, within ${upper.toFixed(1)} dB; ${await status()}`);
  assert(upper > 20, "the half that is seen did not stay");
  assert(filled.slice(392).some((v) => v > 0.5), "nothing was filled in");

  // Several draws, shown side by side; keyboards reach what mice do.
  await click('#digits button[aria-label="The digit 5"]');
  await click("input[value=middle]");
  await set("method", "ddrm");
  await set("count", "9");
  await set("seed", "5");
  await browser.evaluate("document.getElementById('restore').focus()");
  await browser.send("Input.dispatchKeyEvent", { type: "keyDown", key: "Enter", code: "Enter", windowsVirtualKeyCode: 13, text: "\r" });
  await browser.send("Input.dispatchKeyEvent", { type: "keyUp", key: "Enter", code: "Enter", windowsVirtualKeyCode: 13 });
  await settled();
  assert.equal(await state(), "done", await error());
  assert.equal((await grey("restored")).length, 9 * 784);
  if (process.argv[2]) writeFileSync(process.argv[2], await browser.screenshot(1100, 860));

  // The page is awake while the worker computes: a cancel after the first step is heard before the last.
  await set("method", "calibrated");
  await click("#restore");
  await browser.until("document.getElementById('status').textContent.includes('step')", 300);
  await click("#cancel");
  await settled();
  assert.equal(await state(), "cancelled", await error());
  console.log(await status());
  assert.match(await status(), /cancelled after step \d+ of 36/);

  // A stroke by mouse changes the picture.
  await click("#clear");
  await set("method", "ddrm");
  await set("count", "1");
  // The mouse reaches only what the window shows.
  await browser.evaluate("document.getElementById('drawing').scrollIntoView({ block: 'center', behavior: 'instant' })");
  const box = await browser.evaluate("(({ x, y, width }) => ({ x, y, width }))(document.getElementById('drawing').getBoundingClientRect())");
  const mouse = (type, u, v) =>
    browser.send("Input.dispatchMouseEvent", { type, x: box.x + u * box.width, y: box.y + v * box.width, button: "left", buttons: 1, clickCount: 1 });
  await mouse("mousePressed", 0.5, 0.2);
  for (let v = 0.2; v <= 0.8; v += 0.1) await mouse("mouseMoved", 0.5, v);
  await mouse("mouseReleased", 0.5, 0.8);
  assert((await clean()).filter((v) => v > 0.7).length > 20, "the mouse drew nothing");

  // Errors are said, and the page goes on.
  await set("seed", "-1");
  await click("#restore");
  await settled();
  assert.match(await error(), /seed must be a whole number/);
  await set("seed", "1");
  await click("#restore");
  await settled();
  assert.equal(await state(), "done", await error());
  assert.equal(await error(), "");

  // A narrow window has no sideways scrolling.
  await browser.screenshot(360, 740);
  assert.equal(await browser.evaluate("document.documentElement.scrollWidth <= 360"), true);

  assert.deepEqual(complaints, []);
  for (const [name, expected] of [
    ["short", /could not be loaded: .*(short|cut|bytes|end)/],
    ["foreign", /could not be loaded: .*HTML|could not be loaded: .*safetensors/i],
    ["missing", /could not be loaded: .*404/],
  ]) {
    await browser.open(`${server.address}/broken/${name}/index.html`);
    await settled();
    console.log(`${name}: ${await error()}`);
    assert.equal(await state(), "failed");
    assert.match(await error(), expected);
    assert.equal(await browser.evaluate("document.getElementById('restore').disabled"), true);
  }
  assert.deepEqual(foreign, []);
  console.log(`the page works in ${await browser.version()}`);
} finally {
  await browser.close();
  server.close();
  rmSync(broken, { recursive: true });
}
