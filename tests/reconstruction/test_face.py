"""A reconstructed face as a value, as a mesh and in its picture (facemodels.reconstruction.face)."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import facemodels
import facerender as fr
from facemodels import InputError
from facemodels.methods.neutral import measure_neutral, read_neutral
from facemodels.reconstruction.face import Origin
from facemodels.reconstruction.files import check_outputs
from facerender.meshes import load_mesh
from tests.face_patch import patch
from tests.stub_method import HEIGHT, WIDTH, ramps

BOX = (110, 60, 210, 190)


@pytest.fixture
def face(stub):
    (face,) = facemodels.reconstruct(ramps(), stub, boxes=BOX)
    return face


def test_a_face_knows_its_mesh_and_where_it_lies_in_the_picture(face, stub):
    assert face.size == (HEIGHT, WIDTH) and face.model is stub.model
    assert face.vertices.shape == (stub.model.num_vertices, 3) and torch.equal(face.faces, stub.model.faces)
    pixels = face.pixels()
    seen = face.camera().pixels(face.vertices[None])[0]
    torch.testing.assert_close(pixels[:, :2], seen, rtol=0, atol=1e-3)
    nose = int(stub.model.landmark_index[30, 0])
    assert pixels[nose, 2] > pixels[:, 2].mean()  # z toward the viewer
    torch.testing.assert_close(face.mesh_landmarks, face.landmarks, rtol=0, atol=1e-2)  # of this method


def test_the_renderer_draws_over_the_picture_with_the_camera_of_a_face(face):
    clip = face.camera().clip(face.vertices[None])
    fragments = fr.rasterize(clip, face.model.topology, face.size)
    drawn = torch.nonzero(fragments.face_id[0] >= 0).float().flip(1)  # x, y
    seen = face.pixels()[:, :2]
    torch.testing.assert_close(drawn.amin(0), seen.amin(0), rtol=0, atol=2)
    torch.testing.assert_close(drawn.amax(0), seen.amax(0), rtol=0, atol=2)


def test_faces_say_what_they_are_in_one_line(face):
    assert repr(face) == "Face(box (110, 60, 210, 190), confidence 1.00, pitch -6, yaw -23, roll 11)"
    assert repr(replace(face, track=3)).endswith("roll 11, track 3)")


def test_faces_are_compared_and_copied(face):
    again = copy.deepcopy(face)
    assert again == face and copy.copy(face) == face and hash(again) == hash(face) and face in [again]
    assert again.parameters.landmarks is not face.parameters.landmarks
    assert again.model is face.model and again.picture is face.picture
    assert face != face.with_parameters(identity=face.identity + 1) and face != replace(face, score=0.5)
    assert face != replace(face, parameters=face.parameters._replace(albedo=torch.zeros(1, 2))) and face != 3


def test_pickles_of_faces_are_light_and_come_back_with_their_model(face):
    data = pickle.dumps(face)
    assert len(data) < 8000
    again = pickle.loads(data)
    assert again == face and again.picture is None
    torch.testing.assert_close(again.vertices, face.vertices)


def test_the_picture_is_read_again_from_its_file(stub, tmp_path):
    Image.fromarray(ramps()).save(tmp_path / "a.png")
    (face,) = facemodels.reconstruct(tmp_path / "a.png", stub, boxes=BOX)
    again = pickle.loads(pickle.dumps(face))
    np.testing.assert_array_equal(again.picture, ramps())
    assert not np.array_equal(again.overlay(), ramps())
    Image.fromarray(ramps()[:50]).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: the picture has changed"):
        _ = again.picture
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png: the picture of this face is no longer there"):
        again.overlay()


def test_the_mesh_is_saved_with_the_colors_of_the_picture(face, tmp_path):
    mesh = face.mesh()
    assert mesh.texture is not None and face.mesh(texture=False).texture is None
    mesh.save(tmp_path / "face.glb")
    assert len(load_mesh(tmp_path / "face.glb").vertices) >= len(face.vertices)
    assert pickle.loads(pickle.dumps(face)).mesh().texture is None


def test_overlays_of_several_faces_are_drawn_by_one_function(face):
    drawn = facemodels.overlay(ramps(), [face])
    np.testing.assert_array_equal(drawn, face.overlay())
    assert drawn.shape == ramps().shape and not np.array_equal(drawn, ramps())
    np.testing.assert_array_equal(facemodels.overlay(ramps(), []), ramps())
    with pytest.raises(InputError, match="does not keep its picture"):
        replace(face, source=None).overlay()


def test_arkit_curves_are_0_for_what_neutral_faces_answer(face, stub):
    names = stub.model.expression_names
    assert list(face.arkit) == list(names) and face.arkit[names[0]] == 0.5  # nothing was measured
    neutral = torch.zeros(52)
    neutral[:2] = torch.tensor([0.2, 0.1])
    face = face.with_parameters(expression=torch.tensor([0.6, 0.1, 0.3, -0.1] + [0.0] * 48))
    curves = list(replace(face, origin=Origin(stub.model, "builtin", neutral)).arkit.values())
    assert curves[:4] == pytest.approx([0.5, 0, 0.3, 0]) and max(curves[4:]) == 0


def test_a_model_without_arkits_expressions_says_so(face, stub, monkeypatch):
    monkeypatch.setattr(stub.model, "blendshapes", False)
    with pytest.raises(InputError, match="are not ARKit's"):
        _ = face.arkit
    with pytest.raises(InputError, match="has no blend shapes"):
        measure_neutral(stub, 1)


def test_a_face_that_was_transferred_to_a_model_without_arkits_expressions_keeps_its_curves(face, stub):
    other = patch()
    zero = torch.zeros(other.num_expression)
    moved = replace(face.with_parameters(expression=zero), origin=Origin(other, "patch"), before=face)
    assert moved.arkit == face.arkit
    check_outputs(["arkit"], other, stub.model)
    with pytest.raises(InputError, match="are not ARKit's"):
        _ = moved.with_parameters(expression=zero).arkit  # no longer the expression of that face
    with pytest.raises(InputError, match="--write arkit: the expressions of the model .* are not ARKit's"):
        check_outputs(["arkit"], other)


def test_a_face_without_its_model_says_so(face):
    with pytest.raises(InputError, match="does not know its morphable model"):
        _ = replace(face, origin=None).vertices
    with pytest.raises(InputError, match="does not know the size of its picture"):
        replace(face, size=None).camera()


@pytest.mark.parametrize("name", facemodels.weights.names())
def test_shipped_weights_have_a_neutral_value_for_each_curve(name):
    method = facemodels.load_method(name)
    assert method.neutral is not None and method.neutral.shape == (52,)
    assert 0 < method.neutral.max() < 0.5


def test_neutral_values_are_measured_on_faces_without_expression(stub):
    with torch.no_grad():
        measured = measure_neutral(stub, 1)
    assert measured == {name: 0.5 * (k == 0) for k, name in enumerate(stub.model.expression_names)}


@pytest.mark.parametrize("text", ["{", "[]", '{"browDownLeft": 0.1}'])
def test_damaged_neutral_values_are_refused(stub, tmp_path, text):
    assert read_neutral(tmp_path, stub.model) is None
    (tmp_path / "neutral.json").write_text(text)
    with pytest.raises(InputError, match=r"neutral\.json: expected a number in 0\.\.1 for each expression"):
        read_neutral(tmp_path, stub.model)
