#!/usr/bin/env bash
# Expected: `quantize()`, which "reduces the size", makes a file with sparse morph targets smaller and leaves them
#           sparse, as weld, dedup and prune of the same library do.
# Happens:  every target that it quantizes becomes dense: the file here, 10,000 vertices with 20 targets of 30
#           vertices each, grows from 252 KB to 1,803 KB. Nothing warns.
# Version:  @gltf-transform/core, functions and extensions 4.5.1, Node.js 18 or later.
# Source:   gltf-transform's page of quantize(): it reduces size and memory of a file; storage is not mentioned. glTF
#           2.0, 3.6.2.3, has sparse accessors for just such targets.
# What we do: our GLBs have sparse targets (facemodels/export/gltf.py). Users: run `sparse()` after `quantize()` (the
#           same file then has 208 KB), or leave targets alone with `quantize({patternTargets: /^$/})`.
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
cd "$T"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact \
    @gltf-transform/core@4.5.1 @gltf-transform/functions@4.5.1 @gltf-transform/extensions@4.5.1
cat > run.mjs <<'JS'
import { Document, NodeIO, VERSION, Verbosity, Logger } from "@gltf-transform/core";
import { dedup, prune, quantize, sparse, weld } from "@gltf-transform/functions";
import { ALL_EXTENSIONS } from "@gltf-transform/extensions";

const io = new NodeIO().registerExtensions(ALL_EXTENSIONS);
const side = 100, targets = 20, moved = 30;
const input = new Document();
const buffer = input.createBuffer();
const accessor = (type, array, isSparse = false) =>
    input.createAccessor().setType(type).setArray(array).setSparse(isSparse).setBuffer(buffer);
const positions = new Float32Array(3 * side * side); // a wavy sheet
const indices = [];
for (let i = 0; i < side * side; i++) {
    const x = i % side, y = Math.floor(i / side);
    positions.set([x / side, y / side, Math.sin(x / 10)], 3 * i);
    if (x < side - 1 && y < side - 1) indices.push(i, i + 1, i + side, i + 1, i + side + 1, i + side);
}
const primitive = input.createPrimitive().setAttribute("POSITION", accessor("VEC3", positions))
    .setIndices(accessor("SCALAR", new Uint16Array(indices)));
for (let t = 0; t < targets; t++) {
    const offsets = new Float32Array(positions.length);
    for (let i = 0; i < moved; i++) offsets[3 * (50 * t + i) + 2] = 0.01;
    primitive.addTarget(input.createPrimitiveTarget(`t${t}`).setAttribute("POSITION", accessor("VEC3", offsets, true)));
}
input.createScene().addChild(input.createNode().setMesh(input.createMesh().addPrimitive(primitive)));
const file = await io.writeBinary(input);

console.log("gltf-transform", VERSION);
console.log(`${"as made".padEnd(45)} ${file.length} bytes, ${targets} targets sparse`);
const run = async (name, ...steps) => {
    const document = await io.readBinary(file);
    await document.setLogger(new Logger(Verbosity.ERROR)).transform(...steps);
    const bytes = await io.writeBinary(document);
    const count = (await io.binaryToJSON(bytes)).json.accessors.filter((a) => a.sparse).length;
    console.log(`${name.padEnd(45)} ${bytes.length} bytes, ${count} targets sparse`);
    return [bytes.length, count];
};
const [, others] = await run("weld, dedup, prune", weld(), dedup(), prune());
const [size, left] = await run("quantize (expected: smaller, 20 sparse)", quantize());
const [again] = await run("quantize, then sparse", quantize(), sparse());
await run("quantize without targets", quantize({ patternTargets: /^$/ }));
if (others !== targets || left !== 0 || size < 5 * file.length || again >= file.length) {
    console.error("changed: quantize() no longer makes sparse morph targets dense");
    process.exit(1);
}
JS
node run.mjs
