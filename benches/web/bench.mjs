/** Serves the page of bench.html to a headless Chromium and prints what it measured. Started by run.sh. */

import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";

import { Chromium, findChromium } from "../../examples/web/chromium.mjs";
import { serve } from "../../examples/web/serve.mjs";

const [folder, rounds] = [process.argv[2], Number(process.argv[3])];
const path = findChromium();
assert(path, "no Chromium here ($CHROMIUM names one)");
const ort = join(folder, "node_modules/onnxruntime-web/dist");
const server = await serve({ "/": join(folder, "site"), "/ort/": ort, "/digits.onnx": join(folder, "digits.onnx") });
const browser = await Chromium.start(path);
try {
  await browser.open(`${server.address}/bench.html`);
  await browser.until("window.ready");
  const { path: kernels, worst, times, ort: version, isolated } = await browser.evaluate(`measure(${rounds}, 30)`);
  assert(worst < 1e-4, `the two sides differ by ${worst}`);
  const sorted = times.map((t) => t.toSorted((a, b) => a - b));
  const [best, median] = [0, Math.floor(rounds / 2)].map((i) => sorted.map((t) => t[i]));
  const bytes = (file) => `${statSync(file).size.toLocaleString("en")} bytes`;
  const row = (name, figures) => console.log(`${name.padEnd(28)}${figures.map((v) => v.padStart(12)).join("")}`);
  console.log(`${await browser.version()}, ${cpus()[0].model}, 1 thread, ${rounds} rounds, timer ${isolated ? "fine" : "coarse"}`);
  console.log(`outputs within ${worst.toExponential(1)} of each other`);
  row("milliseconds a call", ["best", "median"]);
  row(`undiffuse (${kernels})`, [best[0].toFixed(2), median[0].toFixed(2)]);
  row(`onnxruntime-web ${version}`, [best[1].toFixed(2), median[1].toFixed(2)]);
  row("ratio", [(best[0] / best[1]).toFixed(3), (median[0] / median[1]).toFixed(3)]);
  console.log(`undiffuse.wasm: ${bytes(join(folder, "site/undiffuse.wasm"))}`);
  console.log(`ort-wasm-simd-threaded.wasm: ${bytes(join(ort, "ort-wasm-simd-threaded.wasm"))}`);
} finally {
  await browser.close();
  server.close();
}
