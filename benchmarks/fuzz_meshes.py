"""Damaged mesh files through `python -m facerender`: a kind of `benchmarks.fuzz`."""

import base64
import io
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def samples(folder: Path) -> Iterator[Path]:
    """Write small meshes of every kind and feature that is read."""
    vertices, faces = _ball()
    uv = (vertices[:, :2] / 2.2 + 0.5).round(4)
    colors = (vertices / 2.2 + 0.5).clip(0, 1)
    for name, content in {**_objs(vertices, faces, uv, colors), **_plys(vertices, faces, uv, colors)}.items():
        (folder / name).write_bytes(content)
        yield folder / name
    for name, content in _gltfs(vertices, faces, uv, colors).items():
        (folder / name).write_bytes(content)
        yield folder / name


def draw() -> Callable[[Path, Path], int]:
    """`python -m facerender FILE`; of a file of materials, a mesh that names it."""
    import torch

    from facerender.__main__ import main

    torch.set_num_threads(1)

    def command(path: Path, out: Path) -> int:
        mesh = path
        if path.suffix == ".mtl":
            mesh = out / f"{path.name}.obj"
            mesh.write_text(
                f"mtllib ../{path.name}\nusemtl a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n"
            )
        return main([str(mesh), "-o", str(out / "out.png"), "--size", "24", "--samples", "1"])

    return command


def _ball() -> tuple[np.ndarray, np.ndarray]:
    rows, columns = 6, 8
    t, p = np.meshgrid(np.linspace(0.1, 3.0, rows), np.linspace(0, 2 * np.pi, columns, endpoint=False), indexing="ij")
    vertices = np.stack([np.sin(t) * np.sin(p), np.cos(t), np.sin(t) * np.cos(p)], -1).reshape(-1, 3)
    i, j = (a.reshape(-1) for a in np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij"))
    a, b = i * columns + j, i * columns + (j + 1) % columns
    return vertices.round(5), np.concatenate(
        [np.stack([a, a + columns, b], 1), np.stack([b, a + columns, b + columns], 1)]
    )


def _picture() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    rows, columns = np.mgrid[:8, :8]
    Image.fromarray(np.stack([rows * 30, columns * 30, rows * 0 + 90], -1).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def _objs(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, colors: np.ndarray) -> dict[str, bytes]:
    v = "".join("v {:.4f} {:.4f} {:.4f}\n".format(*row) for row in vertices)
    vt = "".join("vt {:.4f} {:.4f}\n".format(*row) for row in uv)
    plain = "".join("f {} {} {}\n".format(*row) for row in faces + 1)
    textured = "".join("f {0}/{0} {1}/{1} {2}/{2}\n".format(*row) for row in faces + 1)
    colored = "".join("v {:.4f} {:.4f} {:.4f} {:.3f} {:.3f} {:.3f}\n".format(*row) for row in np.c_[vertices, colors])
    blocks = "".join(
        "".join("v {:.3f} {:.3f} {:.3f}\n".format(*vertices[k]) for k in face) + "f -3//-1 -2//-1 -1//-1\n"
        for face in faces
    )
    material = "newmtl a\nKd 0.8 0.7 0.6\nmap_Kd -s 1 2 1 -o 0.1 0 0 -clamp on a\\b.png\nnewmtl b\nKd 0.2 0.3 0.4\n"
    return {
        "plain.obj": (v + plain).encode(),
        "colored.obj": ("# made\r\no ball\r\n" + colored + plain).encode(),
        "textured.obj": (
            "mtllib gone.mtl\n" + v + vt + "usemtl a\ng one\n" + textured + "usemtl b\nf 1 2 3 4\n"
        ).encode(),
        "blocks.obj": ("vn 0 0 1\n" + blocks).encode(),
        "a.mtl": material.encode(),
    }


def _plys(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, colors: np.ndarray) -> dict[str, bytes]:
    def header(form: str, *lines: str) -> bytes:
        return "\n".join(["ply", f"format {form} 1.0", "comment TextureFile gone.png", *lines, "end_header\n"]).encode()

    xyz = [f"element vertex {len(vertices)}", *(f"property float {axis}" for axis in "xyz")]
    rgb = [f"property uchar {name}" for name in ("red", "green", "blue")]
    polygon = [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    table = np.zeros(len(vertices), [("v", "<f4", 3), ("c", "u1", 3)])
    table["v"], table["c"] = vertices, colors * 255
    lists = np.zeros(len(faces), [("n", "u1"), ("i", "<i4", 3)])
    lists["n"], lists["i"] = 3, faces
    text = "".join("{:.4f} {:.4f} {:.4f}\n".format(*row) for row in vertices)
    mixed = lists.tobytes() + struct.pack("<B4i", 4, 0, 1, 2, 3)
    mixed_header = [f"element face {len(faces) + 1}", *polygon[1:]]
    corners = np.zeros(len(faces), [("n", "u1"), ("i", ">i4", 3), ("m", "u1"), ("t", ">f4", 6), ("k", ">i4")])
    corners["n"], corners["i"], corners["m"], corners["t"] = 3, faces, 6, uv[faces].reshape(-1, 6)
    wedge = [*polygon, "property list uchar float texcoord", "property int texnumber"]
    strips = np.concatenate([np.array([0, 8, 1, 9, 2, 10, -1, 16, 8, 17, 9], "<i4")])
    return {
        "binary.ply": header("binary_little_endian", *xyz, *rgb, *polygon) + table.tobytes() + lists.tobytes(),
        "text.ply": header("ascii", *xyz, *polygon)
        + (text + "".join("3 {} {} {}\n".format(*row) for row in faces)).encode(),
        "mixed.ply": header("binary_little_endian", *xyz, *rgb, *mixed_header) + table.tobytes() + mixed,
        "big.ply": header("binary_big_endian", *xyz, "element extra 1", "property double d", *wedge)
        + vertices.astype(">f4").tobytes()
        + bytes(8)
        + corners.tobytes(),
        "strips.ply": header(
            "binary_little_endian", *xyz, "element tristrips 1", "property list int int vertex_indices"
        )
        + vertices.astype("<f4").tobytes()
        + struct.pack("<i", len(strips))
        + strips.tobytes(),
    }


class _Glb:
    """Collects the parts of a GLB file."""

    def __init__(self) -> None:
        self.binary = b""
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, content: bytes, **more: int) -> int:
        self.views.append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content), **more})
        self.binary += content + bytes(-len(content) % 4)
        return len(self.views) - 1

    def accessor(self, values: np.ndarray, component: int, kind: str, **more: Any) -> int:
        view = self.view(np.ascontiguousarray(values).tobytes())
        self.accessors.append(
            {"bufferView": view, "componentType": component, "count": len(values), "type": kind, **more}
        )
        return len(self.accessors) - 1

    def document(self, primitives: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        mesh = {"primitives": primitives, **more.pop("mesh", {})}
        return {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0, "rotation": [0, 0.1, 0, 0.99], "scale": [1, 2, 1]}],
            "meshes": [mesh],
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self.binary)}],
            **more,
        }

    def glb(self, document: dict[str, Any]) -> bytes:
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = [
            struct.pack("<I4s", len(text), b"JSON") + text,
            struct.pack("<I4s", len(self.binary), b"BIN\0") + self.binary,
        ]
        return struct.pack("<4sII", b"glTF", 2, 12 + sum(map(len, chunks))) + b"".join(chunks)


def _gltfs(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, colors: np.ndarray) -> dict[str, bytes]:
    position, index = vertices.astype("<f4"), faces.reshape(-1, 1).astype("<u2")
    found: dict[str, bytes] = {}

    glb = _Glb()
    attributes = {
        "POSITION": glb.accessor(position, 5126, "VEC3"),
        "TEXCOORD_0": glb.accessor((uv * 65535).astype("<u2"), 5123, "VEC2", normalized=True),
        "COLOR_0": glb.accessor((np.c_[colors, colors[:, :1]] * 255).astype("u1"), 5121, "VEC4", normalized=True),
    }
    moved = glb.view(np.array([1, 5, 9], "<u2").tobytes()), glb.view(np.ones((3, 3), "<f4").tobytes())
    glb.accessors.append(
        {
            "componentType": 5126,
            "count": len(position),
            "type": "VEC3",
            "sparse": {
                "count": 3,
                "indices": {"bufferView": moved[0], "componentType": 5123},
                "values": {"bufferView": moved[1]},
            },
        }
    )
    target = {"POSITION": len(glb.accessors) - 1}
    texture = {
        "index": 0,
        "extensions": {"KHR_texture_transform": {"offset": [0.1, 0.2], "rotation": 0.3, "scale": [2, 1]}},
    }
    primitive = {
        "attributes": attributes,
        "indices": glb.accessor(index, 5123, "SCALAR"),
        "material": 0,
        "targets": [target],
    }
    more = {
        "mesh": {"weights": [0.4]},
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": texture, "baseColorFactor": [1, 0.9, 0.8, 1]}}],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"wrapS": 33648, "wrapT": 33071}],
        "images": [{"bufferView": glb.view(_picture()), "mimeType": "image/png"}],
    }
    document = glb.document([primitive], **more)
    found["whole.glb"] = glb.glb(document)
    document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(glb.binary).decode()
    found["whole.gltf"] = json.dumps(document).encode()

    glb = _Glb()
    strip = np.array([[0], [8], [1], [9], [2], [10], [3], [11]], "<u2")
    attributes = {
        "POSITION": glb.accessor((position * 32767).astype("<i2"), 5122, "VEC3", normalized=True),
        "JOINTS_0": glb.accessor(np.zeros((len(position), 4), "u1"), 5121, "VEC4"),
        "WEIGHTS_0": glb.accessor(np.tile(np.array([1, 0, 0, 0], "<f4"), (len(position), 1)), 5126, "VEC4"),
    }
    primitives = [
        {"attributes": attributes, "indices": glb.accessor(strip, 5123, "SCALAR"), "mode": mode} for mode in (5, 6)
    ]
    skin = {"joints": [1], "inverseBindMatrices": glb.accessor(np.eye(4, dtype="<f4").reshape(1, 16), 5126, "MAT4")}
    nodes = [
        {"mesh": 0, "skin": 0, "children": [1, 2]},
        {"translation": [0, 1, 0]},
        {"mesh": 0, "matrix": np.eye(4).reshape(-1).tolist()},
    ]
    found["skin.glb"] = glb.glb(
        glb.document(primitives, nodes=nodes, skins=[skin], extensionsRequired=["KHR_mesh_quantization"])
    )

    try:
        import DracoPy
    except ImportError:
        return found
    glb = _Glb()
    packed = glb.view(DracoPy.encode(position, faces.astype("<u4"), tex_coord=uv))
    attributes = {"POSITION": 0, "TEXCOORD_0": 1}
    glb.accessors += [
        {"componentType": 5126, "count": len(position), "type": "VEC3"},
        {"componentType": 5126, "count": len(position), "type": "VEC2"},
        {"componentType": 5125, "count": len(faces) * 3, "type": "SCALAR"},
    ]
    draco = {"bufferView": packed, "attributes": {"POSITION": 1, "TEXCOORD_0": 0}}
    primitive = {"attributes": attributes, "indices": 2, "extensions": {"KHR_draco_mesh_compression": draco}}
    found["draco.glb"] = glb.glb(glb.document([primitive], extensionsRequired=["KHR_draco_mesh_compression"]))
    return found
