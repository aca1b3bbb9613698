"""Meshes written as OBJ, PLY and GLB: read back by trimesh, and GLB by the letter of its specification too."""

import io
import json
import struct
from dataclasses import replace

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import facerender as fr
from benchmarks.meshes import head
from facemodels import InputError, ModelData, MorphableModel, Skeleton
from facemodels.core.drawing import to_bytes
from facemodels.export import Mesh, bake_albedo, mesh_of, write, write_glb, write_obj
from facemodels.export.gltf import SMALLEST
from facemodels.export.mesh import normals_of, posed, split_seams


def atlas(vertices, faces):
    """A UV atlas of two charts, the front and the back of a head: (uv [T,2], uv_faces [F,3])."""
    front = vertices[faces][..., 2].mean(1) > 0
    used = [np.unique(faces[front]), np.unique(faces[~front])]
    uv, uv_faces = [], np.empty_like(faces)
    for k, (index, mine) in enumerate(zip(used, (front, ~front))):
        where = np.full(len(vertices), -1)
        where[index] = np.arange(len(index)) + sum(map(len, used[:k]))
        xy = vertices[index, :2]
        uv.append((xy - xy.min(0)) / np.ptp(xy, axis=0) * [0.44, 0.9] + [0.03 + 0.5 * k, 0.05])
        uv_faces[mine] = where[faces[mine]]
    return np.concatenate(uv).astype(np.float32), uv_faces.astype(np.int32)


def person(**more):
    """A head by formula in millimeters, with colors, an atlas, two morph targets of which one stands at 0.4."""
    vertices, faces, colours = head(12)
    vertices = vertices * 110
    uv, uv_faces = atlas(vertices, faces)
    jaw, brow = np.zeros_like(vertices), np.zeros_like(vertices)
    jaw[:, 1] = -20 * np.clip(-vertices[:, 1] / 110, 0, 1) * (vertices[:, 2] > 0)
    brow[vertices[:, 1] > 80] = [0, 3, 1]
    given = {
        "colours": (colours / 255) ** 2.2,
        "uv": uv,
        "uv_faces": uv_faces,
        "morphs": {"jawOpen": jaw, "brow": brow},
        "weights": {"jawOpen": 0.4},
    }
    return Mesh(vertices, faces, **({"name": "a head"} | given | more))


def textured():
    rows, columns = np.mgrid[:48, :64] / 64
    return person(texture=np.stack([rows, columns, 0.5 + 0 * rows], -1))


def read(path):
    return trimesh.load(path, process=False, force="mesh")


def stored_normals(path):
    """What the file says; trimesh computes its own."""
    if path.suffix == ".obj":
        return np.array([line.split()[1:] for line in path.read_text().splitlines() if line.startswith("vn ")], float)
    if path.suffix == ".ply":
        table = read(path).metadata["_ply_raw"]["vertex"]["data"]
        return np.stack([table[name].ravel() for name in ("nx", "ny", "nz")], 1)
    document, arrays, _ = read_glb(path)
    return arrays[document["meshes"][0]["primitives"][0]["attributes"]["NORMAL"]]


def sheet():
    """Two triangles that share an edge along which their charts are cut."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [9, 9, 9.0]])  # the last has no face
    faces = np.array([[0, 1, 2], [3, 2, 1]])
    uv = np.array([[0, 0], [0.4, 0], [0, 1], [1, 1], [0.6, 1], [1, 0.0]])
    return Mesh(vertices, faces, uv=uv, uv_faces=[[0, 1, 2], [3, 4, 5]])


# ----  ----------------------------------------------------------------------
# the mesh


def test_only_vertices_on_a_seam_are_split_and_the_others_keep_their_numbers():
    source, uv, faces = split_seams(sheet())
    assert source.tolist() == [0, 1, 2, 3, 4, 1, 2]
    assert source[faces].tolist() == sheet().faces.tolist()
    assert (uv[faces] == sheet().uv[sheet().uv_faces]).all()
    assert uv[4].tolist() == [0, 0]


def test_splitting_a_head_keeps_every_corner():
    mesh = person()
    source, uv, faces = split_seams(mesh)
    assert (source[: len(mesh.vertices)] == np.arange(len(mesh.vertices))).all() and len(mesh.vertices) < len(
        source
    ) < 1.3 * len(mesh.vertices)
    assert (source[faces] == mesh.faces).all() and (uv[faces] == mesh.uv[mesh.uv_faces]).all()


def test_tensors_that_need_gradients_are_taken_from_any_device(device):
    mesh = person()
    given = torch.from_numpy(mesh.vertices).to(device).requires_grad_()
    made = Mesh(
        given,
        torch.from_numpy(mesh.faces).to(device),
        colours=torch.full((len(mesh.vertices), 3), 0.5, dtype=torch.bfloat16, device=device),
    )
    assert (made.vertices == mesh.vertices).all() and made.faces.dtype == np.int32 and (made.colours == 0.5).all()


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"vertices": np.zeros((4, 2))}, r"a head: vertices must be \[any,3\], got \[4, 2\]"),
        ({"faces": [[0, 1, 99999]]}, r"a head: faces must hold indices in 0\.\.\d+, got 0\.\.99999"),
        ({"colours": np.full((5, 3), 0.5)}, r"a head: colours must be \[\d+,3\], got \[5, 3\]"),
        ({"uv_faces": None}, "a head: uv and uv_faces come together"),
        ({"weights": {"smile": 1.0}}, "a head: the weight 'smile' belongs to none of its 2 morphs"),
        ({"morphs": {"jawOpen": np.zeros((3, 3))}}, r"a head: morph 'jawOpen' must be \[\d+,3\], got \[3, 3\]"),
        ({"landmarks": np.full((2, 3), np.nan)}, "a head: landmarks holds a number that is not finite"),
        ({"faces": np.zeros((0, 3), int), "uv": None, "uv_faces": None}, "a head: there are no triangles to write"),
        ({"error": -np.ones(len(head(12)[0]))}, "a head: error must be distances, 0 or more, got -1"),
        ({"uv": None, "uv_faces": None, "texture": np.zeros((4, 4, 3))}, "a head: a texture needs uv"),
    ],
)
def test_a_wrong_array_is_named(change, sentence):
    mesh = person()
    given = {k: v for k, v in vars(mesh).items()} | change
    with pytest.raises(InputError, match=sentence):
        Mesh(**given)


def tiny_model(skeleton=False, **more):
    mesh, rng = person(), np.random.default_rng(0)
    V = len(mesh.vertices)
    joints = None
    if skeleton:
        weights = np.clip(mesh.vertices[:, 1] / 100 + 0.5, 0, 1)
        regressor = rng.random((2, V))
        regressor /= regressor.sum(1, keepdims=True)
        joints = Skeleton(
            ("root", "neck"),
            (-1, 0),
            np.stack([1 - weights, weights], 1).astype(np.float32),
            regressor.astype(np.float32),
        )
    given = {
        "name": "tiny",
        "mean": mesh.vertices,
        "faces": mesh.faces,
        "identity": rng.normal(size=(3, V, 3)),
        "expression": np.stack(list(mesh.morphs.values())),
        "expression_names": tuple(mesh.morphs),
        "blendshapes": True,
        "albedo_mean": mesh.colours,
        "albedo": 0.05 * rng.random((2, V, 3)),
        "landmark_index": np.tile(np.arange(68)[:, None], 3),
        "landmark_weights": np.tile([1.0, 0, 0], (68, 1)) * (np.arange(68)[:, None] > 16),
        "uv": mesh.uv,
        "uv_faces": mesh.uv_faces,
        "skeleton": joints,
    }
    return MorphableModel(ModelData(**(given | more)))


def test_a_mesh_of_a_model_stands_where_the_model_puts_it(device):
    model = tiny_model().to(device)
    identity, expression, albedo = (
        torch.randn(3, device=device),
        torch.tensor([[0.3, 0.0]], device=device),
        torch.ones(1, device=device),
    )
    mesh = mesh_of(model, identity, expression, albedo)
    want = model(identity[None], expression, albedo[None])
    np.testing.assert_allclose(posed(mesh), want.vertices[0].cpu(), atol=1e-4)
    np.testing.assert_allclose(mesh.vertices, model.shape(identity[None])[0].cpu(), atol=1e-4)
    np.testing.assert_allclose(mesh.colours, want.albedo[0].cpu(), atol=1e-6)
    assert mesh.weights == {"jawOpen": pytest.approx(0.3)} and list(mesh.morphs) == ["jawOpen", "brow"]
    assert len(mesh.landmarks) == 51  # the model has no contour
    plain = mesh_of(model, identity, expression, morphs=False)
    np.testing.assert_allclose(plain.vertices, want.vertices[0].cpu(), atol=1e-4)
    assert plain.morphs == plain.weights == {}


def test_morph_targets_of_a_posed_model_are_exact():
    model = tiny_model(skeleton=True)
    identity, expression, joints = torch.randn(1, 3), torch.tensor([[0.7, 0.5]]), torch.tensor([[[0.3, 0.5, -0.2]]])
    mesh = mesh_of(model, identity, expression, joints=joints)
    np.testing.assert_allclose(posed(mesh), model.shape(identity, expression, joints)[0], atol=1e-3)


def test_presets_name_only_morphs_that_are_there():
    mesh = mesh_of(tiny_model())
    assert mesh.presets and all(set(p) == {"jawOpen"} for p in mesh.presets.values())
    assert mesh.morph_range == (0, 1)
    assert mesh_of(tiny_model(blendshapes=False)).presets == {} and mesh_of(
        tiny_model(blendshapes=False)
    ).morph_range == (-3, 3)


def test_a_baked_texture_shows_the_vertex_colors_up_to_the_borders_of_its_charts(device):
    model = tiny_model().to(device)
    smooth = (model.mean - model.mean.amin(0)) / (model.mean.amax(0) - model.mean.amin(0))
    smooth = torch.cat(
        [smooth[:, :2], torch.full_like(smooth[:, :1], 0.5)], 1
    ).requires_grad_()  # what lies on itself in the atlas has one color
    texture = bake_albedo(model, smooth, size=256)
    assert texture.shape == (256, 256, 3) and texture.device == model.mean.device
    at = fr.sample_texture(texture[None], model.uv[model.uv_faces.long()].view(1, -1, 2))
    want = smooth[model.faces.long()].view(1, -1, 3)
    assert (at - want).abs().max() < 0.03  # a texel or two
    assert (texture[..., 2] > 0.49).all()  # nothing is left black for a mip-map to mix in
    texture.sum().backward()
    assert torch.isfinite(smooth.grad).all() and smooth.grad.abs().sum() > 0
    torch.testing.assert_close(bake_albedo(model, size=64), bake_albedo(model, torch.zeros(2, device=device), size=64))


def test_a_model_without_texture_coordinates_cannot_be_baked():
    with pytest.raises(InputError, match="the model tiny has no texture coordinates"):
        bake_albedo(tiny_model(uv=None, uv_faces=None))


# ---- the files -------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["obj", "ply", "glb"])
@pytest.mark.parametrize("unit, scale", [(None, None), ("mm", 1), ("cm", 0.1), ("m", 0.001)])
def test_units(tmp_path, suffix, unit, scale):
    mesh = person(weights={})
    scale = scale or (0.001 if suffix == "glb" else 1)
    write(tmp_path / f"a.{suffix}", mesh, unit=unit)
    loaded = read(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(loaded.vertices, mesh.vertices * scale, atol=1e-4 * scale, rtol=1e-6)
    assert (loaded.faces == mesh.faces).all()


@pytest.mark.parametrize("suffix", ["obj", "ply", "glb"])
def test_z_up_turns_the_face_to_minus_y_and_keeps_it_right_side_out(tmp_path, suffix):
    mesh = person(weights={})
    write(tmp_path / f"a.{suffix}", mesh, unit="mm", axes="z-up")
    loaded = read(tmp_path / f"a.{suffix}")
    x, y, z = mesh.vertices.T
    np.testing.assert_allclose(loaded.vertices, np.stack([x, -z, y], 1), atol=1e-3)
    assert loaded.volume > 0
    np.testing.assert_allclose(
        stored_normals(tmp_path / f"a.{suffix}"),
        normals_of(np.asarray(loaded.vertices, np.float32), mesh.faces),
        atol=1e-3,
    )


def test_morph_targets_stand_at_their_weights_in_files_that_have_none(tmp_path):
    mesh = person()
    for suffix in ("obj", "ply"):
        write(tmp_path / f"a.{suffix}", mesh)
        np.testing.assert_allclose(
            read(tmp_path / f"a.{suffix}").vertices, mesh.vertices + 0.4 * mesh.morphs["jawOpen"], atol=1e-3
        )


@pytest.mark.parametrize("suffix", ["obj", "ply"])
def test_vertex_colors_are_srgb(tmp_path, suffix):
    mesh = person()
    write(tmp_path / f"a.{suffix}", mesh)
    loaded = read(tmp_path / f"a.{suffix}")
    assert (loaded.visual.vertex_colors[:, :3] == to_bytes(torch.from_numpy(mesh.colours))).all()


def test_obj_keeps_the_vertices_and_gives_corners_their_texture_coordinates(tmp_path):
    mesh = textured()
    write_obj(tmp_path / "a.obj", mesh)
    lines = (tmp_path / "a.obj").read_text().splitlines()
    count = {word: sum(line.startswith(word + " ") for line in lines) for word in ("v", "vt", "vn", "f")}
    assert count == {"v": len(mesh.vertices), "vt": len(mesh.uv), "vn": len(mesh.vertices), "f": len(mesh.faces)}
    loaded = read(tmp_path / "a.obj")
    np.testing.assert_allclose(loaded.visual.uv[loaded.faces], mesh.uv[mesh.uv_faces], atol=1e-6)
    np.testing.assert_allclose(loaded.vertices[loaded.faces], posed(mesh)[mesh.faces], atol=1e-4)
    assert (iio.imread(tmp_path / "a_skin.png") == to_bytes(torch.from_numpy(mesh.texture))).all()
    assert (np.asarray(loaded.visual.material.image.convert("RGB")) == to_bytes(torch.from_numpy(mesh.texture))).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mtl", "a.obj", "a_skin.png"]


def test_ply_holds_the_error_as_quality_and_takes_colors_from_a_texture(tmp_path):
    mesh = person()
    error = np.linspace(0, 3, len(mesh.vertices)).astype(np.float32)
    error[5] = np.nan
    texture = np.full((8, 8, 3), 0.25, np.float32)
    write(tmp_path / "a.ply", person(colours=None, texture=texture, error=error), unit="cm")
    loaded = read(tmp_path / "a.ply")
    np.testing.assert_allclose(loaded.metadata["_ply_raw"]["vertex"]["data"]["quality"].ravel(), error / 10, rtol=1e-6)
    assert (loaded.visual.vertex_colors[:, :3] == 137).all()


# ---- GLB -------------------------------------------------------------------

COMPONENTS = {5121: ("u1", 1), 5123: ("<u2", 2), 5125: ("<u4", 4), 5126: ("<f4", 4)}
WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def read_glb(path):
    """(document, accessors as arrays, binary), every rule of the format that concerns us asserted on the way."""
    content = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content)) and length % 4 == 0
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert kind == b"JSON" and size % 4 == 0
    document = json.loads(content[20 : 20 + size])
    size_binary, kind = struct.unpack_from("<I4s", content, 20 + size)
    assert kind == b"BIN\0" and size_binary % 4 == 0 and 28 + size + size_binary == length
    binary = content[28 + size :]
    assert [b["byteLength"] for b in document["buffers"]] == [len(binary)]
    end = 0
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] >= end and view["byteLength"] > 0
        end = view["byteOffset"] + view["byteLength"]
    assert end <= len(binary)

    def array(view, component, count, width):
        kind, size = COMPONENTS[component]
        view = document["bufferViews"][view]
        assert view["byteLength"] == count * width * size
        return np.frombuffer(binary, kind, count * width, view["byteOffset"]).reshape(count, width)

    arrays = []
    for accessor in document["accessors"]:
        width, count = WIDTH[accessor["type"]], accessor["count"]
        assert count > 0
        values = np.zeros((count, width), "<f4")
        if "bufferView" in accessor:
            values = array(accessor["bufferView"], accessor["componentType"], count, width).copy()
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            index = array(sparse["indices"]["bufferView"], sparse["indices"]["componentType"], sparse["count"], 1)[
                :, 0
            ].astype(int)
            assert sparse["count"] > 0 and (np.diff(index) > 0).all() and index[-1] < count
            assert all(
                "target" not in document["bufferViews"][sparse[part]["bufferView"]] for part in ("indices", "values")
            )
            values[index] = array(sparse["values"]["bufferView"], accessor["componentType"], sparse["count"], width)
        if "min" in accessor:
            assert accessor["min"] == values.min(0).tolist() and accessor["max"] == values.max(0).tolist()
        arrays.append(values)
    return document, arrays, binary


def test_glb_geometry(tmp_path):
    mesh = person()
    write_glb(tmp_path / "a.glb", mesh)
    document, arrays, _ = read_glb(tmp_path / "a.glb")
    primitive = document["meshes"][0]["primitives"][0]
    at = primitive["attributes"]
    assert sorted(at) == ["COLOR_0", "NORMAL", "POSITION"] and "min" in document["accessors"][at["POSITION"]]
    np.testing.assert_allclose(arrays[at["POSITION"]], mesh.vertices / 1000, rtol=1e-6)
    assert (arrays[primitive["indices"]].reshape(-1, 3) == mesh.faces).all() and document["accessors"][
        primitive["indices"]
    ]["componentType"] == 5123
    np.testing.assert_allclose(np.linalg.norm(arrays[at["NORMAL"]], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(arrays[at["COLOR_0"]], mesh.colours, atol=1e-6)  # linear, as glTF has it
    material = document["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert material["metallicFactor"] == 0 and 0.3 < material["roughnessFactor"] < 0.8


def test_glb_texture(tmp_path):
    mesh = textured()
    write_glb(tmp_path / "a.glb", mesh)
    document, arrays, binary = read_glb(tmp_path / "a.glb")
    primitive = document["meshes"][0]["primitives"][0]
    faces = arrays[primitive["indices"]].reshape(-1, 3)
    np.testing.assert_allclose(
        arrays[primitive["attributes"]["POSITION"]][faces], mesh.vertices[mesh.faces] / 1000, rtol=1e-6
    )
    uv = arrays[primitive["attributes"]["TEXCOORD_0"]][faces]
    np.testing.assert_allclose(
        np.stack([uv[..., 0], 1 - uv[..., 1]], -1), mesh.uv[mesh.uv_faces], atol=1e-6
    )  # (0, 0) is at the upper left
    texture = document["textures"][document["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]["index"]]
    view = document["bufferViews"][document["images"][texture["source"]]["bufferView"]]
    picture = Image.open(io.BytesIO(binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]))
    assert picture.format == "PNG" and (np.asarray(picture) == to_bytes(torch.from_numpy(mesh.texture))).all()
    loaded = read(tmp_path / "a.glb")
    np.testing.assert_allclose(loaded.visual.uv[loaded.faces], mesh.uv[mesh.uv_faces], atol=1e-6)


@pytest.mark.parametrize("make", [person, textured])
def test_glb_morph_targets_move_positions_and_normals(tmp_path, make):
    everywhere, nowhere = (
        np.random.default_rng(0).normal(size=person().vertices.shape),
        np.zeros_like(person().vertices),
    )
    mesh = make()
    mesh = replace(mesh, morphs=mesh.morphs | {"everywhere": everywhere.astype(np.float32), "nowhere": nowhere})
    write_glb(tmp_path / "a.glb", mesh)
    document, arrays, _ = read_glb(tmp_path / "a.glb")
    content = document["meshes"][0]
    assert content["extras"]["targetNames"] == ["jawOpen", "brow", "everywhere", "nowhere"]
    assert content["weights"] == [0.4, 0, 0, 0]
    primitive = content["primitives"][0]
    source = split_seams(mesh)[0] if mesh.texture is not None else np.arange(len(mesh.vertices))
    normals = arrays[primitive["attributes"]["NORMAL"]]
    for offsets, target in zip(mesh.morphs.values(), primitive["targets"], strict=True):
        np.testing.assert_allclose(arrays[target["POSITION"]], offsets[source] / 1000, atol=SMALLEST / 1000)
        np.testing.assert_allclose(
            arrays[target["NORMAL"]] + normals, normals_of(mesh.vertices + offsets, mesh.faces)[source], atol=1e-4
        )
        assert "min" in document["accessors"][target["POSITION"]]
    sparse = ["sparse" in document["accessors"][target["POSITION"]] for target in primitive["targets"]]
    assert sparse == [True, True, False, False]
    # Sparse accessors and the one of zeros share a view: VTK, Open3D and assimp need one.
    few, zeros = (document["accessors"][primitive["targets"][k]["POSITION"]] for k in (0, 3))
    assert few["bufferView"] == zeros["bufferView"]
    assert document["bufferViews"][zeros["bufferView"]]["byteStride"] == 12
    assert few["byteOffset"] == few["sparse"]["indices"]["byteOffset"] == few["sparse"]["values"]["byteOffset"] == 0


def test_glb_of_more_than_65535_vertices_has_long_indices(tmp_path):
    vertices, faces, _ = head(110)
    assert len(vertices) > 65535
    write_glb(tmp_path / "a.glb", Mesh(vertices * 110, faces))
    document, arrays, _ = read_glb(tmp_path / "a.glb")
    primitive = document["meshes"][0]["primitives"][0]
    assert (
        document["accessors"][primitive["indices"]]["componentType"] == 5125
        and (arrays[primitive["indices"]].reshape(-1, 3) == faces).all()
    )
    assert "baseColorFactor" in document["materials"][0]["pbrMetallicRoughness"]


# ----  ----------------------------------------------------------------------
# what fails


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    mesh = textured()
    write_obj(tmp_path / "a.obj", mesh)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    original, calls = type(tmp_path).write_bytes, []

    def full(self, content):
        calls.append(self)
        if len(calls) == 3:
            original(self, content[: len(content) // 2])
            raise OSError("No space left on device")
        return original(self, content)

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_obj(tmp_path / "a.obj", replace(mesh, texture=1 - mesh.texture))
    assert len(calls) == 3
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "name, options, sentence",
    [
        ("a.fbx", {}, r"a\.fbx: meshes are written as \.obj, \.ply, \.glb or \.html"),
        ("nowhere/a.obj", {}, r"a\.obj: the folder .*nowhere does not exist"),
        ("a.ply", {"unit": "inch"}, "unit must be mm, cm or m, got 'inch'"),
        ("a.glb", {"axes": "x-up"}, "axes must be y-up, z-up or blender, got 'x-up'"),
    ],
)
def test_a_wrong_request_is_one_sentence(tmp_path, name, options, sentence):
    for mesh in (person(), textured()):  # an OBJ with its texture is several files
        with pytest.raises(InputError, match=sentence):
            write(tmp_path / name, mesh, **options)
    assert list(tmp_path.iterdir()) == []


def test_the_renderers_command_sees_the_colors_of_a_glb(tmp_path):
    from facemodels import load_model
    from facerender.meshes import load_mesh

    model = load_model("builtin")
    write(tmp_path / "face.glb", mesh_of(model))
    mesh = load_mesh(tmp_path / "face.glb")
    assert len(mesh.vertices) == model.num_vertices
    torch.testing.assert_close(mesh.colours, model.albedo()[0], rtol=0, atol=2e-2)


@pytest.mark.parametrize("suffix, same", [(".obj", "y-up"), (".ply", "z-up"), (".glb", "y-up")])
def test_axes_for_blender_are_those_that_it_takes_each_format_for(suffix, same, tmp_path):
    mesh = person()
    write(tmp_path / f"a{suffix}", mesh, axes="blender")
    write(tmp_path / f"b{suffix}", mesh, axes=same)
    assert (tmp_path / f"a{suffix}").read_bytes().replace(b"a.mtl", b"b.mtl") == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("thing, words", [(torch.zeros(4, 3), "mesh_of makes one"), ([1], "got list")])
def test_what_is_no_mesh_is_not_written(thing, words, tmp_path):
    with pytest.raises(InputError, match=words):
        write(tmp_path / "a.obj", thing)
    assert list(tmp_path.iterdir()) == []
