/** The worker of `client.js`: one model, tasks one after another, a look at the messages between two steps. */

import { Model, UndiffuseError } from "./undiffuse.js";

let model = null;
let queue = Promise.resolve();
const cancelled = new Set();

/** Lets messages in. A timer would wait 4 ms. */
const turn = () =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new UndiffuseError("Io", `${response.url}: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

const tasks = {
  async load({ wasm, weights, gradient }) {
    const bytes = typeof weights === "string" ? await fetched(weights) : weights;
    model = await Model.load(wasm, bytes, { gradient });
    return model.info;
  },

  async run({ id, task }) {
    if (model === null) throw new UndiffuseError("InvalidArgument", "no model was loaded");
    const [began, shape] = [performance.now(), model.info.dims];
    let x = new Float32Array();
    for (const progress of model.run(task)) {
      ({ x } = progress);
      postMessage({ id, progress: { step: progress.step, steps: progress.steps, x0: progress.x0 } });
      await turn();
      if (cancelled.has(id)) throw new UndiffuseError("Cancelled", `cancelled after step ${progress.step} of ${progress.steps}`);
    }
    return { x, dims: [x.length / shape.reduce((a, b) => a * b, 1), ...shape], milliseconds: performance.now() - began };
  },
};

async function answer(message) {
  const { id } = message;
  try {
    if (cancelled.has(id)) throw new UndiffuseError("Cancelled", "cancelled before it began");
    postMessage({ id, result: await tasks[message.what](message) });
  } catch (e) {
    postMessage({ id, error: { kind: e.kind ?? "Io", message: e.message } });
  }
  cancelled.delete(id);
}

self.onmessage = ({ data }) => {
  if (data.what === "cancel") cancelled.add(data.id);
  else queue = queue.then(() => answer(data));
};
