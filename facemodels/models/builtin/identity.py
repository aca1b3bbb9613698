"""Identity modes: a Gaussian-process morphable model (Lüthi et al., Gaussian Process Morphable Models, 2018) with the published covariance
of facial measurements.

The deviation of a head from the mean is a smooth random field over the surface: the sum of squared-exponential kernels of several widths,
split into a left-right symmetric part and a small asymmetric one. Its low-rank form is computed from a few hundred inducing points
(Nyström), rigid motion is taken out, and the covariance is then changed by as little as it takes to give every measurement of
`anthropometry` exactly its published variance and correlations. The eigenvectors of the result are the modes.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular

from facemodels.models.builtin import anthropometry
from facemodels.models.builtin.eyes import EYE, EYE_RADIUS, EYE_RINGS, LID_MARGIN_RING
from facemodels.models.builtin.template import Template

MODES = 100
# Width of the kernel and standard deviation of the field, mm; how much of it there is outside the face.
_SCALES = ((95.0, 2.4, 1.0), (42.0, 1.6, 0.8), (22.0, 1.05, 0.5), (12.0, 0.6, 0.25))
_ASYMMETRY = 0.18  # of the standard deviation
_MEASUREMENT_WEIGHT = 250.0  # of a measurement, beside that of a vertex of mean area
_INDUCING = 280
_EVEN, _ODD, _UNEVEN = 115, 90, 14  # features kept of each part


@dataclass(frozen=True)
class Identity:
    modes: np.ndarray  # float32 [MODES,V,3], mm for one standard deviation, by decreasing variance
    directions: dict[
        str, np.ndarray
    ]  # "sex" (men less women, half), "size", "length", "build", "age": float32 [MODES], one standard deviation


def identity(template: Template) -> Identity:
    """The modes of identity and the named directions among them."""
    v = template.vertices
    area = vertex_areas(v, template.faces)
    unseen = np.zeros(len(v), bool)
    unseen[np.concatenate([p for n, p in template.parts.items() if "eye" in n or "teeth" in n or "tongue" in n])] = True
    weight = np.where(unseen, 0.02, 1.0) * area / area.mean() * (0.35 + 0.65 * in_face(v))
    basis = np.concatenate([_features(template, weight), _eye_features(template)], 1)  # [V*3,r]
    basis = basis - _rigid_part(v, weight, basis)
    sample, places = _measurement_operator(template)
    # Covariance of the features that gives the measurements their published covariance: what the field says about everything else stays.
    operator = np.einsum("mpc,mpcr->mr", sample, basis.reshape(len(v), 3, -1)[places])
    gain = np.linalg.solve(operator @ operator.T, operator).T  # [r,m]
    root = np.linalg.cholesky(anthropometry.covariance())
    factor = np.concatenate([np.eye(len(gain)) - gain @ operator, gain @ root], 1).astype(np.float32)
    w3 = np.repeat(weight, 3)[:, None].astype(np.float32)
    # Modes are ordered by the variance of the surface and of the measurements, so that those kept have nearly all of both.
    inner = basis.T @ (basis * w3) + _MEASUREMENT_WEIGHT * (operator.T @ operator)
    gram = (factor.T @ inner @ factor).astype(np.float64)
    values, vectors = eigh(gram, subset_by_index=[len(gram) - MODES, len(gram) - 1])
    vectors = vectors[:, ::-1]
    coefficients = factor @ vectors.astype(np.float32)
    modes = coefficients.T @ basis.T
    # Eigenvectors have no sign: take the one that agrees with a fixed field without symmetry, the same on every machine.
    field = np.sin(v @ np.array([[0.11, 0.06, 0.05], [0.05, 0.13, 0.08], [0.07, 0.04, 0.12]]) + [0.3, 1.1, 2.0])
    sign = np.where(modes @ field.ravel() < 0, -1, 1).astype(np.float32)
    coefficients, modes = coefficients * sign, (modes * sign[:, None]).reshape(MODES, len(v), 3)
    difference = {"sex": anthropometry.sex_difference() / 2}
    difference |= {f: load for f, load in zip(anthropometry.FACTORS, anthropometry.loadings().T)}
    norms = values[::-1]
    directions = {}
    for name, change in difference.items():
        directions[name] = (coefficients.T @ inner @ (gain @ change) / norms).astype(np.float32)
    return Identity(modes.astype(np.float32), directions)


def _features(template, weight):
    """Basis fields [V*3,r] of unit-variance coefficients, before anthropometry."""
    v = template.vertices
    where = _kernel_places(template)
    mirror = np.array([-1.0, 1, 1])
    skin = np.unique(template.faces[np.isin(template.faces, np.flatnonzero(weight > 0.03)).all(1)])
    left = skin[v[skin, 0] >= -1e-6]
    centres = where[_spread(where[left], left, _INDUCING)]

    def kernel(a, b):
        square = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T, 0)
        fa, fb = in_face(a), in_face(b)
        return sum(
            s * s * np.exp(square / (-2 * w * w)) * (o + (1 - o) * fa)[:, None] * (o + (1 - o) * fb)[None]
            for w, s, o in _SCALES
        )

    single = where.astype(np.float32)  # the large arrays in single precision
    direct, crossed = (kernel(single, c.astype(np.float32)) for c in (centres, centres * mirror))
    own, own_crossed = kernel(centres, centres), kernel(centres, centres * mirror)
    parts = {}
    for name, sign in (("even", 1), ("odd", -1)):
        root = cholesky((own + sign * own_crossed) / 2 + 1e-4 * np.eye(len(centres)), lower=True)
        inverse = solve_triangular(root, np.eye(len(centres)), lower=True).T / 2
        features = (direct + np.float32(sign) * crossed) @ inverse.astype(np.float32)  # [V,m]
        _, vectors = eigh((features.T @ (features * weight[:, None].astype(np.float32))).astype(np.float64))
        parts[name] = features @ vectors[:, ::-1].astype(np.float32)  # by decreasing variance
    even, odd = parts["even"], parts["odd"]
    # A symmetric field is odd in x and even in y and z; an asymmetric one the other way round. (Each part has half the field's variance.)
    columns = [(0, odd[:, :_ODD]), (1, even[:, :_EVEN]), (2, even[:, :_EVEN])]
    columns = [(axis, f * np.float32(np.sqrt(2))) for axis, f in columns]
    uneven = np.float32(_ASYMMETRY * np.sqrt(2))
    columns += [(0, even[:, :_UNEVEN] * uneven), (1, odd[:, :_UNEVEN] * uneven), (2, odd[:, :_UNEVEN] * uneven)]
    basis = np.zeros((len(v), 3, sum(f.shape[1] for _, f in columns)), np.float32)
    start = 0
    for axis, f in columns:
        basis[:, axis, start : start + f.shape[1]] = f
        start += f.shape[1]
    return basis.reshape(len(v) * 3, -1)


def _eye_features(template):
    """What the field around the eyes leaves out, [V*3,5]: movements of the lids about the eyeball's centre (its radius away), so that they
    stay on the ball. Slant of the lid axis (2.4 degrees), height of the upper and of the lower lid (1.0 and 0.8 mm), fullness of the upper
    lid's fold (1.1 mm), breadth of the fissure (3 %)."""
    v = template.vertices
    fields = np.zeros((5, len(v), 3))
    for side, sign in (("left", 1), ("right", -1)):
        centre = EYE * [sign, 1, 1]
        rings = template.rings[f"{side} eye"]
        margin = v[rings[LID_MARGIN_RING]]
        share = np.concatenate([[0], EYE_RINGS, np.ones(len(rings) - 1 - LID_MARGIN_RING)])
        inner, outer = margin[np.abs(margin[:, 0]).argmin()], margin[np.abs(margin[:, 0]).argmax()]
        along = (margin[:, 0] - inner[0]) / (outer[0] - inner[0])
        upper = margin[:, 1] > inner[1] + along * (outer[1] - inner[1])
        arch = np.sin(np.pi * np.clip(along, 0, 1)) ** 0.7
        ids = rings.ravel()
        d = v[ids] - centre
        weight = np.broadcast_to((share * share * (3 - 2 * share))[:, None], rings.shape).ravel()
        up = np.cross(d, [1.0, 0, 0]) * -1  # the way a turn about x moves them
        up *= np.sign(up[:, 1:2]) / EYE_RADIUS
        tops, arches = (np.broadcast_to(a, rings.shape).ravel() for a in (upper, arch))
        fold = np.exp(-0.5 * ((np.broadcast_to(share[:, None], rings.shape).ravel() - 0.55) / 0.16) ** 2)
        fields[0, ids] += (weight * np.radians(2.4))[:, None] * np.cross([0, 0, sign], d)
        fields[1, ids] += (weight * tops * arches)[:, None] * up * 1.0
        fields[2, ids] += (weight * ~tops * arches)[:, None] * up * 0.8
        fields[3, ids] += (fold * tops * arches)[:, None] * np.array([0, -0.5, 1.0]) * 1.1
        fields[4, ids] += (weight * 0.03)[:, None] * d * [1, 0, 0]
    return fields.reshape(5, -1).T.astype(np.float32)


def _kernel_places(template):
    """Where the field is looked up: at the vertices, but drawn together around the eyes, so that lids and eyeball move as one."""
    p = template.vertices.copy()
    for side, sign in (("left", 1), ("right", -1)):
        centre = EYE * [sign, 1, 1]
        d = p - centre
        r = np.linalg.norm(d, axis=1)
        x = np.clip((r - 13.0) / 14.0, 0, 1)
        share = 0.15 + 0.85 * x * x * (3 - 2 * x)
        near = r < 27.0
        p[near] = centre + d[near] * share[near, None]
        p[template.parts[f"{side} eye"]] = centre
    return p


def in_face(p):
    """1 in the face, 0 on the back of the head and the neck, smooth between."""
    front = np.clip((p[:, 2] - 0) / 50, 0, 1)
    above = np.clip((p[:, 1] + 135) / 25, 0, 1) * np.clip((100 - p[:, 1]) / 40, 0, 1)
    return front * front * (3 - 2 * front) * above


def _spread(places, ids, count):
    """Vertices spread over the surface, denser in the face: every so-many-th along a space-filling order of the vertices' density."""
    density = 0.12 + 0.88 * in_face(places)
    rng = np.random.default_rng(7)
    order = np.argsort(rng.random(len(ids)) ** (1 / density))[::-1][: count * 4]
    # Farthest points among them, distances shrunk where fewer are wanted.
    p, scale = places[order], np.sqrt(density[order])
    chosen = [0]
    distance = np.linalg.norm(p - p[0], axis=1) * scale
    for _ in range(count - 1):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(p - p[chosen[-1]], axis=1) * scale)
    return ids[order[chosen]]


def _rigid_part(v, weight, basis):
    """The weighted least-squares rigid motion in each field."""
    x, y, z = (v - np.average(v, axis=0, weights=weight)).T
    o, one = np.zeros_like(x), np.ones_like(x)
    motion = np.stack(
        [np.stack(m, -1).ravel() for m in ((one, o, o), (o, one, o), (o, o, one), (o, -z, y), (z, o, -x), (-y, x, o))],
        -1,
    )
    w3 = np.repeat(weight, 3)[:, None]
    take = np.linalg.solve(motion.T @ (motion * w3), (motion * w3).T).astype(np.float32)
    return motion.astype(np.float32) @ (take @ basis)


def _measurement_operator(template):
    """(gradients [m,2,3], vertices [m,2]): measurement = sum of gradients times the vertices' movements."""
    skin = np.unique(
        np.concatenate(
            [r.ravel() for r in template.rings.values()] + [np.flatnonzero(np.abs(template.chart).sum(1) > 0)]
        )
    )
    gradients, places = [], []
    for m in anthropometry.MEASUREMENTS:
        ids = [skin[np.linalg.norm(template.vertices[skin] - p, axis=1).argmin()] for p in m.points]
        if m.points[0][0] == -m.points[1][0] != 0:
            ids[1] = template.symmetry[ids[0]]
        g = anthropometry.gradient(template.vertices[ids], m)
        gradients.append([g, -g])
        places.append(ids)
    return np.array(gradients), np.array(places)


def measurements(template: Template, vertices: np.ndarray) -> np.ndarray:
    """The measurements [m] of a head [V,3] of the template's topology, mm."""
    _, places = _measurement_operator(template)
    return np.array([anthropometry.measure(vertices[p], m) for p, m in zip(places, anthropometry.MEASUREMENTS)])


def vertex_areas(v, faces):
    a, b, c = v[faces[:, 0]], v[faces[:, 1]], v[faces[:, 2]]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), len(v))
