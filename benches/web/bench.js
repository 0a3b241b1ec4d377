/** In the page: two sides, each a function that makes one call of the digits. `bench.mjs` asks for the figures. */

import * as ort from "/ort/ort.wasm.min.mjs";
import { Model } from "./undiffuse.js";

const TIMESTEP = 500;
const x = Float32Array.from({ length: 784 }, (_, i) => Math.sin(1.7 * i));

async function peer() {
  Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmPaths: "/ort/" });
  const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };
  const session = await ort.InferenceSession.create("/digits.onnx", options);
  const feeds = { x: new ort.Tensor("float32", x, [1, 1, 28, 28]), t: new ort.Tensor("float32", [TIMESTEP], [1]) };
  return async () => (await session.run(feeds)).y.data;
}

async function ours() {
  const model = await Model.load("undiffuse.wasm", await (await fetch("digits.safetensors")).arrayBuffer());
  return { path: model.info.path, call: async () => model.predict(x, TIMESTEP) };
}

/** Milliseconds of each call of both sides, which take turns, after `warm` calls of each. */
window.measure = async (rounds, warm) => {
  const { path, call } = await ours();
  const sides = [call, await peer()];
  const [a, b] = [await sides[0](), await sides[1]()];
  const worst = a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i])), 0);
  const times = [[], []];
  for (let round = -warm; round < rounds; round++) {
    for (const [side, of] of sides.entries()) {
      const began = performance.now();
      await of();
      if (round >= 0) times[side].push(performance.now() - began);
    }
    // The browser may want to do something else.
    if (round % 10 === 0) await new Promise((resolve) => setTimeout(resolve));
  }
  return { path, worst, times, ort: ort.env.versions.web, isolated: crossOriginIsolated };
};
window.ready = true;
