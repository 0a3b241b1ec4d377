/**
 * Diffusion models in WebAssembly: the JavaScript side of `undiffuse.wasm`, for any thread. A network call takes
 * milliseconds, a task dozens of them; a page keeps moving when `client.js` runs this in a worker.
 *
 *     const model = await Model.load("undiffuse.wasm", await (await fetch("digits.safetensors")).arrayBuffer());
 *     for (const { step, steps, x0, x } of model.run({ task: "sample", count: 4, seed: 1 })) {
 *       console.log(`step ${step} of ${steps}`);         // leave the loop to cancel
 *       if (step === steps) show(x);                     // Float32Array, [4, 1, 28, 28], in [-1, 1]
 *     }
 *
 * @typedef {object} Task what is asked for. Unknown fields are refused.
 * @property {"sample" | "denoise" | "inpaint"} task
 *   `sample` draws from the model. `denoise` draws from the pictures that, plus normal noise of standard deviation
 * `sigma`, are `image`. `inpaint` draws from those whose known pixels, plus such noise, are `image`'s.
 * @property {Float32Array | number[]} [image] of denoise and inpaint: one picture, [C, H, W], in units of [-1, 1]
 * @property {ArrayLike<number | boolean>} [mask] of inpaint: not 0 where a pixel is known, [H, W] or [C, H, W]
 * @property {number} [sigma] of denoise and inpaint: above 0, in units of [-1, 1]
 * @property {"ddrm" | "calibrated"} [method] of denoise and inpaint: `ddrm` (the default) makes 20 network calls,
 *   `calibrated` 36 with gradients, for draws nearer to the posterior; the model must have been loaded with gradients
 * @property {string} [sampler] of sample: a name as of the command line ("ddim", "unipc", ...); default the model's
 *   own, UniPC for DDPM
 * @property {number} [steps] of sample: how many; default what the sampler usually takes
 * @property {number} [eta] of sample: DDIM's, 0 (default) to 1
 * @property {number[]} [classes] one row of `info.classLen` values for each sample of a class model
 * @property {number} [seed] which noise, a whole number from 0 on (default 0); a seed gives the same bits in every
 *   browser
 * @property {number} [count] how many draws at once (default 1)
 *
 * @typedef {object} Info
 * @property {number[]} dims of one sample, [C, H, W]
 * @property {number} parameters how many weights the model has
 * @property {number} classLen values that name a class, 0 for a model without
 * @property {number} weightBytes bytes of the packed weights
 * @property {string} path the kernels: "simd128", or "portable" in a module built without
 *
 * @typedef {object} Progress
 * @property {number} step steps made, from 1 on
 * @property {number} steps in all
 * @property {Float32Array} x the samples as they are, [count, C, H, W]; the result where step is steps
 * @property {Float32Array} x0 what the model now takes the clean samples for, of the same shape: a preview
 */

/** What went wrong: `kind` for code (the library's `ErrorKind`, or "Trap" where the module stopped), `message` for a person. */
export class UndiffuseError extends Error {
  /** @param {string} kind @param {string} message */
  constructor(kind, message) {
    super(message);
    this.name = "UndiffuseError";
    this.kind = kind;
  }
}

/** A model, with an instance of the module to itself. */
export class Model {
  #exports;
  #run = 0;
  #stopped = false;

  /**
   * Compiles the module and the model.
   *
   * @param {string | URL | Response | BufferSource | WebAssembly.Module} wasm `undiffuse.wasm`
   * @param {ArrayBuffer | Uint8Array} weights a packed file, as `undiffuse pack` writes it
   * @param {{gradient?: boolean}} [options] `gradient` for the method "calibrated"; it takes the backward pass's
   *   weights besides
   * @returns {Promise<Model>}
   * @throws {UndiffuseError} if the file is malformed, no model of this build, or memory is refused
   */
  static async load(wasm, weights, { gradient = false } = {}) {
    const model = new Model(await instance(wasm));
    model.#write(new Uint8Array(weights));
    model.#call("load", gradient ? 1 : 0);
    /** @type {Info} */
    model.info = JSON.parse(model.#text());
    return model;
  }

  /** Use `load`. */
  constructor(exports) {
    this.#exports = exports;
  }

  /**
   * Runs a task, a step for each turn of the loop. Leaving the loop cancels it; beginning another task ends it.
   *
   * @param {Task} task
   * @returns {Generator<Progress, void, void>}
   * @throws {UndiffuseError}
   */
  *run(task) {
    const { image = [], mask = [], ...rest } = task;
    this.#values(image, mask);
    this.#write(new TextEncoder().encode(JSON.stringify(rest)));
    const run = ++this.#run;
    this.#call("begin");
    const steps = this.#guard("steps");
    for (let step = 0; step < steps; ) {
      if (run !== this.#run) throw new UndiffuseError("InvalidArgument", "another task was begun meanwhile");
      this.#call("step");
      step = this.#guard("position");
      yield { step, steps, x: this.#samples("x"), x0: this.#samples("x0") };
    }
  }

  /**
   * One network call: what the model predicts for samples at a timestep. Ends a task that is running.
   *
   * @param {Float32Array} x whole samples, [n, C, H, W]
   * @param {number} timestep in the unit that the model was trained with
   * @returns {Float32Array} [n, ...], as the network gives it
   */
  predict(x, timestep) {
    this.#run += 1;
    this.#values(x, []);
    const n = this.info.dims.reduce((a, b) => a * b, 1);
    this.#call("predict", x.length / n, timestep);
    return this.#samples("x");
  }

  #values(image, mask) {
    const n = image.length + mask.length;
    const at = this.#guard("values", n);
    if (at === 0 && n > 0) throw new UndiffuseError("OutOfMemory", `no memory for a picture of ${n} values`);
    const room = new Float32Array(this.#exports.memory.buffer, at, n);
    room.set(image);
    for (let i = 0; i < mask.length; i++) room[image.length + i] = mask[i] ? 1 : 0;
  }

  #write(bytes) {
    const at = this.#guard("bytes", bytes.length);
    if (at === 0 && bytes.length > 0) throw new UndiffuseError("OutOfMemory", `no memory for ${bytes.length} bytes`);
    new Uint8Array(this.#exports.memory.buffer, at, bytes.length).set(bytes);
  }

  #samples(name) {
    const [at, n] = [this.#guard(name), this.#guard("x_len")];
    return new Float32Array(this.#exports.memory.buffer, at, n).slice();
  }

  #text() {
    const [at, n] = [this.#guard("text"), this.#guard("text_len")];
    return new TextDecoder().decode(new Uint8Array(this.#exports.memory.buffer, at, n));
  }

  #call(name, ...args) {
    if (this.#guard(name, ...args) === 0) return;
    const [kind, ...message] = this.#text().split("\n");
    throw new UndiffuseError(kind, message.join("\n"));
  }

  /** A module that trapped is in no known state: it is not called again. Addresses are unsigned. */
  #guard(name, ...args) {
    if (this.#stopped) throw new UndiffuseError("Trap", "the module has stopped after a fault; load the model again");
    try {
      return this.#exports[name](...args) >>> 0;
    } catch (e) {
      this.#stopped = true;
      throw new UndiffuseError("Trap", `the module stopped in ${name}: ${e.message}`);
    }
  }
}

async function instance(wasm) {
  if (wasm instanceof WebAssembly.Module) return (await WebAssembly.instantiate(wasm, {})).exports;
  if (ArrayBuffer.isView(wasm) || wasm instanceof ArrayBuffer) {
    return (await WebAssembly.instantiate(wasm, {})).instance.exports;
  }
  const response = wasm instanceof Response ? wasm : await fetch(wasm);
  if (!response.ok) throw new UndiffuseError("Io", `${response.url}: ${response.status} ${response.statusText}`);
  // Not every server says application/wasm, which compiling while the file arrives would need.
  return (await WebAssembly.instantiate(await response.arrayBuffer(), {})).instance.exports;
}
