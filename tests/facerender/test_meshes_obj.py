"""OBJ files as programs write them: indices, materials, textures, colors, coordinates."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from facerender.color import to_linear
from facerender.meshes import MeshError, MeshWarning, load_mesh
from facerender.meshes.obj import read_polygons, read_vertices

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
UV = "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
TRIANGLES = [[0, 1, 2], [0, 2, 3]]


def read(tmp_path, text, name="a.obj"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_mesh(path)


def triangles(mesh):
    """The corners of all triangles [F,3,3]."""
    return mesh.vertices[mesh.faces.long()].tolist()


def picture(path, color):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (4, 4), color).save(path)


def first_texel(mesh, index=0):
    return mesh.textures[index].image[0, 0]


def srgb(*color):
    return to_linear(torch.tensor(color, dtype=torch.float32) / 255)


@pytest.mark.parametrize(
    "text",
    [
        SQUARE + "f 1 2 3 4\n",
        SQUARE + "f -4 -3 -2 -1\n",
        SQUARE + "f 1//1 2//1 3//1\nf 1//1 3//1 4//1\nvn 0 0 1\n",
        SQUARE + UV + "f 1/1 2/2 3/3 4/4\n",
        SQUARE + UV + "f 1/1/1 2/2 3 4/4/\nvn 0 0 1\n",
        "v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3 -2 -1\nv 0 1 0\nf -4 -2 -1\n",
        "o a\n" + SQUARE + "g one\nf 1 2 3\ns off\no b\ng two three\nf 1 3 4\n",
        SQUARE.replace("\n", " # a corner\n") + "f 1 2 3 4 # all\n",
        SQUARE.replace("\n", "\r\n") + "f 1 2 \\\r\n3 4\r\n",
        (SQUARE + "f 1 2 3 4\n").replace("\n", "\r"),
        "  " + SQUARE.replace("\n", "\n\t").replace(" ", "  ") + "f\t1\t2 3 4",
        "f 1 2 3 4\n" + SQUARE,
        SQUARE.replace("0\n", "0 1.0\n") + "f 1 2 3 4\n",
        "# K\xf6rper\n".encode("latin-1") + (SQUARE + "f 1 2 3 4\np 1\nl 1 2\n").encode(),
    ],
)
def test_faces_however_they_are_written(text, tmp_path):
    mesh = read(tmp_path, text)
    assert triangles(mesh) == CORNERS[torch.tensor(TRIANGLES)].tolist()


def test_relative_indices_of_texture_coordinates_count_from_their_line(tmp_path):
    picture(tmp_path / "a.png", (9, 9, 9))
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd a.png\n")
    lines = SQUARE.splitlines(keepends=True)
    first = "".join(lines[:3]) + "vt 0 0\nvt 1 0\nvt 1 1\nf -3/-3 -2/-2 -1/-1\n"
    second = "v 0 0 0\nv 1 1 0\nv 0 1 0\nvt .5 0\nvt .5 1\nvt 0 .5\nf -3/-3 -2/-2 -1/-1\n"
    mesh = read(tmp_path, "mtllib a.mtl\nusemtl a\n" + first + second)
    assert mesh.uv[mesh.faces[1].long()].tolist() == [[0.5, 0], [0.5, 1], [0, 0.5]]


def test_texture_seams_copy_vertices_behind_the_others(tmp_path):
    picture(tmp_path / "a.png", (9, 9, 9))
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd a.png\n")
    mesh = read(tmp_path, f"mtllib a.mtl\nusemtl a\n{SQUARE}{UV}vt .5 .5\nf 1/1 2/2 3/3\nf 1/5 3/3 4/4\n")
    assert mesh.vertices[:4].tolist() == CORNERS.tolist() and len(mesh.vertices) == 5
    assert mesh.uv[mesh.faces.long()].tolist() == [[[0, 0], [1, 0], [1, 1]], [[0.5, 0.5], [1, 1], [0, 1]]]
    assert torch.equal(mesh.normals, torch.tensor([0.0, 0, 1]).expand(5, 3))


@pytest.mark.parametrize(
    "line, file",
    [
        ("map_Kd t.png", "t.png"),
        ("map_Kd -s 1 1 1 t.png", "t.png"),
        ("map_Kd -o 0 0 -s 1 1 -mm 0 1 -bm 0.2 -clamp on -texres 256 -blendu off t.png", "t.png"),
        ("map_kd my face.png", "my face.png"),
        ('map_Kd "my face.png"', "my face.png"),
        ("map_Kd maps\\t.png", "maps/t.png"),
        ("map_Kd .\\T.PNG", "t.png"),
        ("map_Kd D:\\elsewhere\\t.png", "t.png"),
        ("map_Kd /elsewhere/t.png", "t.png"),
        ("  map_Kd\tmaps/t.png", "t.png"),
        ("map_Kd 2.png", "2.png"),
    ],
)
def test_textures_are_found_however_they_are_named(line, file, tmp_path):
    picture(tmp_path / file, (200, 30, 90))
    (tmp_path / "a.mtl").write_text(f"newmtl skin\nKd 1 1 1\n{line}\n")
    mesh = read(tmp_path, f"mtllib a.mtl\nusemtl skin\n{SQUARE}{UV}f 1/1 2/2 3/3 4/4\n")
    torch.testing.assert_close(first_texel(mesh), srgb(200, 30, 90))


def test_names_that_are_not_utf_8(tmp_path):
    picture(tmp_path / "b\u00e4r.png", (1, 2, 250))
    (tmp_path / "k\u00f6rper.mtl").write_bytes("newmtl H\u00e4ut\nmap_Kd b\u00e4r.png\n".encode("latin-1"))
    text = f"mtllib k\u00f6rper.mtl\nusemtl H\u00e4ut\n{SQUARE}{UV}f 1/1 2/2 3/3 4/4\n"
    for encoding in ("latin-1", "utf-8"):
        torch.testing.assert_close(first_texel(read(tmp_path, text.encode(encoding))), srgb(1, 2, 250))


def test_scale_and_offset_of_a_texture_move_its_coordinates(tmp_path):
    picture(tmp_path / "t.png", (9, 9, 9))
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd -s 2 3 1 -o 0.25 0.5 0 t.png\n")
    mesh = read(tmp_path, f"mtllib a.mtl\nusemtl a\n{SQUARE}{UV}f 1/1 2/2 3/3 4/4\n")
    assert mesh.uv.tolist() == [[0.25, 0.5], [2.25, 0.5], [2.25, 3.5], [0.25, 3.5]]


def test_several_materials(tmp_path):
    picture(tmp_path / "red.png", (255, 0, 0))
    picture(tmp_path / "blue.png", (0, 0, 255))
    (tmp_path / "a.mtl").write_text("newmtl r\nmap_Kd red.png\nnewmtl b\nmap_Kd blue.png\nnewmtl k\nKd 0 0.5 0\n")
    text = f"mtllib a.mtl\n{SQUARE}{UV}usemtl r\nf 1/1 2/2 3/3\nusemtl b\nf 1/1 3/3 4/4\nusemtl k\nf 1 2 4\n"
    mesh = read(tmp_path, text)
    assert mesh.texture_of_face.tolist() == [0, 1, -1]
    assert [first_texel(mesh, k).tolist() for k in (0, 1)] == [[1, 0, 0], [0, 0, 1]]
    torch.testing.assert_close(mesh.colours[mesh.faces[2].long()], srgb(0, 127.5, 0).expand(3, 3))
    assert (mesh.colours[mesh.faces[:2].long()] == 1).all()


def test_faces_without_texture_coordinates_have_the_materials_color(tmp_path):
    picture(tmp_path / "t.png", (255, 0, 0))
    (tmp_path / "a.mtl").write_text("newmtl a\nKd 0 1 0\nmap_Kd t.png\n")
    mesh = read(tmp_path, f"mtllib a.mtl\nusemtl a\n{SQUARE}{UV}f 1/1 2/2 3/3\nf 1 3 4\n")
    assert mesh.texture_of_face.tolist() == [0, -1]
    assert mesh.colours[mesh.faces[1].long()].tolist() == [[0, 1, 0]] * 3
    assert (mesh.colours[mesh.faces[0].long()] == 1).all()


@pytest.mark.parametrize("what", ["t.png", "a.mtl"])
def test_what_is_named_and_not_there_is_said_once(what, tmp_path):
    (tmp_path / ("a.mtl" if what == "t.png" else "b.mtl")).write_text(
        "newmtl a\nmap_Kd t.png\nnewmtl b\nmap_Kd t.png\n"
    )
    text = f"mtllib a.mtl\nmtllib a.mtl\n{SQUARE}{UV}usemtl a\nf 1/1 2/2 3/3\nusemtl b\nf 1/1 3/3 4/4\n"
    with pytest.warns(MeshWarning, match=f"a.obj: its .* {what} w.*not found") as said:
        mesh = read(tmp_path, text)
    assert len(said) == 1 and not mesh.textures and len(mesh.faces) == 2


def test_many_textures_that_are_not_there_are_few_sentences(tmp_path):
    (tmp_path / "a.mtl").write_text("".join(f"newmtl m{k}\nmap_Kd {k}.png\n" for k in range(9)))
    faces = "".join(f"usemtl m{k}\nf 1/1 2/2 3/3\n" for k in range(9))
    with pytest.warns(MeshWarning) as said:
        read(tmp_path, f"mtllib a.mtl\n{SQUARE}{UV}{faces}")
    assert len(said) == 3 and "7 more" in str(said[-1].message)


@pytest.mark.parametrize("top, form", [(1, "%.4f"), (255, "%d"), (255, "%.1f")])
def test_colors_of_0_to_1_and_of_0_to_255(top, form, tmp_path):
    colors = np.array([[0, 51, 255], [255, 0, 102], [153, 255, 0]])
    rows = "".join(f"v {k} {k * k} 0 " + " ".join(form % (c * top / 255) for c in colors[k]) + "\n" for k in range(3))
    mesh = read(tmp_path, rows + "f 1 2 3\n")
    torch.testing.assert_close(mesh.colours, srgb(*colors.tolist()), atol=1e-4, rtol=0)


def test_vertices_without_triangles_count_for_nothing(tmp_path):
    mesh = read(tmp_path, "v 1e9 0 0\n" + SQUARE + "v nan 0 0\nv inf 9 -1.#IND\nf 2 3 4 5\n")
    assert mesh.vertices.tolist() == CORNERS.tolist() and mesh.origin == (0, 0, 0)


@pytest.mark.parametrize("offset", [1e3, 5.2e6, -3.3e7])
def test_coordinates_far_from_the_origin_keep_their_detail(offset, tmp_path):
    text = "".join(f"v {offset + x / 10:.6f} {2 * offset + y / 10:.6f} {z}\n" for x, y, z in CORNERS.tolist())
    mesh = read(tmp_path, text + "f 1 2 3 4\n")
    there = mesh.vertices.double() + torch.tensor(mesh.origin, dtype=torch.float64)
    wanted = CORNERS.double() / 10 + torch.tensor([offset, 2 * offset, 0.0], dtype=torch.float64)
    torch.testing.assert_close(there, wanted, atol=2e-7, rtol=0)
    torch.testing.assert_close(mesh.vertices.amax(0)[:2], torch.tensor([0.05, 0.05]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "text, words",
    [
        ("v 0 0\nf 1 1 1\n", "line 1: a vertex has 2 numbers; expected 3"),
        (SQUARE + "v 1 2 3 4 5\nf 1 2 3\n", "line 5: a vertex has 5 numbers"),
        (SQUARE + "v 1 2,5 3\nf 1 2 3\n", "line 5: a vertex has '2,5' in place of a number"),
        (SQUARE + "v 1 2-3 3\nf 1 2 3\n", "line 5: a vertex has '2-3'"),
        (SQUARE + "f 1 2 0\n", "line 5: a face has the corner '0'"),
        (SQUARE + "f 1 2 x\n", "line 5: a face has the corner 'x'"),
        (SQUARE + "f 1 2 3/1/1/1\n", "line 5: a face has the corner '3/1/1/1'"),
        (SQUARE + "f 1 2 3.5\n", "line 5: a face has the corner '3.5'"),
        (SQUARE + "f 1 2 1-2\n", "line 5: a face has the corner '1-2'"),
        (SQUARE + "f 1 2 -5\n", "line 5: a face counts back to a vertex before the first"),
        (SQUARE + "f 1 2 3\nf 1 2 5\n", "line 6: a face names vertex 5, and there are 4"),
        (SQUARE + "f 1 2 99999999999999999999\n", "line 5"),
        (SQUARE + UV + "f 1/1 2/2 3/9\n", "texture coordinate 9, and there are 4"),
        (SQUARE + "f 1 2\n", "no triangles"),
        ("v nan 0 0\n" + SQUARE + "f 1 2 3\n", "NaN or infinite"),
    ],
)
def test_a_wrong_line_is_named(text, words, tmp_path):
    with pytest.raises(MeshError, match=r"a\.obj: .*" + words) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0\0"])
def test_a_damaged_texture_is_one_sentence_with_both_names(content, tmp_path):
    (tmp_path / "t.png").write_bytes(content)
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd t.png\n")
    with pytest.raises(MeshError, match=r"a\.obj: t\.png: not a readable texture"):
        read(tmp_path, f"mtllib a.mtl\nusemtl a\n{SQUARE}{UV}f 1/1 2/2 3/3\n")


def test_a_small_file_that_claims_a_huge_texture_is_refused(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "t.png")
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd t.png\n")
    with pytest.raises(MeshError, match="a texture of 9000 x 9000 in"):
        read(tmp_path, f"mtllib a.mtl\nusemtl a\n{SQUARE}{UV}f 1/1 2/2 3/3\n")


def test_pieces_of_a_long_file_are_parsed_like_a_short_one(tmp_path, monkeypatch):
    from facerender.meshes import obj

    rng = np.random.default_rng(0)
    points, faces = rng.normal(size=(300, 3)), rng.integers(0, 300, (400, 3))
    text = "".join("v {:.6f} {:.6f} {:.6f}\n".format(*p) for p in points)
    text += "".join(
        ("f {} {} {}\n" if k % 3 else "f {0}//{0} {1} {2}/\n").format(*(f + 1)) for k, f in enumerate(faces)
    )
    (tmp_path / "a.obj").write_text(text)
    whole = obj.read_obj(tmp_path / "a.obj", warnings.warn)
    monkeypatch.setattr(obj, "CHUNK", 50)
    pieces = obj.read_obj(tmp_path / "a.obj", warnings.warn)
    np.testing.assert_array_equal(whole.vertices, points.round(6))
    np.testing.assert_array_equal(whole.faces, faces)
    np.testing.assert_array_equal(pieces.vertices, whole.vertices)
    np.testing.assert_array_equal(pieces.faces, whole.faces)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    mark = b"\xef\xbb\xbf"
    mesh = read(tmp_path, mark + (SQUARE + "f 1 2 3 4\n").encode())
    assert triangles(mesh) == CORNERS[torch.tensor(TRIANGLES)].tolist()
    picture(tmp_path / "t.png", (200, 30, 90))
    (tmp_path / "a.mtl").write_bytes(mark + b"newmtl skin\r\nmap_Kd \\\r\nt.png\r\n")
    mesh = read(tmp_path, f"mtllib a.mtl\nusemtl skin\n{SQUARE}{UV}f 1/1 2/2 3/3 4/4\n")
    torch.testing.assert_close(first_texel(mesh), srgb(200, 30, 90))


def test_text_of_two_bytes_a_letter_is_refused(tmp_path):
    with pytest.raises(MeshError, match="a.obj: the file is UTF-16 text; save it as UTF-8"):
        read(tmp_path, (SQUARE + "f 1 2 3 4\n").encode("utf-16"))


@pytest.mark.parametrize(
    "line, file",
    [
        ("map_Kd Maps\\Face\\T.PNG", "maps/face/t.png"),
        ("map_Kd -s 1 1 1 -bm 1.5 my own face.png", "my own face.png"),
        ("map_Kd t.png # made by hand", "t.png"),
        ("map_Kd face #2.png", "face #2.png"),
    ],
)
def test_textures_of_other_systems_names(line, file, tmp_path):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    picture(tmp_path / file, (200, 30, 90))
    (tmp_path / "a.mtl").write_text(f"newmtl skin\n{line}\n")
    mesh = read(tmp_path, f"mtllib a.mtl\nusemtl skin\n{SQUARE}{UV}f 1/1 2/2 3/3 4/4\n")
    torch.testing.assert_close(first_texel(mesh), srgb(200, 30, 90))


def test_a_material_that_no_file_has_is_said(tmp_path):
    (tmp_path / "a.mtl").write_text("newmtl a\nKd 1 0 0\n")
    with pytest.warns(MeshWarning, match="a.obj: its material b is in none of its files"):
        read(tmp_path, f"mtllib a.mtl\nusemtl b\n{SQUARE}f 1 2 3 4\n")
    read(tmp_path, f"mtllib a.mtl\nusemtl None\n{SQUARE}f 1 2 3 4\n")  # what Blender wrote for no material


def test_a_texture_without_texture_coordinates_is_said(tmp_path):
    picture(tmp_path / "t.png", (9, 9, 9))
    (tmp_path / "a.mtl").write_text("newmtl a\nmap_Kd t.png\n")
    with pytest.warns(MeshWarning, match="a.obj: .* no texture coordinates"):
        read(tmp_path, f"mtllib a.mtl\nusemtl a\n{SQUARE}f 1 2 3 4\n")


def test_colors_a_little_above_1_are_not_of_0_to_255(tmp_path):
    mesh = read(tmp_path, "v 0 0 0 1.0003 0 0\nv 1 0 0 0 1 0\nv 1 1 0 0 0 1\nf 1 2 3\n")
    assert mesh.colours.tolist() == torch.eye(3).tolist()


def test_tiny_meshes_have_normals_or_are_refused(tmp_path):
    def square(size):
        return "".join(f"v {x * size} {y * size} 0\n" for x, y, _ in CORNERS.tolist()) + "f 1 2 3 4\n"

    torch.testing.assert_close(read(tmp_path, square(1e-11)).normals, torch.tensor([0.0, 0, 1]).expand(4, 3))
    with pytest.raises(MeshError, match="a.obj: a mesh of 1e-20 is too small to draw; scale it up"):
        read(tmp_path, square(1e-20))


def test_polygons_stay_whole_for_those_who_need_them(tmp_path):
    (tmp_path / "a.obj").write_text(f"{SQUARE}{UV}f -4/-4 2/2 3/3 4/1\nf 1 2 3\n")
    found = read_polygons(tmp_path / "a.obj")
    assert found.vertices.tolist() == read_vertices(tmp_path / "a.obj").tolist() == CORNERS.tolist()
    assert found.uv.tolist() == CORNERS[:, :2].tolist() and found.counts.tolist() == [4, 3]
    assert found.corners.tolist() == [[0, 0], [1, 1], [2, 2], [3, 0], [0, -1], [1, -1], [2, -1]]
