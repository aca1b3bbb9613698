"""Models that face another way, and modes in a larger unit than the mean's, are named."""

import warnings

import numpy as np
import pytest

from facemodels import ModelData
from facemodels.core.errors import InputError
from facemodels.core.landmarks import mirror_order
from facemodels.models.builtin import builtin_data
from facemodels.models.plausible import wrong_front

KEPT = ("faces", "expression_names", "blendshapes", "landmark_index", "landmark_weights", "regions")
TURNS = {
    "z up, -y out": lambda a: a[..., [0, 2, 1]] * [1, -1, 1],
    "y down, z in": lambda a: a * [1, -1, -1],
    "z in": lambda a: a * [-1, 1, -1],
    "x up": lambda a: a[..., [1, 0, 2]] * [1, -1, 1],
    "mirrored": lambda a: a * [-1, 1, 1],
    "mirrored, z in": lambda a: a * [1, 1, -1],
}


@pytest.fixture(scope="module")
def builtin():
    data = builtin_data()
    few = {"mean": data.mean, "identity": data.identity[:20], "expression": data.expression}
    return few | {name: getattr(data, name) for name in KEPT}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_model_that_faces_another_way_is_refused_with_what_turns_it(builtin, turn):
    arrays = {name: turn(builtin[name]) for name in ("mean", "identity", "expression")}
    with pytest.raises(InputError, match="mine: mean must have y up, .* by its landmarks") as caught:
        ModelData(name="mine", **(builtin | arrays))
    words = str(caught.value).partition("expression: ")[2].partition(", unless")[0]
    turned = {name: eval(words, {"np": np, "array": array}) for name, array in arrays.items()}
    np.testing.assert_array_equal(turned["mean"], builtin["mean"])
    assert np.array_equal(ModelData(name="mine", **(builtin | turned)).faces, builtin["faces"])


def test_message_says_which_way_the_model_faces(builtin):
    with pytest.raises(
        InputError, match=r"but by its landmarks \+z is up, -y is out of the face and \+x is to the left"
    ):
        ModelData(name="mine", **(builtin | {"mean": TURNS["z up, -y out"](builtin["mean"])}))


def test_a_model_without_landmarks_that_faces_along_another_axis_is_refused(builtin):
    bare = builtin | {"landmark_index": None, "landmark_weights": None}
    assert ModelData(name="mine", **bare).landmark_index is None
    arrays = {name: TURNS["z up, -y out"](builtin[name]) for name in ("mean", "identity", "expression")}
    with pytest.raises(InputError, match="its surface faces along y; turn mean, identity and expression") as caught:
        ModelData(name="mine", **(bare | arrays))
    words = str(caught.value).partition("expression: ")[2].partition(" where z was up")[0]
    turned = eval(words, {"np": np, "array": arrays["mean"]})
    np.testing.assert_array_equal(turned, builtin["mean"])
    sideways = {name: builtin[name][..., [2, 1, 0]] for name in ("mean", "identity", "expression")}
    with pytest.raises(InputError, match="its surface faces along x"):
        ModelData(name="mine", **(bare | sideways))


def test_a_closed_surface_without_landmarks_faces_no_way():
    rows, columns = np.meshgrid(np.linspace(0, np.pi, 20), np.linspace(0, 2 * np.pi, 40), indexing="ij")
    ball = 90 * np.stack([np.sin(rows) * np.cos(columns), np.cos(rows), np.sin(rows) * np.sin(columns)], -1)
    a = (np.arange(19)[:, None] * 40 + np.arange(39)).reshape(-1)
    faces = np.concatenate([np.stack([a, a + 1, a + 40], 1), np.stack([a + 40, a + 1, a + 41], 1)])
    assert wrong_front(faces, ball.reshape(-1, 3)) is None


def test_exchanged_sides_of_landmarks_are_named_as_the_other_reason(builtin):
    order = list(mirror_order(68))
    landmarks = {name: builtin[name][order] for name in ("landmark_index", "landmark_weights")}
    with pytest.raises(InputError, match="-x is to the left; .* unless left and right of the landmarks are exchanged"):
        ModelData(name="mine", **(builtin | landmarks))


def test_faces_that_look_up_or_aside_a_little_and_models_without_eyes_are_taken(builtin):
    angle = np.radians(30)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    ModelData(name="mine", **(builtin | {"mean": builtin["mean"] @ turn.T}))
    blind = builtin["landmark_weights"].copy()
    blind[36:48] = 0
    ModelData(name="mine", **(builtin | {"mean": -builtin["mean"], "landmark_weights": blind}))


@pytest.mark.parametrize(
    "name, factor, words",
    [
        ("identity", 0.1, "identity moves the face by 0.4.. mm .*; if it is in centimeters, multiply it by 10;"),
        ("identity", 1e-3, "in meters, multiply it by 1000;"),
        ("expression", 1e-3, "expression moves no vertex by more than 0.04.. mm.*in meters, multiply it by 1000"),
    ],
)
def test_modes_in_a_larger_unit_than_the_mean_warn(builtin, name, factor, words):
    with pytest.warns(UserWarning, match=f"mine: .*{words}"):
        ModelData(name="mine", **(builtin | {name: builtin[name] * factor}))


def test_modes_that_are_missing_or_zero_are_taken_in_silence(builtin):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = ModelData(name="mine", **(builtin | {"identity": None, "expression": None, "expression_names": ()}))
        ModelData(name="mine", **(builtin | {"identity": 0 * builtin["identity"]}))
    assert data.identity.shape == data.expression.shape == (0, len(data.mean), 3)


def test_quads_and_missing_arrays_are_named_with_what_to_do(builtin):
    quads = np.c_[builtin["faces"], builtin["faces"][:, :1]]
    with pytest.raises(InputError, match=r"faces must be triangles \[F,3\], got \[\d+,4\]; .* splits them"):
        ModelData(name="mine", **(builtin | {"faces": quads}))
    for name, letter in (("mean", "V"), ("faces", "F")):
        with pytest.raises(InputError, match=rf"mine: {name} must be an array \[{letter},3\], got None"):
            ModelData(name="mine", **(builtin | {name: None}))


def test_names_of_expressions_may_be_an_array_of_numpy(builtin):
    names = np.array([f"e{k}" for k in range(len(builtin["expression"]))])
    assert ModelData(name="mine", **(builtin | {"expression_names": names})).expression_names[:2] == ("e0", "e1")
