"""Colours of the built-in model: the pigments' laws, where things are on the mean face, and what the modes change."""

import numpy as np
import pytest

from facemodels.models.builtin import pigments
from facemodels.models.builtin import skin as module
from facemodels.models.builtin.eyes import EYE, IRIS, LID_MARGIN_RING
from facemodels.models.builtin.mouth import LIP_BORDER_RING, LIP_CONTACT_RING
from facemodels.models.builtin.pigments import hair_reflectance, skin_reflectance
from facemodels.models.builtin.skin import skin
from facemodels.models.builtin.skin_maps import SkinMaps
from facemodels.models.builtin.skin_patterns import SYMMETRIC, SkinPatterns
from facemodels.models.builtin.template import build

SIDES = ("left", "right")


@pytest.fixture(scope="module")
def template():
    return build()


@pytest.fixture(scope="module")
def colors(template):
    return skin(template)


@pytest.fixture(scope="module")
def places(template):
    """Vertices of places on the mean face, by name, both sides together."""
    v, mark = template.vertices, template.vertices[template.landmarks]
    p = np.abs(v) * [1, 0, 0] + v * [0, 1, 1]
    inner = np.concatenate(
        [template.parts[n] for n in ("left eye", "right eye", "upper teeth", "lower teeth", "tongue")]
    )
    outside = np.setdiff1d(np.arange(len(v)), inner)

    def near(point, radius):
        return outside[np.linalg.norm(p[outside] - point, axis=1) < radius]

    mouth, border = template.rings["mouth"], LIP_BORDER_RING
    lips = mouth[border + 1 : LIP_CONTACT_RING]
    upper = v[mouth[border], 1] > mark[54, 1]
    middle = np.abs(v[mouth[border], 0]) < 15
    ball = np.concatenate([template.parts[f"{side} eye"] for side in SIDES])
    off = p[ball] - EYE
    radius = np.where(off[:, 2] > 0, np.hypot(off[:, 0], off[:, 1]), np.inf) / IRIS
    brow = (mark[23] + mark[24] + mark[25]) / 3
    return {
        "forehead": near((mark[22] + mark[24]) / 2 + [0, 24, 0], 9),
        "cheek": near((mark[45] + mark[54]) / 2 + [5, -2, -2], 9),
        "nose": near(mark[30], 6),
        "under the eye": near((mark[46] + mark[47]) / 2 + [-3, -8, 2], 4),
        "upper lip": lips[:, upper & middle].ravel(),
        "lower lip": lips[:, ~upper & middle].ravel(),
        "brow": near(brow - [0, 1, 0], 3.5),
        "above the brow": near(brow + [0, 12, 0], 4),
        "below the brow": near(brow - [0, 10, 0], 3),
        "scalp": near([0, mark[24, 1] + 75, 35], 12),
        "chin": near(mark[8] + [0, 10, 9], 6),
        "pupil": ball[radius < 0.2],
        "iris": ball[(radius > 0.5) & (radius < 0.85)],
        "rim of the iris": ball[(radius > 0.93) & (radius < 1.0)],
        "white": ball[(radius > 1.15) & (radius < 1.5)],
        "lash line": template.rings["left eye"][LID_MARGIN_RING][v[template.rings["left eye"][LID_MARGIN_RING], 1] > 2],
        "nostril": np.concatenate([template.rings[f"{side} nostril"][-2:].ravel() for side in SIDES]),
        "ear canal": np.concatenate([template.parts[f"{side} ear end"] for side in SIDES]),
        "throat": template.parts["mouth end"],
        "tongue": template.parts["tongue"],
        "teeth": np.concatenate([edge(v, template.parts[n], s) for n, s in (("upper teeth", -1), ("lower teeth", 1))]),
        "gums": np.concatenate([edge(v, template.parts[n], s) for n, s in (("upper teeth", 1), ("lower teeth", -1))]),
    }


def edge(v, ids, sign):
    """The vertices of a row of teeth within 1.5 mm of its upper (1) or lower (-1) edge, in front."""
    height = sign * v[ids, 1]
    return ids[(height > height.max() - 1.5) & (v[ids, 2] > v[ids, 2].max() - 10)]


def lab(color):
    """CIELAB, D65, of linear sRGB [...,3]."""
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = np.asarray(color, float) @ matrix.T / matrix.sum(1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def typology(color):
    """Individual typology angle, degrees (Chardon et al. 1991)."""
    L, _, b = lab(color)
    return np.degrees(np.arctan2(L - 50, b))


def person(colors, **z):
    modes = sum(value * colors.modes[colors.names.index(name.replace("_", " "))] for name, value in z.items())
    return np.clip(colors.mean + modes, 0, 1)


# --------------------------------------------------------------------- pigments


def test_the_constants_are_the_band_means_of_the_published_formulas():
    def means(f):
        return np.array(
            [np.mean([f(nm) for nm in range(low, high + 1, 10)]) for low, high in ((590, 640), (520, 570), (450, 490))]
        )

    np.testing.assert_allclose(pigments.MELANOSOME, means(lambda nm: 6.6e11 * nm**-3.33), rtol=0.01)
    np.testing.assert_allclose(pigments.BARE, means(lambda nm: 0.244 + 85.3 * np.exp(-(nm - 154) / 66.2)), rtol=0.01)
    np.testing.assert_allclose(pigments.SCATTERING, means(lambda nm: 46 * (nm / 500) ** -1.421), rtol=0.01)
    # Prahl (1998), 1/cm per mole in a liter, every 10 nm: with oxygen, without. Blood has 150 g in a liter, 64500 g to
    # the mole.
    red = [14400.8, 3200, 1506, 942, 610, 442], [28324.4, 14677.2, 9443.6, 6509.6, 5148.8, 4345.2]
    green = [24202.4, 39956.8, 53236, 43016, 32613.2, 44496], [31589.6, 39036.4, 46592, 53412, 53788, 45072]
    blue = [62816, 44480, 33209.2, 26629.2, 23684.4], [103292, 23388.8, 16156.4, 14550, 16684]
    for k, constant in enumerate((pigments.OXYGENATED, pigments.DEOXYGENATED)):
        np.testing.assert_allclose(
            constant, [2.303 * 150 / 64500 * np.mean(band[k]) for band in (red, green, blue)], rtol=0.01
        )


@pytest.mark.parametrize("blood", [0.0, 0.003, 0.02])
def test_more_melanin_is_darker_in_every_band_and_most_of_all_in_blue(blood):
    series = skin_reflectance(np.array([0.01, 0.03, 0.1, 0.3]), blood)
    assert (np.diff(series, axis=0) < 0).all()
    kept = series[1] / series[0]
    assert kept[0] > kept[1] > kept[2]


@pytest.mark.parametrize("melanin", [0.01, 0.05, 0.2])
def test_more_blood_is_darker_in_every_band_and_most_of_all_in_green(melanin):
    series = skin_reflectance(melanin, np.array([0.002, 0.005, 0.01, 0.02]))
    assert (np.diff(series, axis=0) < 0).all()
    lost = np.log(series[0] / series[1])
    assert lost[1] > lost[2] > lost[0]


def test_blood_without_oxygen_takes_red_away_and_yellow_pigment_takes_blue():
    fresh = skin_reflectance(0.03, 0.006, 0.9)
    stale = skin_reflectance(0.03, 0.006, 0.3)
    assert np.argmax(np.log(fresh / stale)) == 0 and stale[0] < fresh[0]
    yellow = skin_reflectance(0.03, 0.006, 0.9, 1.0)
    assert np.argmax(np.log(fresh / yellow)) == 2 and yellow[0] == fresh[0]


def test_melanin_alone_spans_the_classes_of_skin_from_very_light_to_dark():
    angles = [
        typology(skin_reflectance(m, 0.004, 0.7, y))
        for m, y in ((0.02, 1.5), (0.06, 1.0), (0.10, 0.5), (0.16, 0.3), (0.34, 0.0))
    ]
    classes = [(55, 90), (28, 55), (10, 28), (-30, 10), (-90, -30)]
    assert all(low < a < high for a, (low, high) in zip(angles, classes)), angles


def test_hair_goes_from_blond_through_brown_to_black_and_pheomelanin_reddens_it():
    L = lab(hair_reflectance(np.array([0.1, 0.7, 3.0]), 0.05))[:, 0]
    assert L[0] > 45 > L[1] + 10 and L[1] > L[2] + 5 and L[2] < 16
    plain, red = hair_reflectance(0.2, 0.05), hair_reflectance(0.2, 0.8)
    assert red[0] / red[1] > 1.3 * plain[0] / plain[1]


# ------------------------------------------------------------------------- mean


def test_modes_are_finite_float32_of_the_templates_shape_and_named(template, colors):
    V = len(template.vertices)
    assert colors.mean.shape == (V, 3) and colors.mean.dtype == np.float32
    assert len(colors.modes) == len(colors.names) == len(set(colors.names)) >= 30
    assert colors.modes.shape[1:] == (V, 3) and colors.modes.dtype == np.float32
    assert np.isfinite(colors.modes).all() and (np.abs(colors.modes).max((1, 2)) > 0.002).all()


def test_colors_are_in_range_for_the_mean_and_nearly_everywhere_for_random_people(colors):
    assert 0 < colors.mean.min() and colors.mean.max() < 0.9
    z = np.clip(np.random.default_rng(0).standard_normal((40, len(colors.modes))), -2.5, 2.5)
    people = colors.mean + np.einsum("na,avc->nvc", z.astype(np.float32), colors.modes)
    assert (people > 1).mean() == 0 and (people < 0).mean() < 0.01


def test_the_mean_color_is_symmetric(template, colors):
    np.testing.assert_array_equal(colors.mean[template.symmetry], colors.mean)


def test_modes_are_symmetric_except_random_patterns(template, colors):
    for name, mode in zip(colors.names, colors.modes):
        mirrored = mode[template.symmetry]
        kind, _, number = name.rpartition(" ")
        if kind in ("melanin", "blood") and int(number) > SYMMETRIC or kind == "moles":
            np.testing.assert_allclose(mirrored, -mode, atol=1e-6, err_msg=name)
        elif kind in ("freckles", "melanin mottle", "blood mottle"):
            assert np.abs(mirrored - mode).max() > 0.1 * np.abs(mode).max(), name
        else:
            np.testing.assert_allclose(mirrored, mode, atol=1e-6, err_msg=name)


def test_colors_are_the_same_on_every_call(template, colors):
    again = skin(template)
    np.testing.assert_array_equal(again.mean, colors.mean)
    np.testing.assert_array_equal(again.modes, colors.modes)
    assert again.names == colors.names


def at(colors, places, name):
    return lab(colors.mean[places[name]].mean(0))


def test_lips_are_redder_than_skin_and_the_upper_one_is_darker(colors, places):
    skin_, upper, lower = (at(colors, places, n) for n in ("cheek", "upper lip", "lower lip"))
    for lip in (upper, lower):
        assert 3 < lip[1] - skin_[1] < 15 and lip[0] < skin_[0]  # no lipstick
    assert upper[0] < lower[0]


def test_nose_and_cheeks_are_redder_than_the_forehead(colors, places):
    forehead = at(colors, places, "forehead")
    assert at(colors, places, "nose")[1] > forehead[1] + 1.5 and at(colors, places, "cheek")[1] > forehead[1] + 1.5
    assert forehead[0] > at(colors, places, "cheek")[0] and forehead[2] > at(colors, places, "cheek")[2]


def test_under_the_eyes_skin_is_less_yellow_but_no_black_eye(colors, places):
    under, cheek = at(colors, places, "under the eye"), at(colors, places, "cheek")
    assert under[2] < cheek[2] - 0.5 and cheek[0] - 8 < under[0] < cheek[0] + 1


def test_eyes_have_a_black_pupil_a_darker_rim_and_an_off_white_white(colors, places):
    pupil, iris, rim, white = (at(colors, places, n)[0] for n in ("pupil", "iris", "rim of the iris", "white"))
    assert pupil < 10 < iris < white - 25 and rim < iris - 5 and 60 < white < 85


def test_brows_lie_where_the_landmarks_are_and_taper_towards_the_temple(template, colors, places):
    brow, above, below = (at(colors, places, n)[0] for n in ("brow", "above the brow", "below the brow"))
    assert brow < above - 12 and brow < below - 12
    m = SkinMaps(template)
    share = module._brow_cover(m, lambda name: 0.0)
    breadth = [((np.abs(m.brow_along - a) < 0.08) * share).sum() for a in (0.3, 0.95)]
    assert breadth[0] > 1.5 * breadth[1] > 0


def test_lash_line_scalp_and_stubble_are_darker_than_skin(colors, places):
    forehead = at(colors, places, "forehead")[0]
    assert at(colors, places, "lash line")[0] < forehead - 15 and at(colors, places, "scalp")[0] < forehead - 12
    assert at(colors, places, "chin")[0] < forehead - 1


def test_cavities_are_dark_and_the_mouth_is_red_with_off_white_teeth(colors, places):
    for name in ("nostril", "ear canal", "throat"):
        assert at(colors, places, name)[0] < 20, name
    teeth, gums, tongue = (at(colors, places, n) for n in ("teeth", "gums", "tongue"))
    assert 65 < teeth[0] < 90 and 2 < teeth[2] < 20
    assert gums[1] > 12 and tongue[1] > 12 and gums[0] < teeth[0]


def test_there_is_no_hard_edge_on_the_skin(template, colors):
    # Between neighbors; what is inside of lids, lips, nostrils and ears is bounded by form, not by color.
    lids = np.concatenate([template.rings[f"{side} eye"][LID_MARGIN_RING - 1 :].ravel() for side in SIDES])
    hidden = [template.parts[n] for n in template.parts if n != "crown"] + [
        template.rings["mouth"][LIP_CONTACT_RING - 1 :].ravel(),
        lids,
    ]
    hidden += [template.rings[f"{side} {what}"].ravel() for side in SIDES for what in ("ear", "nostril")]
    seen = np.ones(len(colors.mean), bool)
    seen[np.concatenate(hidden)] = False
    pairs = np.concatenate([template.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    pairs = pairs[seen[pairs].all(1)]
    L = lab(colors.mean)[:, 0]
    assert np.abs(L[pairs[:, 0]] - L[pairs[:, 1]]).max() < 19  # of about 23 between hair and skin


# ------------------------------------------------------------------------ modes


def test_skin_tone_comes_first_and_reaches_from_very_light_to_dark_skin(colors, places):
    assert colors.names[0] == "skin tone"
    for place in ("forehead", "cheek"):
        lightest, light, dark, darkest = (
            person(colors, skin_tone=z)[places[place]].mean(0) for z in (2.5, 2.0, -2.0, -2.5)
        )
        assert typology(lightest) > 55 and typology(light) > 52 and typology(dark) < -30 and typology(darkest) < -45, (
            place
        )
        for color in (lightest, light, dark, darkest):
            L, a, b = lab(color)
            assert 25 < L < 78 and 5 < a < 16 and 8 < b < 22, place


def test_along_the_skin_tone_the_model_meets_the_generator_at_both_ends(template, colors):
    m = SkinMaps(template)
    patterns = SkinPatterns(m)
    for z in (module._CHORD, -module._CHORD):
        exact = module._with_hair_and_eyes(m, module._without_hair(m, patterns, {"skin tone": z}), {"skin tone": z})
        np.testing.assert_allclose(colors.mean + z * colors.modes[0], exact, atol=1e-5)


def test_pigment_modes_are_differences_of_the_generator_under_hair_too(template, colors):
    m = SkinMaps(template)
    patterns = SkinPatterns(m)

    def whole(name, z):
        return module._with_hair_and_eyes(m, module._without_hair(m, patterns, {name: z}), {name: z})

    for name in ("blood", "melanin 2", "stubble", "light eyes"):
        step = module._STEP.get(name, 1.0)
        expected = (whole(name, step) - whole(name, -step)) / (2 * step)
        np.testing.assert_allclose(colors.modes[colors.names.index(name)], expected, atol=1e-6, err_msg=name)


def test_light_skin_goes_with_lighter_hair_and_eyes(colors, places):
    for place in ("scalp", "brow", "iris"):
        light, dark = (lab(person(colors, skin_tone=z)[places[place]].mean(0))[0] for z in (1.5, -1.5))
        assert light > dark + 5, place


@pytest.mark.parametrize(
    "name, place, channel, sign",
    [
        ("blood", "cheek", 1, 1),
        ("cheeks", "cheek", 1, 1),
        ("nose", "nose", 1, 1),
        ("yellow", "forehead", 2, 1),
        ("lip colour", "lower lip", 1, 1),
        ("shadows under the eyes", "under the eye", 0, -1),
        ("hair lightness", "scalp", 0, 1),
        ("thin on top", "scalp", 0, 1),
        ("dense brows", "brow", 0, -1),
        ("stubble", "chin", 0, -1),
        ("light eyes", "iris", 0, 1),
        ("light eyes", "iris", 2, -1),
        ("teeth", "teeth", 0, 1),
    ],
)
def test_a_mode_changes_what_its_name_says(colors, places, name, place, channel, sign):
    more, less = (lab(person(colors, **{name: z})[places[place]].mean(0))[channel] for z in (1.0, -1.0))
    assert sign * (more - less) > 0.5


def test_modes_of_eyes_and_hair_leave_the_rest_alone(colors, places):
    for name, place in (
        ("light eyes", "cheek"),
        ("thick brows", "forehead"),
        ("stubble", "forehead"),
        ("high hairline", "cheek"),
        ("cheeks", "iris"),
    ):
        assert np.abs(colors.modes[colors.names.index(name)][places[place]]).max() < 1e-3, name
