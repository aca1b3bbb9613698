"""glTF files as programs write them: component types, poses, textures, strips, sparse accessors, extensions."""

import base64
import io
import json
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from facerender.color import to_linear
from facerender.meshes import MeshError, MeshWarning, load_mesh

POINTS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], "<f4")
FACES = np.array([[0], [1], [2], [0], [2], [3]], "<u2")
UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], "<f4")
TYPES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
ZEROS = {"componentType": 5126, "type": "VEC3", "count": 10**9}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Glb:
    """Collects what a file holds."""

    def __init__(self):
        self.binary, self.views, self.accessors = b"", [], []

    def view(self, content, **more):
        self.binary += bytes(-len(self.binary) % 4)
        self.views.append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content), **more})
        self.binary += content
        return len(self.views) - 1

    def add(self, values, stride=None, **more):
        values = np.asarray(values)
        values = values.astype(values.dtype.newbyteorder("<"))
        rows = [row.tobytes() for row in values]
        if stride is None:
            view = self.view(b"".join(rows))
        else:
            view = self.view(b"".join(row + bytes(stride - len(row)) for row in rows), byteStride=stride)
        kind = {"componentType": TYPES[values.dtype.str[1:]], "type": KINDS[values.shape[1]], "count": len(values)}
        self.accessors.append({"bufferView": view, **kind, **more})
        return len(self.accessors) - 1

    def document(self, *primitives, **more):
        mesh = {"primitives": list(primitives), **more.pop("mesh", {})}
        lists = {"accessors": self.accessors, "bufferViews": self.views, "buffers": [{"byteLength": len(self.binary)}]}
        scene = {"scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}], "meshes": [mesh]}
        return {"asset": {"version": "2.0"}, **scene, **lists, **more}

    def load(self, tmp_path, *primitives, **more):
        text = json.dumps(self.document(*primitives, **more)).encode()
        text += b" " * (-len(text) % 4)
        binary = self.binary + bytes(-len(self.binary) % 4)
        parts = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
        (tmp_path / "a.glb").write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(parts)) + parts)
        return load_mesh(tmp_path / "a.glb")


def png(color=(255, 0, 0)):
    out = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(out, "PNG")
    return out.getvalue()


def textured(glb, **used):
    """The lists of a file with one texture."""
    return {
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0, **used}}}],
        "textures": [{"source": 0}],
        "images": [{"bufferView": glb.view(png()), "mimeType": "image/png"}],
    }


def close(a, b, atol=1e-6):
    torch.testing.assert_close(a, torch.as_tensor(np.asarray(b), dtype=torch.float32), atol=atol, rtol=0)


@pytest.mark.parametrize(
    "kind, normalized", [(k, n) for k in ("i1", "u1", "i2", "u2") for n in (True, False)] + [("f4", False)]
)
@pytest.mark.parametrize("stride", [None, 16])
def test_every_component_type_of_everything(kind, normalized, stride, tmp_path):
    glb, top = Glb(), np.iinfo(kind).max if kind != "f4" else 1
    signed = kind[0] != "u"
    points = (POINTS * 2 - 1 if signed else POINTS) * top
    unit = top if normalized or kind == "f4" else 1
    offsets = np.zeros((4, 3))
    offsets[2] = [top, 0, 0]
    attributes = {
        "POSITION": glb.add(points.astype(kind), stride, normalized=normalized),
        "TEXCOORD_0": glb.add((UV * top).astype(kind), stride, normalized=normalized),
    }
    if not signed or kind == "f4":
        attributes["COLOR_0"] = glb.add((np.c_[UV, UV] * top).astype(kind), stride, normalized=normalized)
    primitive = {
        "attributes": attributes,
        "indices": glb.add(FACES),
        "targets": [{"POSITION": glb.add(offsets.astype(kind), stride, normalized=normalized)}],
        "material": 0,
    }
    mesh = glb.load(
        tmp_path, primitive, mesh={"weights": [0.5]}, **textured(glb), extensionsRequired=["KHR_mesh_quantization"]
    )
    close(mesh.vertices, (points + offsets / 2) / unit)
    close(mesh.uv, np.stack([UV[:, 0] * top / unit, 1 - UV[:, 1] * top / unit], -1))
    if "COLOR_0" in attributes:
        close(mesh.colours, np.c_[UV, UV][:, :3])


def test_most_negative_numbers_are_minus_1(tmp_path):
    glb = Glb()
    points = np.array([[-128, 0, 0], [127, 0, 0], [0, 127, 0]], "i1")
    mesh = glb.load(tmp_path, {"attributes": {"POSITION": glb.add(points, 4, normalized=True)}})
    close(mesh.vertices, [[-1, 0, 0], [1, 0, 0], [0, 1, 0]])


def test_weights_of_morph_targets_of_the_mesh_and_of_its_node(tmp_path):
    for more, weight in (
        ({"mesh": {"weights": [0.5, 0]}}, 0.5),
        ({}, 0),
        ({"mesh": {"weights": [0.5]}, "nodes": [{"mesh": 0, "weights": [2, 0]}]}, 2),
    ):
        glb = Glb()
        moved = glb.view(np.array([1, 3], "u1").tobytes()), glb.view(np.array([[1, 2, 3], [4, 5, 6]], "<f4").tobytes())
        primitive = {"attributes": {"POSITION": glb.add(POINTS)}, "indices": glb.add(FACES)}
        sparse = {
            "count": 2,
            "indices": {"bufferView": moved[0], "componentType": 5121},
            "values": {"bufferView": moved[1]},
        }
        glb.accessors.append({"componentType": 5126, "type": "VEC3", "count": 4, "sparse": sparse})
        glb.accessors.append({"componentType": 5126, "type": "VEC3", "count": 4})
        primitive["targets"] = [{"POSITION": 2}, {"POSITION": 3}]
        wanted = POINTS.copy()
        wanted[[1, 3]] += weight * np.array([[1, 2, 3], [4, 5, 6]])
        close(glb.load(tmp_path, primitive, **more).vertices, wanted)


def test_our_own_expression_is_read_back(tmp_path):
    import facemodels
    from facemodels.export import mesh_of, write
    from facemodels.export.mesh import posed

    model = facemodels.load_model("builtin")
    expression = torch.zeros(model.num_expression)
    expression[list(model.expression_names).index("jawOpen")] = 0.9
    mesh = mesh_of(model, None, expression)
    for suffix, unit in ((".obj", 1), (".ply", 1), (".glb", 1000)):
        write(tmp_path / f"a{suffix}", mesh)
        close(load_mesh(tmp_path / f"a{suffix}").vertices * unit, posed(mesh), 0.01)


@pytest.mark.parametrize("mode, index, wanted", [
    (4, None, [[0, 1, 2]]),
    (5, [0, 1, 3, 2], [[0, 1, 3], [3, 1, 2]]),
    (5, [0, 1, 3, 3, 2, 2], [[0, 1, 3]]),
    (6, [0, 1, 2, 3], [[0, 1, 2], [0, 2, 3]]),
    (6, None, [[0, 1, 2], [0, 2, 3]]),
])  # fmt: skip
def test_strips_and_fans(mode, index, wanted, tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(POINTS)}, "mode": mode}
    if index is not None:
        primitive["indices"] = glb.add(np.array(index, "u1")[:, None])
    mesh = glb.load(tmp_path, primitive)
    assert mesh.vertices[mesh.faces.long()].tolist() == POINTS[wanted].tolist()


def test_nodes_place_several_meshes_and_mirrors_turn_no_triangle_over(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(POINTS)}, "indices": glb.add(FACES)}
    half = 0.5**0.5
    nodes = [
        {"children": [1, 2], "translation": [10, 0, 0]},
        {"mesh": 0, "rotation": [0, 0, half, half], "scale": [2, 1, 1]},
        {"mesh": 0, "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 5, 1]},
        {"mesh": 0},  # in no scene
    ]
    mesh = glb.load(tmp_path, primitive, nodes=nodes)
    first = np.stack([10 - POINTS[:, 1], POINTS[:, 0] * 2, POINTS[:, 2]], -1)
    close(mesh.vertices, np.concatenate([first, POINTS * [-1, 1, 1] + [10, 0, 5]]))
    a, b, c = mesh.vertices[mesh.faces.long()].unbind(1)
    assert (torch.linalg.cross(b - a, c - a)[:, 2] > 0).all()


def test_a_node_far_away_keeps_the_details(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(POINTS / 100)}, "indices": glb.add(FACES)}
    mesh = glb.load(tmp_path, primitive, nodes=[{"mesh": 0, "translation": [5.2e6, 0, 0]}])
    close(mesh.vertices - mesh.vertices[:1], POINTS / 100, 1e-8)
    assert mesh.origin[0] == pytest.approx(5.2e6 + 0.005, abs=1e-6)


def test_a_skin_is_posed_by_its_joints(tmp_path):
    glb = Glb()
    inverse = np.stack([np.eye(4), np.eye(4)])
    inverse[1, 3, :3] = [0, -1, 0]  # columns
    attributes = {
        "POSITION": glb.add(POINTS),
        "JOINTS_0": glb.add(np.array([[0, 1, 0, 0]] * 4, "u1")),
        "WEIGHTS_0": glb.add(
            np.array([[255, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [128, 127, 0, 0]], "u1"), normalized=True
        ),
    }
    skin = {"joints": [1, 2], "inverseBindMatrices": glb.add(inverse.reshape(2, 16).astype("f4"))}
    nodes = [{"mesh": 0, "skin": 0, "translation": [99, 0, 0]}, {"children": [2]}, {"translation": [0, 3, 0]}]
    mesh = glb.load(
        tmp_path,
        {"attributes": attributes, "indices": glb.add(FACES)},
        skins=[skin],
        nodes=nodes,
        scenes=[{"nodes": [0, 1]}],
    )
    wanted = POINTS.copy()
    wanted[2, 1] += 2
    wanted[3, 1] += 2 * 127 / 255
    close(mesh.vertices, wanted)


def test_the_set_and_the_transform_of_texture_coordinates(tmp_path):
    glb = Glb()
    attributes = {"POSITION": glb.add(POINTS), "TEXCOORD_0": glb.add(UV * 0), "TEXCOORD_1": glb.add(UV)}
    primitive = {"attributes": attributes, "indices": glb.add(FACES), "material": 0}
    transform = {"offset": [0.5, 0.25], "rotation": np.pi / 2, "scale": [2, 4]}
    used = {"texCoord": 0, "extensions": {"KHR_texture_transform": {**transform, "texCoord": 1}}}
    mesh = glb.load(tmp_path, primitive, **textured(glb, **used), extensionsRequired=["KHR_texture_transform"])
    u, v = UV[:, 0] * 2, UV[:, 1] * 4
    close(mesh.uv, np.stack([0.5 + v, 1 - (0.25 - u)], -1), 1e-5)
    mesh = glb.load(tmp_path, primitive, **textured(glb, texCoord=1))
    close(mesh.uv, np.stack([UV[:, 0], 1 - UV[:, 1]], -1))


def test_primitives_with_their_own_materials_and_ways_to_wrap(tmp_path):
    glb = Glb()
    attributes = {"POSITION": glb.add(POINTS), "TEXCOORD_0": glb.add(UV)}
    colored = {"POSITION": glb.add(POINTS + np.array([0, 0, 1], "f4")), "COLOR_0": glb.add(UV[:, [0, 1, 1]])}
    primitives = [
        {"attributes": attributes, "indices": glb.add(FACES), "material": 0},
        {"attributes": attributes, "indices": glb.add(FACES), "material": 1},
        {"attributes": colored, "indices": glb.add(FACES), "material": 2},
        {"attributes": colored, "mode": 0},
    ]
    rough = [
        {"baseColorTexture": {"index": 0}},
        {"baseColorTexture": {"index": 1}},
        {"baseColorFactor": [0.5, 1, 0, 1]},
    ]
    mesh = glb.load(
        tmp_path,
        *primitives,
        materials=[{"pbrMetallicRoughness": r} for r in rough],
        textures=[{"source": 0}, {"source": 1, "sampler": 0}],
        samplers=[{"wrapS": 33071, "wrapT": 33648}],
        images=[{"bufferView": glb.view(png(c)), "mimeType": "image/png"} for c in ((255, 0, 0), (0, 0, 255))],
    )
    assert mesh.texture_of_face.tolist() == [0, 0, 1, 1, -1, -1]
    assert [t.image[0, 0].tolist() for t in mesh.textures] == [[1, 0, 0], [0, 0, 1]]
    assert [t.wrap for t in mesh.textures] == [("repeat", "repeat"), ("clamp", "mirror")]
    close(mesh.colours, np.concatenate([np.ones((8, 3)), UV[:, [0, 1, 1]] * [0.5, 1, 0]]))


def test_ways_to_wrap_are_drawn(tmp_path):
    import facerender as fr
    from facerender.meshes import Texture, make_mesh, mesh_albedo

    image = torch.arange(4.0)[None, :, None].expand(1, 4, 3)
    points = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]]).int()
    uv = (points[:, :2] + 1) * 1.5 - 1  # from -1 to 2 over 12 pixels: a texel each
    mesh = make_mesh(points, faces, None, uv, image)
    fragments = fr.rasterize(torch.cat([points, torch.ones(4, 1)], 1)[None], faces, (2, 12))
    for wrap, wanted in (
        ("repeat", [0, 1, 2, 3] * 3),
        ("clamp", [0] * 4 + [0, 1, 2, 3] + [3] * 4),
        ("mirror", [3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0]),
    ):
        drawn = mesh_albedo(type(mesh)(**{**vars(mesh), "textures": (Texture(image, (wrap, wrap)),)}), fragments)
        close(drawn[0, 0, :, 0], np.array(wanted), 1e-4)


def test_text_files_with_data_and_with_files_beside_them(tmp_path):
    glb = Glb()
    primitive = {
        "attributes": {"POSITION": glb.add(POINTS), "TEXCOORD_0": glb.add(UV)},
        "indices": glb.add(FACES),
        "material": 0,
    }
    (tmp_path / "my skin.png").write_bytes(png())
    (tmp_path / "a.bin").write_bytes(glb.binary)
    document = glb.document(primitive, **textured(glb))
    document["images"] = [{"uri": "my%20skin.png"}]
    for uri in ("a.bin", "data:application/octet-stream;base64," + base64.b64encode(glb.binary).decode()):
        document["buffers"] = [{"byteLength": len(glb.binary), "uri": uri}]
        (tmp_path / "a.gltf").write_text(json.dumps(document))
        mesh = load_mesh(tmp_path / "a.gltf")
        close(mesh.vertices, POINTS)
        assert mesh.texture[0, 0].tolist() == [1, 0, 0]
    (tmp_path / "my skin.png").unlink()
    with pytest.warns(MeshWarning, match="texture my skin.png was not found"):
        assert not load_mesh(tmp_path / "a.gltf").textures
    (tmp_path / "a.gltf").write_text(json.dumps(document | {"buffers": [{"byteLength": 9, "uri": "gone.bin"}]}))
    with pytest.raises(MeshError, match="buffer gone.bin was not found"):
        load_mesh(tmp_path / "a.gltf")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.bin").write_bytes(glb.binary)
    other = str(tmp_path / "elsewhere" / "other.bin")
    for uri, words in (  # only what lies beside a file belongs to it
        (other, "buffer other.bin was not found beside it"),
        (other.replace("/", "%5C"), "buffer other.bin was not found beside it"),
        ("https://example.com/a.bin", "addresses are not fetched; put it beside the file"),
    ):
        (tmp_path / "a.gltf").write_text(json.dumps(document | {"buffers": [{"byteLength": 9, "uri": uri}]}))
        with pytest.raises(MeshError, match=words):
            load_mesh(tmp_path / "a.gltf")
    far = {"images": [{"uri": "https://example.com/a.png"}], "buffers": [{"byteLength": 9, "uri": "my%20data.bin"}]}
    (tmp_path / "my data.bin").write_bytes(glb.binary)
    (tmp_path / "a.gltf").write_text(json.dumps(document | far))
    with pytest.warns(MeshWarning, match="https://example.com/a.png, and addresses are not fetched; drawn without"):
        close(load_mesh(tmp_path / "a.gltf").vertices, POINTS)
    whole = {"buffers": [{"byteLength": len(glb.binary), "uri": "/elsewhere/a.bin"}]}
    (tmp_path / "a.gltf").write_text(json.dumps(document | whole))
    with pytest.warns(MeshWarning, match="was not found"):
        close(load_mesh(tmp_path / "a.gltf").vertices, POINTS)


def test_draco(tmp_path):
    draco = pytest.importorskip("DracoPy")
    glb = Glb()
    packed = glb.view(
        draco.encode(POINTS, FACES.reshape(-1, 3).astype("u4"), quantization_bits=16, tex_coord=UV.astype(float))
    )
    glb.accessors = [
        {"componentType": 5126, "count": 4, "type": "VEC3"},
        {"componentType": 5126, "count": 4, "type": "VEC2"},
        {"componentType": 5125, "count": 6, "type": "SCALAR"},
    ]
    primitive = {
        "attributes": {"POSITION": 0, "TEXCOORD_0": 1},
        "indices": 2,
        "material": 0,
        "extensions": {
            "KHR_draco_mesh_compression": {"bufferView": packed, "attributes": {"POSITION": 1, "TEXCOORD_0": 0}}
        },
    }
    mesh = glb.load(tmp_path, primitive, **textured(glb), extensionsRequired=["KHR_draco_mesh_compression"])
    corners = mesh.vertices[mesh.faces.long()]
    assert {tuple(c) for c in corners.round(decimals=3).reshape(-1, 3).tolist()} == {tuple(p) for p in POINTS.tolist()}
    close(mesh.uv, np.stack([mesh.vertices[:, 0], 1 - mesh.vertices[:, 1]], -1), 1e-3)
    glb.views[packed]["byteLength"] = 20
    with pytest.raises(MeshError, match="a.glb: the part that Draco has compressed is damaged; export it again"):
        glb.load(tmp_path, primitive)


def test_without_its_decoder_draco_says_what_to_install(tmp_path, monkeypatch):
    glb = Glb()
    extension = {"KHR_draco_mesh_compression": {"bufferView": glb.view(b"DRACO"), "attributes": {}}}
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(MeshError, match="needs DracoPy. Run: pip install DracoPy"):
        glb.load(tmp_path, {"attributes": {"POSITION": glb.add(POINTS)}, "extensions": extension})


@pytest.mark.parametrize("name", ["EXT_meshopt_compression", "KHR_texture_basisu", "ACME_secret"])
def test_other_required_extensions_are_refused_by_name(name, tmp_path):
    glb = Glb()
    with pytest.raises(MeshError, match=f"a.glb: the file requires the extension {name}"):
        glb.load(tmp_path, {"attributes": {"POSITION": glb.add(POINTS)}}, extensionsRequired=[name])


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda d: d["accessors"][0].update(count=2**40), "an accessor ends behind its view"),
        (lambda d: d["accessors"].__setitem__(0, ZEROS), "claims 1,000,000,000 zeros"),
        (lambda d: d["accessors"][0].update(bufferView=-1), r"bufferViews\[-1\], which it does not have"),
        (lambda d: d["accessors"][0].update(componentType=5130), "type 5130, VEC3, which is not read"),
        (lambda d: d["bufferViews"][0].update(byteLength=10**9), "ends behind its buffer"),
        (lambda d: d["bufferViews"][0].update(byteStride=10**9), "an accessor ends behind its view"),
        (lambda d: d["meshes"][0]["primitives"][0].update(mode=7), "mode 7 is not read"),
        (lambda d: d["nodes"][0].update(children=[0]), "stands at two places"),
        (lambda d: d["nodes"][0].update(rotation=[0, 1]), "not a readable GLB file: its parts do not fit together"),
        (lambda d: d["nodes"][0].update(scale="x"), "not a readable GLB file: its parts do not fit together"),
        (lambda d: d.update(accessors=None), "not a readable GLB file: its parts do not fit together"),
        (lambda d: d["meshes"][0].update(primitives=[{}]), "the file holds no triangles"),
        (lambda d: d["meshes"][0].pop("primitives"), "the file holds no triangles"),
        (lambda d: d["asset"].update(version="1.0"), "version 1.0 is not read"),
        (lambda d: d.update(scene=5), r"scenes\[5\], which it does not have"),
        (lambda d: d.update(meshes=[]), r"meshes\[0\], which it does not have"),
    ],
)  # fmt: skip
def test_documents_that_lie_are_one_sentence(change, words, tmp_path):
    glb = Glb()
    document = glb.document({"attributes": {"POSITION": glb.add(POINTS)}, "indices": glb.add(FACES)})
    change(document)
    with pytest.raises(MeshError, match=r"a\.glb: .*" + words) as error:
        glb.load(tmp_path, **document)
    assert "\n" not in str(error.value)


def test_a_mesh_shown_again_and_again_is_refused_before_memory_is_full(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(np.tile(POINTS, (5000, 1)))}}
    nodes = [{"children": list(range(1, 200))}] + [{"mesh": 0}] * 199
    with pytest.raises(MeshError, match="export it without instances"):
        glb.load(tmp_path, primitive, nodes=nodes)


def test_a_damaged_texture_is_one_sentence(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(POINTS), "TEXCOORD_0": glb.add(UV)}, "material": 0}
    more = textured(glb)
    more["images"][0] = {"name": "face", "bufferView": glb.view(png()[:45])}
    with pytest.raises(MeshError, match=r"a.glb: image face: not a readable texture \(it is cut off or damaged\)"):
        glb.load(tmp_path, primitive, **more)
    more["images"][0]["bufferView"] = glb.view(b"\0" * 99)
    with pytest.raises(MeshError, match=r"not a readable texture \(its format is none that is known\)"):
        glb.load(tmp_path, primitive, **more)


@pytest.mark.parametrize(
    "content, words",
    [
        (b'{"asset": }', r"its JSON is damaged \(Expecting value in line 1, column 11\)"),
        (b'{"asset": "\xff"}', r"its JSON is damaged \(byte 11 of it is no text in UTF-8\)"),
        (b"[" * 100_000, r"its JSON is damaged \(it is nested too deeply\)"),
    ],
)
def test_damaged_json_is_one_sentence_in_a_users_words(content, words, tmp_path):
    (tmp_path / "a.gltf").write_bytes(content)
    with pytest.raises(MeshError, match="a.gltf: not a readable glTF file: " + words):
        load_mesh(tmp_path / "a.gltf")


@pytest.mark.parametrize("escaped", [True, False])
def test_data_in_the_file_may_be_escaped_and_must_be_whole(escaped, tmp_path):
    glb = Glb()
    document = glb.document({"attributes": {"POSITION": glb.add(POINTS)}, "indices": glb.add(FACES)})
    data = base64.b64encode(glb.binary).decode()
    for given, good in ((data, True), (data[:-3], False)):
        given = given.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D") if escaped else given
        document["buffers"][0]["uri"] = f"data:application/octet-stream;base64,{given}"
        (tmp_path / "a.gltf").write_text(json.dumps(document))
        if good:
            close(load_mesh(tmp_path / "a.gltf").vertices, POINTS)
        else:
            with pytest.raises(MeshError, match="its buffer in the file is cut off or damaged"):
                load_mesh(tmp_path / "a.gltf")


@pytest.mark.parametrize("own", [None, []])
def test_a_node_without_weights_has_those_of_its_mesh(own, tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(POINTS)}, "indices": glb.add(FACES)}
    primitive["targets"] = [{"POSITION": glb.add(POINTS)}]
    nodes = [{"mesh": 0, "weights": own}]
    close(glb.load(tmp_path, primitive, nodes=nodes, mesh={"weights": [1]}).vertices, POINTS * 2)


def test_a_vertex_that_no_joint_moves_follows_its_first(tmp_path):
    glb = Glb()
    weights = np.eye(4, dtype=np.float32)[[0, 0, 0, 0]] * [[1], [0], [1], [0]]
    attributes = {
        "POSITION": glb.add(POINTS),
        "JOINTS_0": glb.add(np.zeros((4, 4), np.uint8)),
        "WEIGHTS_0": glb.add(weights.astype(np.float32)),
    }
    mesh = glb.load(
        tmp_path,
        {"attributes": attributes, "indices": glb.add(FACES)},
        nodes=[{"mesh": 0, "skin": 0}, {"scale": [2, 2, 2]}],
        scenes=[{"nodes": [0, 1]}],
        skins=[{"joints": [1]}],
    )
    close(mesh.vertices, POINTS * 2)


def test_a_joint_that_a_skin_does_not_have_is_named(tmp_path):
    glb = Glb()
    attributes = {
        "POSITION": glb.add(POINTS),
        "JOINTS_0": glb.add(np.full((4, 4), 7, np.uint8)),
        "WEIGHTS_0": glb.add(np.full((4, 4), 0.25, np.float32)),
    }
    nodes = [{"mesh": 0, "skin": 0}, {}]
    with pytest.raises(MeshError, match="a vertex names joint 7 of 1; the file is damaged"):
        glb.load(
            tmp_path,
            {"attributes": attributes, "indices": glb.add(FACES)},
            nodes=nodes,
            scenes=[{"nodes": [0, 1]}],
            skins=[{"joints": [1]}],
        )


def test_colors_of_bytes_are_linear(tmp_path):
    glb = Glb()
    color = glb.add(np.full((4, 3), 128, "u1"), 4, normalized=True)
    mesh = glb.load(
        tmp_path, {"attributes": {"POSITION": glb.add(POINTS), "COLOR_0": color}, "indices": glb.add(FACES)}
    )
    close(mesh.colours, np.full((4, 3), 128 / 255))
    assert not torch.allclose(mesh.colours, to_linear(mesh.colours), atol=0.1)


def test_morph_targets_of_colors_and_texture_coordinates(tmp_path):
    glb = Glb()
    colors = np.full((4, 4), 51, "u1"), np.full((4, 4), 102, "u1")
    primitive = {
        "attributes": {"POSITION": glb.add(POINTS), "TEXCOORD_0": glb.add(UV)},
        "indices": glb.add(FACES),
        "material": 0,
        "targets": [{"TEXCOORD_0": glb.add(UV * 2), "COLOR_0": glb.add(colors[1], normalized=True)}],
    }
    primitive["attributes"]["COLOR_0"] = glb.add(colors[0], normalized=True)
    mesh = glb.load(tmp_path, primitive, mesh={"weights": [0.5]}, **textured(glb))
    close(mesh.uv, np.stack([2 * UV[:, 0], 1 - 2 * UV[:, 1]], -1))
    close(mesh.colours, np.full((4, 3), 0.4))


def test_sparse_values_on_a_view_of_normalized_bytes(tmp_path):
    glb = Glb()
    target = glb.add(np.array([[10, 0, 0]] * 4, "i1"), 4, normalized=True)
    where = glb.view(np.array([0, 2], "<u4").tobytes())
    what = glb.view(np.array([[100, 0, 0], [0, 100, 0]], "i1").tobytes())
    glb.accessors[target]["sparse"] = {
        "count": 2,
        "indices": {"bufferView": where, "componentType": 5125},
        "values": {"bufferView": what},
    }
    primitive = {"attributes": {"POSITION": glb.add(POINTS)}, "indices": glb.add(FACES)}
    primitive["targets"] = [{"POSITION": target}]
    mesh = glb.load(tmp_path, primitive, nodes=[{"mesh": 0, "weights": [1.27]}])
    close(mesh.vertices, POINTS + [[1, 0, 0], [0.1, 0, 0], [0, 1, 0], [0.1, 0, 0]])


def test_more_than_four_joints_a_vertex(tmp_path):
    glb = Glb()
    joints, weights = np.zeros((4, 4), "u1"), np.zeros((4, 4), "f4")
    weights[:, 0] = 0.5
    attributes = {"POSITION": glb.add(POINTS)}
    for k in range(2):
        attributes |= {f"JOINTS_{k}": glb.add(joints + np.uint8(k)), f"WEIGHTS_{k}": glb.add(weights)}
    nodes = [{"mesh": 0, "skin": 0}, {}, {"translation": [0, 0, 8]}]
    mesh = glb.load(
        tmp_path,
        {"attributes": attributes, "indices": glb.add(FACES)},
        skins=[{"joints": [1, 2]}],
        nodes=nodes,
        scenes=[{"nodes": [0, 1, 2]}],
    )
    close(mesh.vertices, POINTS + [0, 0, 4])


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("normalized", [True, False])
def test_draco_and_quantization(kind, normalized, tmp_path):
    draco = pytest.importorskip("DracoPy")
    glb, top = Glb(), 100 if kind == "u1" else 50000
    points = (POINTS * top).astype(kind)
    packed = glb.view(draco.encode(points, FACES.reshape(-1, 3).astype("u4"), preserve_order=True))
    glb.accessors = [
        {"componentType": TYPES[kind], "count": 4, "type": "VEC3", "normalized": normalized},
        {"componentType": 5125, "count": 6, "type": "SCALAR"},
    ]
    extension = {"KHR_draco_mesh_compression": {"bufferView": packed, "attributes": {"POSITION": 0}}}
    primitive = {"attributes": {"POSITION": 0}, "indices": 1, "extensions": extension}
    mesh = glb.load(tmp_path, primitive, extensionsRequired=["KHR_draco_mesh_compression", "KHR_mesh_quantization"])
    corners = mesh.vertices[mesh.faces.long()].reshape(-1, 3)
    wanted = points[FACES[:, 0]] / (np.iinfo(kind).max if normalized else 1)
    assert sorted(corners.tolist()) == sorted(torch.from_numpy(wanted).float().tolist())


def test_what_a_scene_does_not_show_is_said(tmp_path):
    glb = Glb()
    primitive = {"attributes": {"POSITION": glb.add(POINTS)}, "indices": glb.add(FACES), "material": 0}
    with pytest.raises(MeshError, match="a.glb: its scene shows none of its 1 meshes"):
        glb.load(tmp_path, primitive, nodes=[{}])
    with pytest.warns(MeshWarning, match="a.glb: copies of a mesh .EXT_mesh_gpu_instancing. are not read"):
        glb.load(tmp_path, primitive | {"material": 1}, materials=[{}, {}], extensionsUsed=["EXT_mesh_gpu_instancing"])
    with pytest.warns(MeshWarning, match="a.glb: .* no texture coordinates"):
        glb.load(tmp_path, primitive, **textured(glb))


def test_huge_json_is_refused_before_it_fills_memory(tmp_path, monkeypatch):
    from facerender.meshes import accessors

    (tmp_path / "a.gltf").write_text('{"asset": {"version": "2.0"}, "x": [' + "[]," * 100 + "[]]}")
    monkeypatch.setattr(accessors, "MOST_ENTRIES", 100)
    with pytest.raises(MeshError, match="a.gltf: its JSON has 205 entries, 100 at most"):
        load_mesh(tmp_path / "a.gltf")
    monkeypatch.setattr(accessors, "LARGEST_JSON", 100)
    with pytest.raises(MeshError, match="a.gltf: a text file of 0 MB is not read"):
        load_mesh(tmp_path / "a.gltf")
