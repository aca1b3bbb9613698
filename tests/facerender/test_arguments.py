"""One name for the face list of every op, its former name, and what an annotation or a help page shows of them."""

import inspect
import warnings

import numpy as np
import pytest
import torch

import facerender as fr
from tests.ops import SIZE, random, scene

RENAMED = ("vertex_normals", "render_face", "edge_gradients")
ATTRIBUTES = random((2, 14, 3), torch.float32, "cpu", 1)
TAKE_FACES = (*RENAMED, "rasterize", "interpolate", "bary_derivatives", "bake_texture")


def call(name, keyword, clip, faces, attributes=ATTRIBUTES):
    """An op, with the face list as a keyword."""
    given = {keyword: faces}
    if name == "vertex_normals":
        return fr.vertex_normals(attributes, **given)
    if name == "render_face":
        return fr.render_face(clip, None, attributes, None, size=SIZE, **given)[0]
    fragments = fr.rasterize(clip, faces, SIZE)
    return fr.edge_gradients(fr.interpolate(attributes, faces, fragments), fragments, clip, **given)


@pytest.mark.parametrize("name", TAKE_FACES)
def test_every_op_calls_its_face_list_faces(name):
    parameters = inspect.signature(getattr(fr, name)).parameters
    assert parameters["faces"].annotation == fr.Faces and "topology" not in parameters


@pytest.mark.parametrize("name", RENAMED)
def test_a_face_list_and_its_topology_give_the_same(name):
    clip, topology = scene()
    assert torch.equal(call(name, "faces", clip, topology), call(name, "faces", clip, topology.faces))


@pytest.mark.parametrize("name", RENAMED)
def test_the_former_keyword_works_with_a_warning_at_the_callers_line(name):
    clip, topology = scene()
    want = call(name, "faces", clip, topology)
    with pytest.warns(DeprecationWarning, match=rf"{name}\(\): the argument topology is now called faces") as caught:
        got = call(name, "topology", clip, topology)
    assert torch.equal(got, want)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", RENAMED)
def test_both_names_at_once_are_an_error(name):
    clip, topology = scene()
    with pytest.raises(TypeError, match=rf"{name}\(\) got both faces and topology"):
        getattr(fr, name)(clip, faces=topology, topology=topology)


@pytest.mark.parametrize("keyword", ["faces", "topology"])
@pytest.mark.parametrize("name", RENAMED)
def test_both_keywords_compile_into_one_graph_and_export(name, keyword):
    clip, topology = scene()
    want = call(name, "faces", clip, topology)

    class Module(torch.nn.Module):
        def forward(self, clip):
            return call(name, keyword, clip, topology)

    torch._dynamo.reset()
    got = torch.compile(Module(), fullgraph=True, backend="aot_eager")(clip)
    torch.testing.assert_close(got, want)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Module(), (clip,))
    torch.testing.assert_close(program.module()(clip), want)


def test_messages_about_arrays_and_long_values_are_one_short_line():
    clip, topology = scene()
    picture = np.zeros((8, 8, 3), np.uint8)
    for wrong in (picture, picture.tolist(), "x" * 1000, {k: k for k in range(99)}):
        with pytest.raises(TypeError) as caught:
            fr.render_face(clip, None, ATTRIBUTES, None, topology, SIZE, background=wrong)
        assert "background must be" in str(caught.value) and "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200
        with pytest.raises((TypeError, ValueError)) as caught:
            fr.rasterize(clip, topology, SIZE, cull=wrong)
        assert "cull must be one of" in str(caught.value) and len(str(caught.value)) < 200
    with pytest.raises(TypeError, match=r"clip must be .*got a numpy array float64 \[2, 14, 4\]; torch.from"):
        fr.rasterize(np.zeros((2, 14, 4)), topology, SIZE)


def test_cameras_take_numbers_and_name_arguments_of_another_shape():
    vertices, rotation = random((2, 5, 3), torch.float32, "cpu", 1), torch.eye(3)[None].expand(2, 3, 3)
    place, half = torch.full((2, 2), 30.0), torch.full((2,), 1.5)
    one = fr.camera.weak_perspective(vertices, 1.5, rotation, place, SIZE)
    assert torch.equal(one, fr.camera.weak_perspective(vertices, half, rotation, place, SIZE))
    assert torch.equal(fr.camera.orthographic(vertices, 1.5), fr.camera.orthographic(vertices, half))
    calls = {
        "scale must be a number or a tensor": lambda: fr.camera.weak_perspective(vertices, "1", rotation, place, SIZE),
        r"scale must be \[N|1\]": lambda: fr.camera.weak_perspective(vertices, place, rotation, place, SIZE),
        "rotation must be": lambda: fr.camera.weak_perspective(vertices, 1.0, torch.eye(4), place, SIZE),
        "translation must be": lambda: fr.camera.weak_perspective(vertices, 1.0, rotation, (1.0, 2.0), SIZE),
        "size must be": lambda: fr.camera.weak_perspective(vertices, 1.0, rotation, place, 224),
        "half_height must be": lambda: fr.camera.orthographic(vertices, "1"),
        "vertices must be": lambda: fr.camera.deep3d(np.zeros((1, 5, 3)), rotation, place),
        "eye must be": lambda: fr.camera.look_at((0.0, 0.0, 1.0), place),
        "clip must be": lambda: fr.camera.to_pixels(np.zeros((5, 4)), SIZE),
    }
    for words, call_wrongly in calls.items():
        with pytest.raises((TypeError, ValueError), match=words):
            call_wrongly()


def test_lights_may_be_one_color_for_all():
    ambient, direction, intensity = torch.tensor([[0.1, 0.2, 0.3], [-1.0, 1.0, 2.0], [0.9, 0.8, 0.7]])
    light = fr.lighting.ambient_and_directional
    one = light(ambient, direction, intensity)
    assert one.shape == (1, 9, 3)
    torch.testing.assert_close(one, light(ambient[None], direction[None], intensity[None]))
    torch.testing.assert_close(light(ambient, direction.expand(2, 3), intensity), one.expand(2, 9, 3))
    with pytest.raises(TypeError, match="ambient must be a tensor"):
        light(0.3, direction, intensity)


def test_a_tensor_of_another_dtype_is_named_with_the_cast_that_it_needs():
    clip, topology = scene()
    calls = {
        "faces must be int32 .* got int64 .*; give faces.int()": lambda: fr.rasterize(
            clip, topology.faces.long(), SIZE
        ),
        "clip must be .* got float16 .*; give clip.float()": lambda: fr.rasterize(clip.half(), topology, SIZE),
        "background must be float32, like albedo, .*; give background.to(albedo.dtype)": lambda: fr.render_face(
            clip, None, ATTRIBUTES, None, topology, SIZE, background=torch.zeros(3).double()
        ),
    }
    for words, call_wrongly in calls.items():
        with pytest.raises(TypeError, match=words.replace("(", r"\(").replace(")", r"\)")):
            call_wrongly()
    with pytest.raises(TypeError, match=r"got float32 \[\d+, 3\]$"):  # fractions are no indices
        fr.rasterize(clip, topology.faces.float(), SIZE)


def test_pictures_of_bytes_are_named_with_what_makes_them_linear_light():
    picture = torch.full((1, 4, 4, 3), 128, dtype=torch.uint8)
    clip, topology = scene()
    with pytest.raises(TypeError, match=r"give color.to_linear\(background.float\(\) / 255\), as colors are linear"):
        fr.render_face(clip, None, ATTRIBUTES, None, topology, SIZE, background=picture)
    with pytest.raises(TypeError, match=r"give color.to_linear\(texture.float\(\) / 255\), as colors are linear"):
        fr.sample_texture(picture, torch.zeros(1, 4, 4, 2))
    with pytest.raises(
        TypeError, match=r"srgb must be floating point in 0..1, got torch.uint8; give srgb.float\(\) / 255"
    ):
        fr.color.to_linear(picture)
    with pytest.raises(TypeError, match="linear must be floating point"):
        fr.color.to_srgb(picture)
    with pytest.raises(TypeError, match="srgb must be a tensor, got ndarray"):
        fr.color.to_linear(picture.numpy())
