"""PLY files as programs write them: colors, lists, strips, elements, coordinates, counts that lie."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from facerender.color import to_linear
from facerender.meshes import MeshError, MeshWarning, load_mesh

POINTS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
XYZ = ("property float x", "property float y", "property float z")
ORDER = {"binary_little_endian": "<", "binary_big_endian": ">"}
LIST = "property list uchar int vertex_indices"


def ply(tmp_path, form, *lines, body, comment=b"x"):
    head = ["ply", f"format {form} 1.0", *lines, "end_header\n"]
    content = "\n".join(head).encode().replace(b"ply\n", b"ply\ncomment " + comment + b"\n", 1)
    (tmp_path / "a.ply").write_bytes(content + (body.encode() if isinstance(body, str) else body))
    return tmp_path / "a.ply"


def triangles(mesh):
    return mesh.vertices[mesh.faces.long()].tolist()


SQUARE = POINTS[[[0, 1, 2], [0, 2, 3]]].tolist()


@pytest.mark.parametrize("form", ["ascii", *ORDER])
@pytest.mark.parametrize("polygons", [[[0, 1, 2], [0, 2, 3]], [[0, 1, 2, 3]], [[0, 1], [0, 1, 2], [], [0, 2, 3]]])
def test_polygons_in_every_format(form, polygons, tmp_path):
    if form == "ascii":
        body = "".join("{} {} {}\n".format(*p) for p in POINTS)
        body += "".join(f"{len(p)} {' '.join(map(str, p))}\n" for p in polygons)
    else:
        body = POINTS.astype(ORDER[form] + "f4").tobytes()
        body += b"".join(struct.pack(f"{ORDER[form]}B{len(p)}i", len(p), *p) for p in polygons)
    path = ply(tmp_path, form, "element vertex 4", *XYZ, f"element face {len(polygons)}", LIST, body=body)
    assert triangles(load_mesh(path)) == SQUARE


@pytest.mark.parametrize(
    "names", ["red green blue", "diffuse_red diffuse_green diffuse_blue", "r g b", "Red Green Blue"]
)
@pytest.mark.parametrize(
    "kind, top",
    [
        ("uchar", 255),
        ("uint8", 255),
        ("ushort", 65535),
        ("short", 255),
        ("int", 255),
        ("float", 1),
        ("float", 255),
        ("double", 1),
    ],
)
@pytest.mark.parametrize("form", ["ascii", "binary_big_endian"])
def test_colors_of_every_name_and_type(names, kind, top, form, tmp_path):
    from facerender.meshes.ply import TYPES

    colors = np.array([[0, 51, 255], [255, 0, 102], [153, 255, 0], [255, 255, 255]]) / 255 * top
    colors = colors if kind in ("float", "double") else colors.round()
    if form == "ascii":
        body = "".join(
            "{} {} {} {} {} {}\n".format(*p, *c)
            for p, c in zip(POINTS, colors if top == 1 or kind == "float" else colors.astype(int))
        )
        body += "4 0 1 2 3\n"
    else:
        table = np.zeros(4, [("p", ">f4", 3), ("c", ">" + TYPES[kind], 3)])
        table["p"], table["c"] = POINTS, colors
        body = table.tobytes() + struct.pack(">B4i", 4, 0, 1, 2, 3)
    lines = [f"property {kind} {name}" for name in names.split()]
    mesh = load_mesh(ply(tmp_path, form, "element vertex 4", *XYZ, *lines, "element face 1", LIST, body=body))
    torch.testing.assert_close(mesh.colours, to_linear(torch.from_numpy(colors / top).float()), atol=1e-5, rtol=0)


def test_colors_of_faces_are_averaged_at_vertices(tmp_path):
    body = "".join("{} {} {}\n".format(*p) for p in POINTS) + "3 0 1 2 255 0 0\n3 0 2 3 0 0 255\n"
    rgb = [f"property uchar {name}" for name in ("red", "green", "blue")]
    mesh = load_mesh(ply(tmp_path, "ascii", "element vertex 4", *XYZ, "element face 2", LIST, *rgb, body=body))
    assert mesh.colours.tolist() == [[0.5, 0, 0.5], [1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]]


def test_triangle_strips_keep_their_sides(tmp_path):
    strip = [0, 1, 3, 2, -1, 1, 0, 3, 3, 2]  # the second one is joined by a triangle without area
    body = POINTS.astype("<f4").tobytes() + struct.pack("<i10i", 10, *strip)
    lines = ("element vertex 4", *XYZ, "element tristrips 1", "property list int int vertex_indices")
    mesh = load_mesh(ply(tmp_path, "binary_little_endian", *lines, body=body))
    assert mesh.faces.tolist() == [[0, 1, 3], [3, 1, 2], [1, 0, 3]]


def test_elements_and_properties_that_nobody_uses_are_passed_over(tmp_path):
    body = b"".join(struct.pack("<3fd", *p, 7) for p in POINTS)
    body += struct.pack("<B2h", 2, 5, 6) + struct.pack("<B", 0)  # two cameras with lists
    body += struct.pack("<B4iBf", 4, 0, 1, 2, 3, 1, 0.5) + b"edges follow"
    path = ply(
        tmp_path, "binary_little_endian",
        "obj_info num_cols 512", "element vertex 4", *XYZ, "property double quality", "element camera 2",
        "property list uchar short numbers", "element nothing 999999999", "element face 1", LIST,
        "property list uchar float flags", "element edge 3", "property int a",
        body=body, comment="K\u00f6rper".encode("latin-1"),
    )  # fmt: skip
    assert triangles(load_mesh(path)) == SQUARE


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_ends_of_lines_of_every_system(ending, tmp_path):
    body = "".join("{} {} {}\n".format(*p) for p in POINTS) + "4 0 1 2 3"
    path = ply(tmp_path, "ascii", "element vertex 4", *XYZ, "element face 1", LIST, body=body)
    path.write_bytes(path.read_bytes().replace(b"\n", ending.encode()))
    assert triangles(load_mesh(path)) == SQUARE


@pytest.mark.parametrize("wedge", [False, True])
def test_textures_of_vertices_and_of_corners(wedge, tmp_path):
    Image.new("RGB", (2, 2), (255, 0, 0)).save(tmp_path / "t.png")
    uv = POINTS[:, :2] / 2
    if wedge:
        body = "".join("{} {} {}\n".format(*p) for p in POINTS)
        body += "".join(
            f"3 {a} {b} {c} 6 {' '.join(str(x) for x in uv[[a, b, c]].ravel())}\n" for a, b, c in ((0, 1, 2), (0, 2, 3))
        )
        lines = ("element vertex 4", *XYZ, "element face 2", LIST, "property list uchar float texcoord")
    else:
        body = "".join("{} {} {} {} {}\n".format(*p, *t) for p, t in zip(POINTS, uv)) + "4 0 1 2 3\n"
        lines = ("element vertex 4", *XYZ, "property float s", "property float t", "element face 1", LIST)
    path = ply(tmp_path, "ascii", *lines, body=body, comment=b"TextureFile t.png")
    mesh = load_mesh(path)
    assert (
        mesh.texture[0, 0].tolist() == [1, 0, 0]
        and mesh.uv[mesh.faces.long()].tolist() == uv[[[0, 1, 2], [0, 2, 3]]].tolist()
    )
    (tmp_path / "t.png").unlink()
    with pytest.warns(MeshWarning, match="texture t.png was not found"):
        assert not load_mesh(path).textures


def test_doubles_far_from_the_origin_and_vertices_that_nobody_uses(tmp_path):
    points = np.concatenate([POINTS / 1000 + [4.5e6, 5.2e6, 800], [[np.nan, 0, 0], [0, 0, 0]]])
    body = points.astype("<f8").tobytes() + struct.pack("<B4i", 4, 0, 1, 2, 3)
    xyz = [line.replace("float", "double") for line in XYZ]
    mesh = load_mesh(ply(tmp_path, "binary_little_endian", "element vertex 6", *xyz, "element face 1", LIST, body=body))
    there = mesh.vertices.double() + torch.tensor(mesh.origin, dtype=torch.float64)
    assert len(mesh.vertices) == 4 and np.abs(there.numpy() - points[:4]).max() < 1e-9


HEAD = ("element vertex 4", *XYZ, "element face 1", LIST)


@pytest.mark.parametrize(
    "lines, body, words",
    [
        (("element vertex 99999999999", *HEAD[1:]), b"\0" * 60, "ends before the 99,999,999,999 rows of 'vertex'"),
        ((*HEAD[:4], "element face 4000000000", LIST), b"\0" * 60, "ends before the 4,000,000,000 rows of 'face'"),
        (
            (*HEAD[:5], "property list int int vertex_indices"),
            b"\0" * 48 + b"\xff\xff\xff\x7f",
            "ends before the row of 'face'",
        ),
        ((*HEAD[:5], "property list int int vertex_indices"), b"\0" * 48 + b"\xff\xff\xff\xff", "ends before"),
        (HEAD, b"\0" * 47, "ends before the 4 rows of 'vertex'"),
        (("element vertex four",), b"", "'element vertex four' cannot be read"),
        (("element vertex 4", "property quaternion x"), b"", "'property quaternion x' cannot be read"),
        (("element vertex 4", "property float x", *HEAD[4:]), b"\0" * 60, "no x, y and z"),
        (("element face 1", LIST), b"\0" * 60, "no vertices"),
        (HEAD, b"\0" * 48 + struct.pack("<B3i", 3, 0, 1, 9), "a triangle names a vertex that does not exist"),
    ],
)
def test_headers_that_lie_are_one_sentence(lines, body, words, tmp_path):
    path = ply(tmp_path, "binary_little_endian", *lines, body=body)
    with pytest.raises(MeshError, match=r"a\.ply: .*" + words) as error:
        load_mesh(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "body, words",
    [
        ("0 0 0\n1 0 0\n1 1 zero\n0 1 0\n3 0 1 2\n", "'zero' stands in place of a number"),
        ("0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 1.5\n", "no whole number"),
        ("0 0 0\n1 0 0\n1 1 0\n0 1 0\n2.5 0 1 2\n", "a list has a length of 2.5"),
        ("0 0 0\n1 0 0\n1 1 0\n0 1 0\n1e15 0 1 2\n", "ends before"),
    ],
)
def test_text_that_is_no_number_is_one_sentence(body, words, tmp_path):
    with pytest.raises(MeshError, match=r"a\.ply: .*" + words):
        load_mesh(ply(tmp_path, "ascii", *HEAD, body=body))


TEXT = "".join("{} {} {}\n".format(*p) for p in POINTS) + "4 0 1 2 3\n"


@pytest.mark.parametrize("comment", ["K\u00f6rper".encode("utf-16"), "\u010a\u010a \u0100".encode("utf-16-le")])
def test_comments_of_two_bytes_a_letter(comment, tmp_path):
    assert triangles(load_mesh(ply(tmp_path, "ascii", *HEAD, body=TEXT, comment=comment))) == SQUARE


def test_a_byte_order_mark_and_lists_under_another_name(tmp_path):
    path = ply(tmp_path, "ascii", *HEAD[:5], "property list uchar int vertices", body=TEXT)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert triangles(load_mesh(path)) == SQUARE


def test_a_line_feed_behind_a_header_of_carriage_returns_is_a_number(tmp_path):
    points = POINTS.astype("<f4")
    points[0, 0] = np.frombuffer(b"\n\0\0\x3f", "<f4")[0]
    path = ply(tmp_path, "binary_little_endian", *HEAD, body=b"")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r") + points.tobytes() + struct.pack("<B4i", 4, 0, 1, 2, 3))
    assert load_mesh(path).vertices.tolist() == points.tolist()


@pytest.mark.parametrize("top", [1, 255])
def test_numbers_that_their_type_cannot_hold_stay_colors(top, tmp_path):
    rgb = [f"property uchar {name}" for name in ("red", "green", "blue")]
    body = "".join("{} {} {} {} 0 0\n".format(*p, c * top) for p, c in zip(POINTS, (0.5, 1, 0.25, 0)))
    mesh = load_mesh(
        ply(tmp_path, "ascii", "element vertex 4", *XYZ, *rgb, "element face 1", LIST, body=body + "4 0 1 2 3\n")
    )
    torch.testing.assert_close(mesh.colours[:, 0], to_linear(torch.tensor([0.5, 1, 0.25, 0])))


def test_points_without_triangles_and_textures_without_coordinates_are_said(tmp_path):
    with pytest.raises(MeshError, match="a.ply: .* no triangles, only 4 vertices; export a mesh"):
        load_mesh(ply(tmp_path, "ascii", *HEAD[:4], body=TEXT))
    Image.new("RGB", (2, 2)).save(tmp_path / "t.png")
    with pytest.warns(MeshWarning, match="a.ply: .* no texture coordinates"):
        load_mesh(ply(tmp_path, "ascii", *HEAD, body=TEXT, comment=b"TextureFile t.png"))


def test_floats_that_have_lost_the_mesh_are_said(tmp_path):
    body = (POINTS * 0.2 + [4.5e6, 0, 0]).astype("<f4").tobytes() + struct.pack("<B4i", 4, 0, 1, 2, 3)
    with pytest.warns(MeshWarning, match="a.ply: its coordinates have steps of 0.5 in a mesh of 0"):
        load_mesh(ply(tmp_path, "binary_little_endian", *HEAD, body=body))


@pytest.mark.parametrize(
    "form, more, said",
    [
        ("ascii", "3 0 2 3\n", "4 numbers"),
        ("ascii", "\n\n", None),
        ("binary_little_endian", struct.pack("<B3i", 3, 0, 2, 3), "13 bytes"),
        ("binary_little_endian", b"\0\r\n", None),
    ],
)
def test_rows_behind_those_of_the_header_are_said(form, more, said, tmp_path, recwarn):
    if form == "ascii":
        body = "".join("{} {} {}\n".format(*p) for p in POINTS) + "3 0 1 2\n" + more
    else:
        body = POINTS.astype("<f4").tobytes() + struct.pack("<B3i", 3, 0, 1, 2) + more
    mesh = load_mesh(ply(tmp_path, form, "element vertex 4", *XYZ, "element face 1", LIST, body=body))
    assert triangles(mesh) == SQUARE[:1]
    wanted = f"a.ply: {said} behind the rows that its header declares are ignored"
    assert [wanted in str(w.message) for w in recwarn] == ([True] if said else [])


def test_texture_coordinates_of_corners_of_no_polygons_count_for_nothing(tmp_path):
    body = "0 0 0\n1 0 0\n1 1 0\n6 0 0 0 0 0 0\n3 0 1 2\n"
    lines = ["element vertex 3", *XYZ, "element face 1", "property list uchar float texcoord"]
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    strips = ["element tristrips 1", "property list uchar int vertex_indices"]
    path = ply(tmp_path, "ascii", *lines, *strips, body=body, comment=b"TextureFile b.png")
    with pytest.warns(MeshWarning, match="has no texture coordinates for it"):
        assert triangles(load_mesh(path)) == SQUARE[:1]


def test_a_header_with_too_few_vertices_is_named_as_the_cause(tmp_path):
    head = "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
    head += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "a.ply").write_text(head + "0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    with pytest.raises(MeshError, match="its header does not fit what follows: 6 numbers"):
        load_mesh(tmp_path / "a.ply")
