"""One name for the face list of every op, its former name, and what an annotation or a help page shows of them."""

import inspect
import warnings

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
