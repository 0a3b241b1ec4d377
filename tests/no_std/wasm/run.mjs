/**
 * Runs the module and holds what it prints to what the computer that built it printed with its portable kernels:
 *
 *     node tests/no_std/wasm/run.mjs MODULE.wasm HOST.txt
 *
 * The portable path's lines must be the same; of simd128, whose sums round alike, each checksum.
 */

import { readFileSync } from "node:fs";

const [module, host] = process.argv.slice(2).map((file) => readFileSync(file));
const expected = host.toString().split("\n").filter((line) => line.startsWith("portable"));
const got = [];
let pending = "";
const print = (at, n) => {
  const text = new TextDecoder().decode(new Uint8Array(exports.memory.buffer, at, n));
  process.stdout.write(text);
  pending += text;
  got.push(...pending.split("\n").slice(0, -1));
  pending = pending.slice(pending.lastIndexOf("\n") + 1);
};
const { exports } = (await WebAssembly.instantiate(module, { host: { print } })).instance;
if (exports.run() !== 0) process.exit(1);

const sums = (lines) => lines.map((line) => /^\w+ (.*: [0-9a-f]{16}) /.exec(line)?.[1]).filter(Boolean);
const same = (what, a, b) => {
  if (a.length === 0 || JSON.stringify(a) !== JSON.stringify(b)) {
    console.error(`${what}: got\n${a.join("\n")}\nexpected\n${b.join("\n")}`);
    process.exit(1);
  }
  console.log(`${what}: ${a.length} lines as on the host, to the bit`);
};
same("portable", got.filter((line) => line.startsWith("portable")), expected);
same("simd128", sums(got.filter((line) => line.startsWith("simd128"))), sums(expected));
