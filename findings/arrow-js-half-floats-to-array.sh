#!/usr/bin/env bash
# Apache Arrow for JavaScript (npm: apache-arrow 21.2.0): toArray() of half floats gives raw bits
#
# A Float16 vector answers get(), iteration and JSON with numbers. toArray(), the quick way to a
# typed array for every number type, gives the 16-bit patterns as integers: 1.5 is 15872.
#
# Seen:
#   Float32: iterated 1.5,-2,0.25, toArray() Float32Array 1.5,-2,0.25
#   Float16: iterated 1.5,-2,0.25, toArray() Uint16Array 15872,49152,13312
#
# Expected: the values, as toArray() gives for Float32, or no such method: code that draws a map
# from grid.toArray() gets numbers of the right count and no error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-fund --no-audit apache-arrow@21.2.0 >npm.log 2>&1 || { cat npm.log; exit 1; }
cat >look.mjs <<'JAVASCRIPT'
import { Float16, Float32, vectorFromArray } from "apache-arrow";

const seen = [Float32, Float16].map((Type) => {
  const vector = vectorFromArray([1.5, -2, 0.25], new Type());
  const array = vector.toArray();
  console.log(`${vector.type}: iterated ${[...vector]}, toArray() ${array.constructor.name} ${array}`);
  return [[...vector].join(), array.join()];
});
if (seen[0].join(" ") !== "1.5,-2,0.25 1.5,-2,0.25" || seen[1][0] !== "1.5,-2,0.25") {
  console.error("changed: values that were right no longer are");
  process.exit(1);
}
if (seen[1][1] !== "15872,49152,13312") {
  console.error("changed: toArray() of half floats is no longer their bits");
  process.exit(1);
}
JAVASCRIPT
node look.mjs
