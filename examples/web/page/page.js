/** The page: drawing, spoiling, asking the worker, showing. Pictures are 28 x 28 floats in [-1, 1], black to white. */

import { Client } from "./client.js";

const SIDE = 28;
const PIXELS = SIDE * SIDE;
/** Canvas pixels to a pixel of the drawing. */
const SCALE = 10;
/** A hidden picture is still a measurement: of pixels with this little noise. */
const SEEN_SIGMA = 0.05;

/** The ready digits, as strokes on the drawing. */
const STROKES = [
  "M140 55 C90 55 80 225 140 225 C200 225 190 55 140 55",
  "M112 88 L146 56 L146 226",
  "M95 98 C98 42 190 42 186 100 C183 140 125 178 92 222 L192 222",
  "M98 70 C130 42 188 58 182 98 C178 128 148 134 128 134 C164 134 194 150 188 186 C182 232 115 234 90 204",
  "M168 226 L168 58 L84 176 L202 176",
  "M182 60 L110 60 L103 132 C142 112 192 130 187 176 C181 228 113 236 90 204",
  "M166 58 C118 88 94 142 97 182 C101 234 178 236 185 186 C188 138 120 130 100 174",
  "M90 64 L190 64 C166 110 142 166 130 226",
  "M140 138 C92 118 94 58 140 56 C187 58 187 118 140 138 C82 160 86 226 140 226 C196 226 199 160 140 138",
  "M182 104 C180 148 104 152 101 104 C102 48 178 44 182 104 C184 152 174 196 162 226",
];

const $ = (id) => document.getElementById(id);
const drawing = $("drawing");
const pen = drawing.getContext("2d", { willReadFrequently: true });
const client = new Client();

/** The clean picture, and what is seen of it. */
let clean = new Float32Array(PIXELS).fill(-1);
let seen = { image: clean, mask: null };
let busy = null;

// ---------------------------------------------------------------- pictures

/** Grey levels of a picture, or of several side by side in a square; `mask` shows what is hidden. */
function show(canvas, x, mask = null) {
  const across = Math.ceil(Math.sqrt(x.length / PIXELS));
  canvas.width = canvas.height = across * SIDE;
  const context = canvas.getContext("2d");
  const data = context.createImageData(canvas.width, canvas.height);
  data.data.fill(255);
  for (let i = 0; i < x.length; i++) {
    const [n, p] = [Math.floor(i / PIXELS), i % PIXELS];
    const row = Math.floor(n / across) * SIDE + Math.floor(p / SIDE);
    const column = (n % across) * SIDE + (p % SIDE);
    const grey = Math.round(Math.min(1, Math.max(-1, x[i])) * 127.5 + 127.5);
    // A chequered ground where nothing is known.
    const hidden = mask && !mask[p];
    const at = 4 * (row * canvas.width + column);
    data.data.set(hidden ? ((row ^ column) & 1 ? [92, 108, 140] : [76, 90, 120]) : [grey, grey, grey], at);
  }
  context.putImageData(data, 0, 0);
}

/** The drawing as a picture, moved so that its centre of mass is in the middle, as the model's digits have it. */
function drawn() {
  const { data } = pen.getImageData(0, 0, drawing.width, drawing.height);
  const ink = new Float32Array(PIXELS);
  for (let y = 0; y < drawing.height; y++) {
    for (let x = 0; x < drawing.width; x++) {
      const level = data[4 * (y * drawing.width + x)] / 255;
      ink[Math.floor(y / SCALE) * SIDE + Math.floor(x / SCALE)] += level / (SCALE * SCALE);
    }
  }
  let [mass, dx, dy] = [0, 0, 0];
  ink.forEach((v, i) => {
    mass += v;
    dx += v * (i % SIDE);
    dy += v * Math.floor(i / SIDE);
  });
  const shift = (moment) => (mass > 0 ? Math.round((SIDE - 1) / 2 - moment / mass) : 0);
  [dx, dy] = [shift(dx), shift(dy)];
  const out = new Float32Array(PIXELS).fill(-1);
  ink.forEach((v, i) => {
    const [x, y] = [(i % SIDE) + dx, Math.floor(i / SIDE) + dy];
    if (x >= 0 && x < SIDE && y >= 0 && y < SIDE) out[y * SIDE + x] = 2 * v - 1;
  });
  return out;
}

/** Normal noise, the same for the same seed: pairs by Box and Muller over a small generator (mulberry32). */
function normals(n, seed) {
  let s = seed >>> 0;
  const uniform = () => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return Float32Array.from({ length: n }, () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
}

// ---------------------------------------------------------------- drawing

function strokeStyle() {
  pen.lineWidth = 22;
  pen.lineCap = pen.lineJoin = "round";
  pen.strokeStyle = "#fff";
}

function clear() {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, drawing.width, drawing.height);
}

function put(digit) {
  clear();
  strokeStyle();
  pen.stroke(new Path2D(STROKES[digit]));
  changed();
}

function point(event) {
  const box = drawing.getBoundingClientRect();
  return [((event.clientX - box.left) * drawing.width) / box.width, ((event.clientY - box.top) * drawing.height) / box.height];
}

let last = null;
drawing.addEventListener("pointerdown", (event) => {
  drawing.setPointerCapture(event.pointerId);
  last = point(event);
  line(last);
});
drawing.addEventListener("pointermove", (event) => last && line(point(event)));
for (const name of ["pointerup", "pointercancel"]) drawing.addEventListener(name, () => (last = null));

function line(to) {
  strokeStyle();
  pen.beginPath();
  pen.moveTo(...last);
  pen.lineTo(...to);
  pen.stroke();
  last = to;
  changed();
}

// ---------------------------------------------------------------- spoiling

function changed() {
  clean = drawn();
  spoil();
}

function spoil() {
  const damage = document.querySelector("input[name=damage]:checked").value;
  const sigma = Number($("sigma").value);
  $("sigma-value").textContent = sigma.toFixed(2);
  $("sigma").disabled = damage !== "noise";
  if (damage === "noise") {
    const noise = normals(PIXELS, 2015);
    seen = { task: "denoise", sigma, image: clean.map((v, i) => v + sigma * noise[i]), mask: null };
  } else {
    const noise = normals(PIXELS, 2015);
    const known = (y, x) => (damage === "lower" ? y < SIDE / 2 : y < 9 || y > 18 || x < 9 || x > 18);
    const mask = Array.from({ length: PIXELS }, (_, i) => known(Math.floor(i / SIDE), i % SIDE));
    seen = { task: "inpaint", sigma: SEEN_SIGMA, image: clean.map((v, i) => v + SEEN_SIGMA * noise[i]), mask };
  }
  show($("spoiled"), seen.image, seen.mask);
}

// ---------------------------------------------------------------- running

/** Says where things stand; `state` is for tests: loading, ready, running, done, cancelled or failed. */
function say(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
  const running = state === "running" || state === "loading";
  for (const id of ["restore", "invent"]) $(id).disabled = running || !client.ready;
  $("cancel").disabled = state !== "running";
}

function fail(what, error) {
  $("error").hidden = false;
  $("error").textContent = `${what}: ${error.message}.`;
  say("failed", "");
}

function seed() {
  const value = Number($("seed").value);
  if ($("seed").value === "" || !Number.isSafeInteger(value) || value < 0) throw new Error("the seed must be a whole number from 0 on");
  return value;
}

async function run(what, task, onX) {
  $("error").hidden = true;
  busy = new AbortController();
  $("progress").value = 0;
  say("running", `${what} ...`);
  try {
    const onProgress = ({ step, steps, x0 }) => {
      $("progress").value = step / steps;
      $("status").textContent = `${what}: step ${step} of ${steps}`;
      onX(x0);
    };
    const { x, milliseconds } = await client.run(task(), { signal: busy.signal, onProgress });
    onX(x);
    say("done", `${what}: done in ${(milliseconds / 1000).toFixed(2)} s.`);
    return x;
  } catch (e) {
    if (e.kind === "Cancelled") say("cancelled", `${what}: ${e.message}.`);
    else fail(what, e);
    return null;
  }
}

async function restore() {
  const count = Number($("count").value);
  const task = () => ({ ...seen, mask: seen.mask ?? undefined, method: $("method").value, count, seed: seed() });
  const x = await run("Restoring", task, (x) => show($("restored"), x));
  if (x) $("restored").setAttribute("aria-label", `What the model makes of it: ${count} ${count === 1 ? "draw" : "draws"}`);
}

async function invent() {
  const x = await run("Drawing", () => ({ task: "sample", seed: seed() }), (x) => drawPicture(x));
  if (!x) return;
  clean = x.map((v) => Math.min(1, Math.max(-1, v)));
  $("seed").value = Number($("seed").value) + 1;
  spoil();
}

/** A picture of the model on the drawing. */
function drawPicture(x) {
  const small = document.createElement("canvas");
  show(small, x);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(small, 0, 0, drawing.width, drawing.height);
}

for (let digit = 0; digit < STROKES.length; digit++) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = digit;
  button.setAttribute("aria-label", `The digit ${digit}`);
  button.addEventListener("click", () => put(digit));
  $("digits").append(button);
}
$("clear").addEventListener("click", () => {
  clear();
  changed();
});
$("sigma").addEventListener("input", spoil);
for (const radio of document.querySelectorAll("input[name=damage]")) radio.addEventListener("change", spoil);
$("restore").addEventListener("click", restore);
$("invent").addEventListener("click", invent);
$("cancel").addEventListener("click", () => busy?.abort());

show($("restored"), new Float32Array(PIXELS).fill(-1));
put(3);
try {
  const began = performance.now();
  const info = await client.load({ weights: "digits.safetensors", gradient: true });
  client.ready = true;
  const seconds = ((performance.now() - began) / 1000).toFixed(2);
  say("ready", `Ready: ${info.parameters.toLocaleString("en")} weights, ${info.path} kernels, loaded in ${seconds} s.`);
} catch (e) {
  fail("The model could not be loaded", e);
}
