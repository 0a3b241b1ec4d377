/** Runs a program for WASI in node: cargo's runner for kernels.sh. It may read files, which golden arrays are. */

import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const args = process.argv.slice(2);
const wasi = new WASI({ version: "preview1", args, env: process.env, preopens: { "/": "/" } });

// Rust's standard library names these, and Debian's wasi-libc lacks them: attributes are taken, and no thread can be made.
const EAGAIN = 6;
const pthread = { pthread_create: () => EAGAIN };
for (const name of ["attr_init", "attr_setstacksize", "attr_destroy", "join", "detach"]) pthread[`pthread_${name}`] = () => 0;

const imports = { ...wasi.getImportObject(), env: pthread };
const { instance } = await WebAssembly.instantiate(readFileSync(args[0]), imports);
process.exitCode = wasi.start(instance);
