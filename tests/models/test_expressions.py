"""The built-in model's expressions move what the muscles move, and nothing else."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from facemodels.models.builtin.expressions import NAMES, expressions
from facemodels.models.builtin.eyes import EYE, LID_MARGIN_RING
from facemodels.models.builtin.mouth import LIP_BORDER_RING, LIP_CONTACT_RING
from facemodels.models.builtin.template import build

BLINKS = (0.25, 0.5, 0.75, 1.0)


@pytest.fixture(scope="module")
def head():
    return build()


@pytest.fixture(scope="module")
def offsets(head):
    return dict(zip(NAMES, expressions(head).astype(float)))


def posed(head, offsets, **coefficients):
    return head.vertices + sum(c * offsets[name] for name, c in coefficients.items())


def moved(offsets, where):
    return np.linalg.norm(offsets[where], axis=-1)


def ball_radius(head, angle):
    """Of the left eyeball, cornea included, at angles from the line of sight."""
    d = head.vertices[head.parts["left eye"]] - EYE
    r = np.linalg.norm(d, axis=1)
    at = np.arccos(np.clip(d[:, 2] / r, -1, 1))
    order = at.argsort()
    return np.interp(angle, at[order], r[order])


def clearance(head, points):
    """Distance of points from the left eyeball, along the radius."""
    d = points - EYE
    r = np.linalg.norm(d, axis=-1)
    return r - ball_radius(head, np.arccos(d[..., 2] / r))


def halves(head, ring):
    """(upper, lower) vertices of a ring from its right corner to its left one, both corners in each.

    Upper is the half that is higher on the undeformed head.
    """
    p = head.vertices[ring]
    ring = np.roll(ring, -p[:, 0].argmin())
    left = head.vertices[ring, 0].argmax()
    one, other = ring[: left + 1], np.append(ring[left:], ring[0])[::-1]
    return (one, other) if head.vertices[one, 1].mean() > head.vertices[other, 1].mean() else (other, one)


def at_x(points, x):
    """(y, z) of a curve of points with rising x."""
    return np.stack([np.interp(x, points[:, 0], points[:, k]) for k in (1, 2)], 1)


def skin_faces(head):
    """Visible triangles: without eyeballs, teeth, tongue, the nostrils and what lies behind lips and lids."""
    hidden = [
        head.parts[n]
        for n in (
            "left eye",
            "right eye",
            "upper teeth",
            "lower teeth",
            "tongue",
            "mouth end",
            "left nostril end",
            "right nostril end",
        )
    ]
    hidden.append(head.rings["mouth"][LIP_CONTACT_RING + 1 :].ravel())
    for side in ("left", "right"):
        hidden += [head.rings[f"{side} eye"][LID_MARGIN_RING + 1 :].ravel(), head.rings[f"{side} nostril"][2:].ravel()]
    return head.faces[~np.isin(head.faces, np.concatenate(hidden)).any(1)]


def normals(vertices, faces):
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


# ----------------------------------------------------------- names and symmetry


def test_names_are_the_52_of_arkit_in_apples_order():
    assert len(NAMES) == 52 and len(set(NAMES)) == 52
    assert list(NAMES) == sorted(NAMES)
    sided = {n.removesuffix("Left") for n in NAMES if n.endswith("Left")}
    assert sided == {n.removesuffix("Right") for n in NAMES if n.endswith("Right")} and len(sided) == 20
    whole = {
        "browInnerUp", "cheekPuff", "jawForward", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker",
        "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "tongueOut",
    }  # fmt: skip
    assert {n for n in NAMES if not n.endswith(("Left", "Right"))} == whole


def test_offsets_are_finite_float32_of_the_templates_shape_and_none_is_empty(head):
    e = expressions(head)
    assert e.shape == (52, *head.vertices.shape) and e.dtype == np.float32 and np.isfinite(e).all()
    assert (np.abs(e).max((1, 2)) > 1).all()


@pytest.mark.parametrize("name", [n for n in NAMES if not n.endswith("Right")])
def test_right_is_the_exact_mirror_image_of_left_and_whole_shapes_of_themselves(head, offsets, name):
    mirrored = offsets[name][head.symmetry] * [-1, 1, 1]
    np.testing.assert_array_equal(mirrored, offsets[name.replace("Left", "Right")])


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith("Left") and n not in ("jawLeft", "mouthLeft")])
def test_a_side_leaves_the_other_side_alone(head, offsets, name):
    assert moved(offsets[name], head.vertices[:, 0] < -15).max() == 0


# ------------------------------------------------------------------------- eyes


@pytest.mark.parametrize("amount", BLINKS)
@pytest.mark.parametrize("name", ["eyeBlinkLeft", "eyeLookDownLeft", "eyeLookUpLeft", "eyeWideLeft", "eyeSquintLeft"])
def test_lids_stay_outside_the_eyeball_on_the_whole_way(head, offsets, name, amount):
    v = posed(head, offsets, **{name: amount})
    rings = head.rings["left eye"]
    still = clearance(head, v[rings])
    assert still.min() > 0
    skin = head.faces[np.isin(head.faces, rings[: LID_MARGIN_RING + 1]).all(1)]
    assert clearance(head, v[skin].mean(1)).min() > 0  # nor does the ball come through between the vertices


def test_blink_closes_the_fissure(head, offsets):
    v = posed(head, offsets, eyeBlinkLeft=1)
    upper, lower = halves(head, head.rings["left eye"][LID_MARGIN_RING])
    x = np.linspace(v[lower[0], 0] + 0.2, v[lower[-1], 0] - 0.2, 200)
    gap = at_x(v[upper], x) - at_x(v[lower], x)
    assert gap[:, 0].max() < 0.15 and gap[:, 0].min() > -1  # seen from the front
    assert np.abs(gap[:, 1]).max() < 0.6
    before = at_x(head.vertices[upper], x) - at_x(head.vertices[lower], x)
    assert before[:, 0].max() > 9


def test_blink_leaves_the_eyeball_in_place(head, offsets):
    assert moved(offsets["eyeBlinkLeft"], head.parts["left eye"]).max() == 0


@pytest.mark.parametrize(
    ("name", "axis", "sign"),
    [("eyeLookUpLeft", 1, 1), ("eyeLookDownLeft", 1, -1), ("eyeLookOutLeft", 0, 1), ("eyeLookInLeft", 0, -1)],
)
def test_gaze_turns_the_ball_about_its_center_by_25_to_30_degrees(head, offsets, name, axis, sign):
    ball = head.parts["left eye"]
    rest = head.vertices[ball] - EYE
    pole = rest[:, 2].argmax()
    for amount in BLINKS:
        now = rest + amount * offsets[name][ball]
        assert np.abs(np.linalg.norm(now, axis=1) - np.linalg.norm(rest, axis=1)).max() < 0.6
    turned = np.degrees(np.arctan2(now[pole, axis] * sign, now[pole, 2]))
    assert 25 <= round(turned, 3) <= 30
    np.testing.assert_allclose(np.linalg.norm(now, axis=1), np.linalg.norm(rest, axis=1), atol=1e-4)
    assert abs(now[pole, 1 - axis]) < 1e-4


def test_looking_down_the_upper_lid_covers_the_iris_no_more_than_looking_ahead(head, offsets):
    ball, margin = head.parts["left eye"], halves(head, head.rings["left eye"][LID_MARGIN_RING])[0]
    middle = margin[np.abs(head.vertices[margin, 0] - EYE[0]).argmin()]

    def lid_above_pupil(v):
        return v[middle, 1] - v[ball[(head.vertices[ball] - EYE)[:, 2].argmax()], 1]

    ahead, down = lid_above_pupil(head.vertices), lid_above_pupil(posed(head, offsets, eyeLookDownLeft=1))
    assert 0.6 * ahead < down < 1.3 * ahead


# -------------------------------------------------------------------------- jaw


def test_jaw_opens_by_about_40_mm_between_the_incisors_and_teeth_stay_rigid(head, offsets):
    teeth = head.parts["lower teeth"]
    front = teeth[head.vertices[teeth, 2].argmax()]
    assert 35 < moved(offsets["jawOpen"], front) < 45
    some = teeth[::7]
    np.testing.assert_allclose(pdist(posed(head, offsets, jawOpen=1)[some]), pdist(head.vertices[some]), atol=1e-3)


def test_jaw_opening_parts_the_lips_and_leaves_skull_and_upper_lip_in_place(head, offsets):
    d, v, mark = offsets["jawOpen"], head.vertices, head.landmarks
    upper_lip, nose, brows_and_eyes = [51, 62], list(range(27, 36)), list(range(17, 27)) + list(range(36, 48))
    assert moved(d, mark[upper_lip + nose + brows_and_eyes]).max() < 0.1
    assert moved(d, head.parts["upper teeth"]).max() == 0
    assert moved(d, (v[:, 2] < -10) & (v[:, 1] > -100)).max() < 0.1  # skull and nape
    assert moved(d, v[:, 1] < -160).max() < 1  # the base of the neck
    lips = posed(head, offsets, jawOpen=1)[mark[[62, 66]]]
    assert 35 < np.linalg.norm(lips[0] - lips[1]) < 45
    corner, lower_lip = d[mark[54]], d[mark[66]]
    assert 0.35 < np.linalg.norm(corner) / np.linalg.norm(lower_lip) < 0.6  # the corners go about half way


def test_lower_lip_and_chin_go_with_the_lower_teeth(head, offsets):
    """Half open too, so that the teeth do not come through the lip."""
    teeth, contact = head.parts["lower teeth"], head.rings["mouth"][LIP_CONTACT_RING]
    front = teeth[head.vertices[teeth, 2].argmax()]
    middle = contact[(np.abs(head.vertices[contact, 0]) < 3) & (offsets["jawOpen"][contact, 1] < -10)]
    for amount in (0.5, 1.0):
        v = posed(head, offsets, jawOpen=amount)
        before = head.vertices[middle, 2] - head.vertices[front, 2]
        assert np.abs(v[middle, 2] - v[front, 2] - before).max() < 5
        assert (v[middle, 2] > v[front, 2] + 3).all()


def test_closed_lips_meet_and_do_not_cross_while_the_jaw_is_open(head, offsets):
    upper, lower = halves(head, head.rings["mouth"][LIP_CONTACT_RING])
    for amount in (0.5, 1.0):
        v = posed(head, offsets, jawOpen=amount, mouthClose=amount)
        x = np.linspace(-22, 22, 90)
        gap = at_x(v[upper], x) - at_x(v[lower], x)
        rest = at_x(head.vertices[upper], x) - at_x(head.vertices[lower], x)
        assert np.abs(gap - rest).max() < 0.3
        assert gap[:, 0].min() > 0
        assert moved(v - head.vertices, head.parts["lower teeth"]).min() > 10 * amount


def test_sideways_jaw_moves_the_chin_6_to_12_mm_and_not_the_nose(head, offsets):
    assert 6 < offsets["jawLeft"][head.landmarks[8], 0] < 12
    assert moved(offsets["jawLeft"], head.landmarks[27:36]).max() < 0.2


# ------------------------------------------------------------------- amplitudes


def test_peak_movements_are_typical_of_people(head, offsets):
    mark = head.landmarks
    smile = offsets["mouthSmileLeft"][mark[54]]
    assert 12 < np.linalg.norm(smile) < 15 and smile[0] > 5 and smile[1] > 5 and smile[2] < -3  # outwards, up, back
    assert offsets["mouthFrownLeft"][mark[54], 1] < -5
    pucker = posed(head, offsets, mouthPucker=1)
    width = [np.linalg.norm(p[mark[48]] - p[mark[54]]) for p in (head.vertices, pucker)]
    assert 12 < width[0] - width[1] < 18
    assert 6 < offsets["mouthPucker"][mark[51], 2] < 10
    funnel = posed(head, offsets, mouthFunnel=1)
    assert 8 < funnel[mark[62], 1] - funnel[mark[66], 1] < 16
    assert 7 < offsets["browInnerUp"][mark[22], 1] < 10 and 7 < offsets["browOuterUpLeft"][mark[25], 1] < 10
    assert -9 < offsets["browDownLeft"][mark[22], 1] < -5
    assert offsets["cheekPuff"][:, 0].max() > 5
    assert 20 < offsets["tongueOut"][head.parts["tongue"], 2].max() < 40


CLOSED = (
    "mouthSmileLeft", "mouthDimpleLeft", "mouthFrownLeft", "mouthPressLeft", "mouthRollUpper", "mouthRollLower",
    "mouthShrugUpper", "cheekPuff", "noseSneerLeft", "jawForward",
)  # fmt: skip


@pytest.mark.parametrize("name", CLOSED)
def test_lips_stay_closed_in_shapes_that_do_not_open_the_mouth(head, offsets, name):
    """Seen from the front no slit opens: the upper lip's lowest point is hardly above the lower lip's highest."""
    both = {name: 1, name.replace("Left", "Right"): 1}
    v = posed(head, offsets, **both)
    x = np.linspace(-16, 16, 60)
    lips = [halves(head, ring) for ring in head.rings["mouth"][LIP_BORDER_RING : LIP_CONTACT_RING + 2]]
    low = np.min([at_x(v[upper], x)[:, 0] for upper, _ in lips], 0)
    high = np.max([at_x(v[lower], x)[:, 0] for _, lower in lips], 0)
    assert (low - high).max() < 0.4


@pytest.mark.parametrize(("name", "half"), [("mouthRollUpper", 0), ("mouthRollLower", 1)])
def test_rolled_lips_show_little_of_their_red(head, offsets, name, half):
    """Between its border with the skin and the edge of the other lip."""
    edge, touching = (
        halves(head, head.rings["mouth"][LIP_BORDER_RING])[half],
        halves(head, head.rings["mouth"][LIP_CONTACT_RING])[1 - half],
    )
    red = [
        np.abs(at_x(v[edge], [0.0]) - at_x(v[touching], [0.0]))[0, 0]
        for v in (head.vertices, posed(head, offsets, **{name: 1}))
    ]
    assert red[1] < 0.7 * red[0]


# ----------------------------------------------------------------- mesh quality


# mouthClose corrects jawOpen and makes no sense alone. The fold of the upper lid, whose underside faces down, turns
# forwards when the lid goes down.
@pytest.mark.parametrize("name", [n for n in NAMES if not n.endswith("Right") and n != "mouthClose"])
def test_no_triangle_of_the_skin_turns_over(head, offsets, name):
    faces = skin_faces(head)
    if name in ("eyeBlinkLeft", "eyeLookDownLeft"):
        faces = faces[~np.isin(faces, head.rings["left eye"][LID_MARGIN_RING // 2 : LID_MARGIN_RING + 1]).all(1)]
    before, after = normals(head.vertices, faces), normals(posed(head, offsets, **{name: 1}), faces)
    assert ((before * after).sum(1) > 0).all()


COMBINED = [
    {"jawOpen": 1, "mouthClose": 1},
    {"jawOpen": 1, "mouthFunnel": 1},
    {"mouthSmileLeft": 1, "mouthSmileRight": 1, "cheekSquintLeft": 1, "cheekSquintRight": 1},
    {
        "browInnerUp": 1,
        "browOuterUpLeft": 1,
        "browOuterUpRight": 1,
        "eyeWideLeft": 1,
        "eyeWideRight": 1,
        "jawOpen": 0.7,
    },
    {
        "browDownLeft": 1,
        "browDownRight": 1,
        "noseSneerLeft": 1,
        "noseSneerRight": 1,
        "mouthUpperUpLeft": 0.7,
        "mouthUpperUpRight": 0.7,
    },
]


@pytest.mark.parametrize("coefficients", COMBINED, ids=lambda c: "+".join(c))
def test_no_triangle_of_the_skin_turns_over_in_combinations(head, offsets, coefficients):
    faces = skin_faces(head)
    before, after = normals(head.vertices, faces), normals(posed(head, offsets, **coefficients), faces)
    assert ((before * after).sum(1) > 0).all()


# --------------------------------------------------------------------- locality


@pytest.mark.parametrize("name", NAMES)
def test_expressions_are_local(head, offsets, name):
    d, (_, y, z) = offsets[name], head.vertices.T
    assert moved(d, z < -20).max() < 0.05  # the back of the head
    if not name.startswith("eyeLook"):
        assert moved(d, np.concatenate([head.parts["left eye"], head.parts["right eye"]])).max() == 0
    assert moved(d, head.parts["upper teeth"]).max() == 0
    if not name.startswith("jaw") and name not in ("tongueOut", "mouthClose"):
        assert max(moved(d, head.parts[p]).max() for p in ("lower teeth", "tongue")) == 0
    if name.startswith(("brow", "eye")):
        assert moved(d, y < -45).max() < 0.05  # below the nose
    if name.startswith(("mouth", "jaw", "tongue", "cheekPuff")):
        assert moved(d, y > 10).max() < 0.05  # above the eyes
        assert moved(d, head.landmarks[27:31]).max() < 0.6  # the bridge of the nose
    assert moved(d, y > 85).max() < 0.2  # the top of the head
