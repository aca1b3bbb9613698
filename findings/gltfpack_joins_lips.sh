#!/usr/bin/env bash
# Expected: two vertices at one place that morph targets move apart (closed lips, lids) stay two; `-noq` only
#           "disables quantization" and no simplification was asked for.
# Happens:  gltfpack joins vertices whose base attributes are equal without a look at their morph targets, and keeps
#           the offset of one of them: the upper lip here follows the lower one, the mouth can't open. Nothing warns.
# Version:  gltfpack 1.3.0 (npm), Node.js 18 or later; beside it @gltf-transform/functions 4.5.1, whose weld() keeps
#           them.
# Source:   glTF 2.0, 3.7.2.2: each target has an offset for each vertex of the primitive. gltf-transform counted the
#           same in its own weld() as a bug and mended it (its issue 693).
# What we do: our GLBs carry normals (facemodels/export/gltf.py), and vertices whose normals differ stay apart, as the
#           last line of the output shows. Users: leave the normals in, or use gltf-transform's weld().
set -euo pipefail
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
cd "$T"
echo '{"private": true}' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact \
    gltfpack@1.3.0 @gltf-transform/core@4.5.1 @gltf-transform/functions@4.5.1
cat > run.mjs <<'JS'
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { Document, NodeIO } from "@gltf-transform/core";
import { weld } from "@gltf-transform/functions";

// "Upper lip" 0 1 2 and "lower lip" 3 4 5; 3 and 4 lie on 0 and 1, and "open" lowers all of the lower lip.
const places = [[0, 0, 0], [1, 0, 0], [0.5, 1, 0], [0, 0, 0], [1, 0, 0], [0.5, -1, 0]];
const io = new NodeIO();
const make = (normals) => {
    const document = new Document(), buffer = document.createBuffer();
    const accessor = (type, array) => document.createAccessor().setType(type).setArray(array).setBuffer(buffer);
    const offsets = places.flatMap((_, i) => [0, i < 3 ? 0 : -0.5, 0]);
    const primitive = document.createPrimitive()
        .setAttribute("POSITION", accessor("VEC3", new Float32Array(places.flat())))
        .setIndices(accessor("SCALAR", new Uint16Array([0, 1, 2, 3, 5, 4])))
        .addTarget(document.createPrimitiveTarget("open")
            .setAttribute("POSITION", accessor("VEC3", new Float32Array(offsets))));
    const n = (i) => (i < 3 ? [0, 0.6, 0.8] : [0, -0.6, 0.8]);
    if (normals) primitive.setAttribute("NORMAL", accessor("VEC3", new Float32Array(places.flatMap((_, i) => n(i)))));
    const mesh = document.createMesh().addPrimitive(primitive).setWeights([0]);
    document.createScene().addChild(document.createNode().setMesh(mesh));
    return document;
};
const report = (name, document) => { // corners of the upper lip that "open" moves: 0 is right
    const primitive = document.getRoot().listMeshes()[0].listPrimitives()[0];
    const offsets = primitive.listTargets()[0].getAttribute("POSITION"), at = primitive.getAttribute("POSITION");
    const corners = [...primitive.getIndices().getArray()], faces = [corners.slice(0, 3), corners.slice(3)];
    const upper = faces.find((f) => f.some((i) => at.getElement(i, [])[1] > 0.5));
    const moved = upper.filter((i) => offsets.getElement(i, [])[1] !== 0).length;
    console.log(`${name}: ${at.getCount()} vertices, "open" moves ${moved} corners of the upper lip`);
    return [at.getCount(), moved];
};
const pack = async (document) => {
    await io.write("in.glb", document);
    execFileSync("node_modules/.bin/gltfpack", ["-i", "in.glb", "-o", "out.glb", "-noq"]);
    return io.read("out.glb");
};
console.log("gltfpack", JSON.parse(readFileSync("node_modules/gltfpack/package.json")).version);
report("as made (expected)            ", make(false));
const welded = make(false);
await welded.transform(weld());
const [kept] = report("gltf-transform weld()         ", welded);
const [count, moved] = report("gltfpack -noq                 ", await pack(make(false)));
const [apart] = report("gltfpack -noq, normals differ ", await pack(make(true)));
if (kept !== 6 || count !== 4 || moved !== 2 || apart !== 6) {
    console.error("changed: gltfpack no longer joins vertices that morph targets move apart");
    process.exit(1);
}
JS
node run.mjs
