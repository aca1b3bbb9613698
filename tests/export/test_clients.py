"""Files for other programs, read by them: skipped where they are not installed.

MESH_CLIENTS_PYTHON names the Python that has vtk, open3d, assimp_py, trimesh or bpy (this one by default), NODE_PATH
the folder with gltf-validator and three.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import facemodels
from facemodels.export import mesh_of, write
from facemodels.export.mesh import posed

PYTHON = os.environ.get("MESH_CLIENTS_PYTHON", sys.executable)
POINTS = """
import sys
import numpy as np
source, target = sys.argv[1:]
{}
np.save(target, np.asarray(points, np.float64))
"""
PROGRAMS = {
    "vtk": """
from vtkmodules.vtkIOGeometry import vtkGLTFReader
from vtkmodules.util.numpy_support import vtk_to_numpy
reader = vtkGLTFReader()
reader.SetFileName(source)
reader.Update()
found, blocks = [], [reader.GetOutput()]
while blocks:
    block = blocks.pop()
    if hasattr(block, "GetNumberOfBlocks"):
        blocks += [block.GetBlock(k) for k in range(block.GetNumberOfBlocks())]
    elif block is not None:
        found.append(vtk_to_numpy(block.GetPoints().GetData()))
points, = found
""",
    "open3d": "import open3d\npoints = np.asarray(open3d.io.read_triangle_mesh(source).vertices)",
    "assimp_py": """
import assimp_py
mesh, = assimp_py.import_file(source, assimp_py.Process_Triangulate).meshes
points = np.asarray(mesh.vertices, np.float64).reshape(-1, 3)
""",
    "trimesh": "import trimesh\npoints = trimesh.load(source, process=False, force='mesh').vertices",
    "bpy": """
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
kind = source.rsplit(".", 1)[1]
if kind == "glb":
    bpy.ops.import_scene.gltf(filepath=source)
else:
    getattr(bpy.ops.wm, kind + "_import")(filepath=source)
shown, = [o for o in bpy.data.objects if o.type == "MESH"]
evaluated = shown.evaluated_get(bpy.context.evaluated_depsgraph_get())
points = [shown.matrix_world @ v.co for v in evaluated.to_mesh().vertices]
""",
}
SHOWS_ORDER = ("vtk", "trimesh", "bpy")  # the others sort vertices by their first use
SHOWS_MORPHS = ("vtk", "bpy")  # the others give the shape without expression
THREE = """
import fs from "fs";
import { createRequire } from "module";
const require = createRequire(process.env.NODE_PATH + "/");
const THREE = await import(require.resolve("three").replace("three.cjs", "three.module.js"));
const folder = require.resolve("three").replace(/build.*/, "");
const { GLTFLoader } = await import(folder + "examples/jsm/loaders/GLTFLoader.js");
const bytes = fs.readFileSync(process.argv[2]);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const { scene } = await new Promise((done, fail) => new GLTFLoader().parse(buffer, "", done, fail));
scene.updateMatrixWorld();
scene.traverse((mesh) => {
  if (!mesh.isMesh) return;
  const out = [], at = new THREE.Vector3();
  for (let i = 0; i < mesh.geometry.attributes.position.count; i++) {
    mesh.getVertexPosition(i, at).applyMatrix4(mesh.matrixWorld);
    out.push([at.x, at.y, at.z]);
  }
  console.log(JSON.stringify(out));
});
"""
VALIDATE = """
const bytes = new Uint8Array(require("fs").readFileSync(process.argv[2]));
require("gltf-validator").validateBytes(bytes).then((r) => console.log(JSON.stringify(r.issues)));
"""


@pytest.fixture(scope="module")
def mesh():
    """A face with an open mouth; its last morph target moves nothing."""
    model = facemodels.load_model("builtin")
    names = list(model.expression_names)
    expression = torch.zeros(model.num_expression)
    expression[names.index("jawOpen")], expression[names.index("mouthSmileLeft")] = 0.9, 0.5
    made = mesh_of(model, None, expression)
    made.morphs["nothing"] = np.zeros_like(made.vertices)
    return made


def points_by(program, source, tmp_path):
    if subprocess.run([PYTHON, "-c", f"import {program}"], capture_output=True).returncode:
        pytest.skip(f"{program} is not installed")
    target = tmp_path / "points.npy"
    command = [PYTHON, "-c", POINTS.format(PROGRAMS[program]), str(source), str(target)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert target.is_file(), ran.stdout + ran.stderr
    return np.load(target)


def same_places(points, wanted):
    """As many points at the same places, in whatever order."""
    assert points.shape == wanted.shape
    for a, b in ((points, wanted), (wanted, points)):
        assert cKDTree(a).query(b)[0].max() < 0.01


def node(script, name, source, tmp_path, module):
    if shutil.which("node") is None or not os.path.isdir(os.path.join(os.environ.get("NODE_PATH", ""), module)):
        pytest.skip(f"{module} is not installed")
    (tmp_path / name).write_text(script)
    ran = subprocess.run(["node", str(tmp_path / name), str(source)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("program", PROGRAMS)
def test_glb_is_read_by(program, mesh, tmp_path):
    write(tmp_path / "face.glb", mesh)
    points = points_by(program, tmp_path / "face.glb", tmp_path) * 1000
    wanted = posed(mesh) if program in SHOWS_MORPHS else mesh.vertices
    if program == "bpy":
        wanted = wanted[:, [0, 2, 1]] * (1, -1, 1)  # upright in Blender, looking along -y
    if program in SHOWS_ORDER:
        np.testing.assert_allclose(points, wanted, atol=0.01)
    else:
        same_places(points, wanted)


def test_three_shows_the_glb(mesh, tmp_path):
    write(tmp_path / "face.glb", mesh)
    points = np.array(node(THREE, "show.mjs", tmp_path / "face.glb", tmp_path, "three")) * 1000
    np.testing.assert_allclose(points, posed(mesh), atol=0.01)


def test_the_validator_finds_nothing(mesh, tmp_path):
    write(tmp_path / "face.glb", mesh)
    issues = node(VALIDATE, "validate.cjs", tmp_path / "face.glb", tmp_path, "gltf-validator")
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply"])
def test_all_formats_stand_upright_in_blender(suffix, mesh, tmp_path):
    write(tmp_path / f"face{suffix}", mesh, "mm", "blender")
    points = points_by("bpy", tmp_path / f"face{suffix}", tmp_path)
    same_places(points, posed(mesh)[:, [0, 2, 1]] * (1, -1, 1))


@pytest.mark.parametrize("program", ["open3d", "trimesh"])
def test_ply_keeps_vertices_and_their_order(program, mesh, tmp_path):
    write(tmp_path / "face.ply", mesh)
    np.testing.assert_allclose(points_by(program, tmp_path / "face.ply", tmp_path), posed(mesh), atol=0.01)
