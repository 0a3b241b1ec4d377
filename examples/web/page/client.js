/**
 * undiffuse in a worker, so that the page does not freeze.
 *
 *     const client = new Client();
 *     await client.load({ weights: "digits.safetensors" });
 *     const { x, dims } = await client.run({ task: "sample", count: 4 }, { onProgress: ({ step, steps }) => ... });
 */

import { UndiffuseError } from "./undiffuse.js";

export { UndiffuseError };

/** A worker with one model. Tasks run one after another. */
export class Client {
  #worker;
  #next = 0;
  #waiting = new Map();

  constructor() {
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (e) => {
      e.preventDefault();
      this.#fail(new UndiffuseError("Trap", `the worker failed: ${e.message ?? "it could not be started"}`));
    };
  }

  /**
   * Loads a model; a second call takes the place of the first's.
   *
   * @param {object} options
   * @param {string | ArrayBuffer} options.weights a packed file, or its address as seen from the page
   * @param {string | ArrayBuffer | WebAssembly.Module} [options.wasm] `undiffuse.wasm`; beside this file by default
   * @param {boolean} [options.gradient] for the method "calibrated"
   * @returns {Promise<import("./undiffuse.js").Info>}
   * @throws {UndiffuseError}
   */
  load({ weights, wasm = new URL("./undiffuse.wasm", import.meta.url).href, gradient = false }) {
    const address = (a) => (typeof a === "string" ? new URL(a, document.baseURI).href : a);
    return this.#ask({ what: "load", wasm: address(wasm), weights: address(weights), gradient });
  }

  /**
   * Runs a task.
   *
   * @param {import("./undiffuse.js").Task} task
   * @param {object} [options]
   * @param {AbortSignal} [options.signal] ends the task after the step that it is in, with an error of kind "Cancelled"
   * @param {(progress: {step: number, steps: number, x0: Float32Array}) => void} [options.onProgress] after each step
   * @returns {Promise<{x: Float32Array, dims: number[], milliseconds: number}>} the samples, their shape [count, C,
   *   H, W], and how long the worker took
   * @throws {UndiffuseError}
   */
  run(task, { signal, onProgress } = {}) {
    const id = this.#next;
    const promise = this.#ask({ what: "run", task }, onProgress);
    const cancel = () => this.#waiting.has(id) && this.#worker.postMessage({ what: "cancel", id });
    if (signal?.aborted) cancel();
    signal?.addEventListener("abort", cancel);
    return promise.finally(() => signal?.removeEventListener("abort", cancel));
  }

  /** Ends the worker at once, whatever it is doing. */
  close() {
    this.#worker.terminate();
    this.#fail(new UndiffuseError("Cancelled", "the worker was closed"));
  }

  #ask(message, onProgress) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onProgress });
      this.#worker.postMessage({ id, ...message });
    });
  }

  #receive({ id, progress, result, error }) {
    const waiting = this.#waiting.get(id);
    if (!waiting) return;
    if (progress) {
      waiting.onProgress?.(progress);
      return;
    }
    this.#waiting.delete(id);
    if (error) waiting.reject(new UndiffuseError(error.kind, error.message));
    else waiting.resolve(result);
  }

  #fail(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
