/**
 * What `undiffuse.js` promises, in node:
 *
 *     examples/web/build.sh && node --test examples/web/test.mjs
 */

import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const SITE = fileURLToPath(new URL("../../target/web", import.meta.url));
// No package.json says that this is a module, so it takes another name.
const folder = mkdtempSync(join(tmpdir(), "undiffuse-web-"));
copyFileSync(join(SITE, "undiffuse.js"), join(folder, "undiffuse.mjs"));
const { Model } = await import(pathToFileURL(join(folder, "undiffuse.mjs")));
rmSync(folder, { recursive: true });

const module = await WebAssembly.compile(readFileSync(join(SITE, "undiffuse.wasm")));
const weights = readFileSync(join(SITE, "digits.safetensors"));
const model = await Model.load(module, weights);
const last = (run) => {
  let progress = null;
  for (progress of run);
  return progress;
};
const image = Float32Array.from({ length: 784 }, (_, i) => (i % 28 > 11 && i % 28 < 15 && i > 140 && i < 640 ? 1 : -1));
const refuses = (task, kind, message) => assert.throws(() => last(model.run(task)), { name: "UndiffuseError", kind, message });

test("the model is described", () => {
  assert.deepEqual(model.info.dims, [1, 28, 28]);
  assert.equal(model.info.parameters, 1_112_801);
  assert.equal(model.info.path, "simd128");
});

test("samples depend on their seed and number alone", () => {
  const task = { task: "sample", steps: 3, seed: 7, count: 2 };
  const two = last(model.run(task));
  assert.equal(two.step, 3);
  assert.equal(two.x.length, 2 * 784);
  assert(two.x.every(Number.isFinite));
  const one = last(model.run({ ...task, count: 1 }));
  assert.deepEqual(one.x, two.x.slice(0, 784));
  assert.notDeepEqual(last(model.run({ ...task, seed: 8, count: 1 })).x, one.x);
});

test("a seed has the bits of the library's portable kernels", async () => {
  const tiny = await Model.load(module, readFileSync(new URL("../../tests/no_std/tiny.safetensors", import.meta.url)));
  const { x } = last(tiny.run({ task: "sample", sampler: "ddim", steps: 4, eta: 1, seed: 42, count: 2 }));
  let sum = 0xcbf29ce484222325n;
  for (const byte of new Uint8Array(x.buffer)) sum = BigInt.asUintN(64, (sum ^ BigInt(byte)) * 0x100000001b3n);
  // What `cargo run --release --example embedded` prints.
  assert.equal(sum.toString(16), "d6596a58af724731");
});

test("each step is seen, and x of the last is the result", () => {
  const steps = [...model.run({ task: "denoise", image, sigma: 0.5 })];
  assert.deepEqual(steps.map((p) => p.step), Array.from({ length: 20 }, (_, i) => i + 1));
  assert(steps.every((p) => p.steps === 20 && p.x.length === 784 && p.x0.length === 784));
});

test("known pixels stay", () => {
  const mask = Array.from({ length: 784 }, (_, i) => i < 392);
  const { x } = last(model.run({ task: "inpaint", image, mask, sigma: 0.02 }));
  const off = x.slice(0, 392).reduce((sum, v, i) => sum + (v - image[i]) ** 2, 0) / 392;
  assert(off < 0.01, `off by ${off}`);
});

test("a prediction is the network's", () => {
  const out = model.predict(Float32Array.from([...image, ...image]), 500);
  assert.equal(out.length, 2 * 784);
  assert.deepEqual(out.slice(0, 784), out.slice(784));
});

test("what is wrong is said", () => {
  refuses({ task: "paint" }, "InvalidArgument", /unknown variant `paint`/);
  refuses({ task: "sample", stpes: 3 }, "InvalidArgument", /unknown field `stpes`/);
  refuses({ task: "sample", sampler: "best" }, "InvalidArgument", /sampler "best" is unknown, expected one of ddpm/);
  refuses({ task: "sample", steps: 0 }, "InvalidArgument", /0/);
  refuses({ task: "sample", seed: -1 }, "InvalidArgument", /-1/);
  refuses({ task: "sample", seed: 0.5 }, "InvalidArgument", /0\.5/);
  refuses({ task: "sample", count: 0 }, "InvalidArgument", /0/);
  refuses({ task: "sample", count: 4e9 }, "InvalidArgument", /too large/);
  refuses({ task: "sample", count: 1e5 }, "OutOfMemory", /./);
  refuses({ task: "sample", classes: [1] }, "InvalidArgument", /class/);
  refuses({ task: "denoise", sigma: 0.5 }, "Shape", /picture has 0 values/);
  refuses({ task: "denoise", image: image.slice(1), sigma: 0.5 }, "Shape", /783/);
  refuses({ task: "denoise", image: [...image, 0], sigma: 0.5 }, "InvalidArgument", /785/);
  refuses({ task: "denoise", image, sigma: 0 }, "InvalidArgument", /sigma/);
  refuses({ task: "denoise", image, sigma: NaN }, "InvalidArgument", /null/);
  refuses({ task: "denoise", image: image.map(() => NaN), sigma: 0.5 }, "NonFinite", /not finite/);
  refuses({ task: "denoise", image, sigma: 0.5, method: "calibrated" }, "Unsupported", /vector-Jacobian/);
  refuses({ task: "inpaint", image, sigma: 0.5 }, "Shape", /mask has 0 flags/);
  refuses({ task: "inpaint", image, mask: new Array(784).fill(1), sigma: 0.5 }, "InvalidArgument", /hides nothing/);
  assert.throws(() => model.predict(image.slice(1), 500), { kind: "InvalidArgument" });
  // And after all of that it works.
  assert.equal(last(model.run({ task: "sample", steps: 2 })).step, 2);
});

test("a second task ends the first", () => {
  const first = model.run({ task: "sample", steps: 5 });
  first.next();
  last(model.run({ task: "sample", steps: 2 }));
  assert.throws(() => first.next(), { kind: "InvalidArgument", message: /another task/ });
});

test("models that are none are refused", async () => {
  const refused = async (bytes, kind, message) => assert.rejects(Model.load(module, bytes), { name: "UndiffuseError", kind, message });
  await refused(new Uint8Array(), "Weights", /./);
  await refused(weights.subarray(0, 1000), "Weights", /./);
  await refused(new TextEncoder().encode("<!doctype html><title>404</title>"), "Weights", /web page/);
});
