#!/usr/bin/env bash
# One network call of the digits in a browser: undiffuse beside onnxruntime-web, both in WebAssembly with SIMD on one thread, in f32, in the same
# tab of the same Chromium, calls taking turns. Needs node, npm, a Chromium ($CHROMIUM names one) and, for the peer's graph, a Python ($PYTHON)
# with torch, diffusers and onnx (export.py names the versions).
#
#     benches/web/run.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
out=target/bench_web
mkdir -p "$out"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$out" onnxruntime-web@1.30.0
[ -s "$out/digits.onnx" ] || "${PYTHON:-python3}" benches/web/export.py "$out/digits.onnx"
examples/web/build.sh "$out/site"
cp benches/web/bench.html benches/web/bench.js "$out/site"
node benches/web/bench.mjs "$out" "${1:-300}"
