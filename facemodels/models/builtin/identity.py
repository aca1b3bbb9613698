"""Identity modes: a Gaussian-process morphable model with the published covariance of facial measurements.

Lüthi et al., Gaussian Process Morphable Models, 2018. The deviation of a head from the mean is a smooth random field
over the surface: the sum of squared-exponential kernels of several widths, split into a left-right symmetric part and
a small asymmetric one. Its low-rank form is computed from a few hundred inducing points (Nyström), rigid motion is
removed, and the covariance is then changed as little as possible to give every measurement of `anthropometry` exactly
its published variance and correlations. The eigenvectors of the result are the modes.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, eigh, solve_triangular

from facemodels.models.builtin import anthropometry
from facemodels.models.builtin.eyes import EYE, EYE_RADIUS, EYE_RINGS, LID_MARGIN_RING
from facemodels.models.builtin.template import Template

MODES = 100
# Width of the kernel and standard deviation of the field, mm; factor of the deviation outside the face.
_SCALES = ((95.0, 2.4, 1.0), (42.0, 1.6, 0.8), (22.0, 1.05, 0.5), (12.0, 0.6, 0.25))
_ASYMMETRY = 0.18  # standard deviation of the asymmetric part, relative to the symmetric one
_MEASUREMENT_WEIGHT = 250.0  # of a measurement, relative to a vertex of mean area
_INDUCING_POINTS = 280
_EVEN, _ODD, _ASYMMETRIC = 115, 90, 14  # features kept of each part


@dataclass(frozen=True)
class Identity:
    """The modes of identity.

    Attributes:
        modes: float32 [MODES,V,3], mm for one standard deviation, by decreasing variance.
        directions: float32 [MODES] coefficients of one standard deviation of "sex" (half the difference of men and
            women), "size", "length", "build" and "age".
    """

    modes: np.ndarray
    directions: dict[str, np.ndarray]


def identity(template: Template) -> Identity:
    """Compute the modes of identity and the named directions among them."""
    v = template.vertices
    area = vertex_areas(v, template.faces)
    inner = np.zeros(len(v), bool)
    inner[np.concatenate([p for n, p in template.parts.items() if "eye" in n or "teeth" in n or "tongue" in n])] = True
    weight = np.where(inner, 0.02, 1.0) * area / area.mean() * (0.35 + 0.65 * in_face(v))
    basis = np.concatenate([_features(template, weight), _eye_features(template)], 1)  # [V*3,r]
    basis = basis - _rigid_part(v, weight, basis)
    sample, places = _measurement_operator(template)
    # Covariance of the features that gives the measurements their published covariance; the field's covariance of
    # everything else given the measurements stays.
    operator = np.einsum("mpc,mpcr->mr", sample, basis.reshape(len(v), 3, -1)[places])
    gain = np.linalg.solve(operator @ operator.T, operator).T  # [r,m]
    root = np.linalg.cholesky(anthropometry.covariance())
    factor = np.concatenate([np.eye(len(gain)) - gain @ operator, gain @ root], 1).astype(np.float32)
    w3 = np.repeat(weight, 3)[:, None].astype(np.float32)
    # Modes are ordered by the variance of the surface and of the measurements: those kept have nearly all of both.
    metric = basis.T @ (basis * w3) + _MEASUREMENT_WEIGHT * (operator.T @ operator)
    gram = (factor.T @ metric @ factor).astype(np.float64)
    values, vectors = eigh(gram, subset_by_index=[len(gram) - MODES, len(gram) - 1])
    vectors = vectors[:, ::-1]
    coefficients = factor @ vectors.astype(np.float32)
    modes = coefficients.T @ basis.T
    # Eigenvectors have no sign: take the one that agrees with a fixed asymmetric field, the same on every machine.
    field = np.sin(v @ np.array([[0.11, 0.06, 0.05], [0.05, 0.13, 0.08], [0.07, 0.04, 0.12]]) + [0.3, 1.1, 2.0])
    sign = np.where(modes @ field.ravel() < 0, -1, 1).astype(np.float32)
    coefficients, modes = coefficients * sign, (modes * sign[:, None]).reshape(MODES, len(v), 3)
    difference = {"sex": anthropometry.sex_difference() / 2}
    difference |= {f: load for f, load in zip(anthropometry.FACTORS, anthropometry.loadings().T)}
    norms = values[::-1]
    directions = {}
    for name, change in difference.items():
        directions[name] = (coefficients.T @ metric @ (gain @ change) / norms).astype(np.float32)
    return Identity(modes.astype(np.float32), directions)


def _features(template: Template, weight: np.ndarray) -> np.ndarray:
    """Compute basis fields [V*3,r] of unit-variance coefficients, before anthropometry; weight [V] of the vertices."""
    v = template.vertices
    where = _kernel_points(template)
    mirror = np.array([-1.0, 1, 1])
    skin = np.unique(template.faces[np.isin(template.faces, np.flatnonzero(weight > 0.03)).all(1)])
    left = skin[v[skin, 0] >= -1e-6]
    centers = where[_spread(where[left], left, _INDUCING_POINTS)]

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        square = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T, 0)
        fa, fb = in_face(a), in_face(b)
        return sum(
            s * s * np.exp(square / (-2 * w * w)) * (o + (1 - o) * fa)[:, None] * (o + (1 - o) * fb)[None]
            for w, s, o in _SCALES
        )

    single = where.astype(np.float32)  # the large arrays in single precision
    direct, crossed = (kernel(single, c.astype(np.float32)) for c in (centers, centers * mirror))
    own, own_crossed = kernel(centers, centers), kernel(centers, centers * mirror)
    parts = {}
    for name, sign in (("even", 1), ("odd", -1)):
        root = cholesky((own + sign * own_crossed) / 2 + 1e-4 * np.eye(len(centers)), lower=True)
        inverse = solve_triangular(root, np.eye(len(centers)), lower=True).T / 2
        features = (direct + np.float32(sign) * crossed) @ inverse.astype(np.float32)  # [V,m]
        _, vectors = eigh((features.T @ (features * weight[:, None].astype(np.float32))).astype(np.float64))
        parts[name] = features @ vectors[:, ::-1].astype(np.float32)  # by decreasing variance
    even, odd = parts["even"], parts["odd"]
    # A symmetric field is odd in x and even in y and z; an asymmetric one the other way round. (Each part has half the
    # field's variance.)
    columns = [(0, odd[:, :_ODD]), (1, even[:, :_EVEN]), (2, even[:, :_EVEN])]
    columns = [(axis, f * np.float32(np.sqrt(2))) for axis, f in columns]
    asymmetric = np.float32(_ASYMMETRY * np.sqrt(2))
    columns += [
        (0, even[:, :_ASYMMETRIC] * asymmetric),
        (1, odd[:, :_ASYMMETRIC] * asymmetric),
        (2, odd[:, :_ASYMMETRIC] * asymmetric),
    ]
    basis = np.zeros((len(v), 3, sum(f.shape[1] for _, f in columns)), np.float32)
    start = 0
    for axis, f in columns:
        basis[:, axis, start : start + f.shape[1]] = f
        start += f.shape[1]
    return basis.reshape(len(v) * 3, -1)


def _eye_features(template: Template) -> np.ndarray:
    """Compute five more basis fields [V*3,5], of the eyelids.

    The kernels hardly move the lids, which must stay on the eyeball; these fields turn them about its center. One
    standard deviation: slant of the lid axis (2.4 degrees), height of the upper and of the lower lid (1.0 and 0.8 mm),
    fullness of the upper lid's fold (1.1 mm), breadth of the fissure (3 %).
    """
    v = template.vertices
    fields = np.zeros((5, len(v), 3))
    for side, sign in (("left", 1), ("right", -1)):
        center = EYE * [sign, 1, 1]
        rings = template.rings[f"{side} eye"]
        margin = v[rings[LID_MARGIN_RING]]
        share = np.concatenate([[0], EYE_RINGS, np.ones(len(rings) - 1 - LID_MARGIN_RING)])
        inner, outer = margin[np.abs(margin[:, 0]).argmin()], margin[np.abs(margin[:, 0]).argmax()]
        along = (margin[:, 0] - inner[0]) / (outer[0] - inner[0])
        upper = margin[:, 1] > inner[1] + along * (outer[1] - inner[1])
        arch = np.sin(np.pi * np.clip(along, 0, 1)) ** 0.7
        ids = rings.ravel()
        d = v[ids] - center
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


def _kernel_points(template: Template) -> np.ndarray:
    """Return the points [V,3] at which the kernels see the vertices.

    They are drawn together around the eyes, so that lids and eyeball move as one.
    """
    p = template.vertices.copy()
    for side, sign in (("left", 1), ("right", -1)):
        center = EYE * [sign, 1, 1]
        d = p - center
        r = np.linalg.norm(d, axis=1)
        x = np.clip((r - 13.0) / 14.0, 0, 1)
        share = 0.15 + 0.85 * x * x * (3 - 2 * x)
        near = r < 27.0
        p[near] = center + d[near] * share[near, None]
        p[template.parts[f"{side} eye"]] = center
    return p


def in_face(p: np.ndarray) -> np.ndarray:
    """Return 1 for points [P,3] in the face, 0 on the back of the head and the neck, and values between: [P]."""
    front = np.clip((p[:, 2] - 0) / 50, 0, 1)
    above = np.clip((p[:, 1] + 135) / 25, 0, 1) * np.clip((100 - p[:, 1]) / 40, 0, 1)
    return front * front * (3 - 2 * front) * above


def _spread(places: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """Choose `count` of the vertices ids [P] at places [P,3], spread over the surface, denser in the face."""
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


def _rigid_part(v: np.ndarray, weight: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Compute the weighted least-squares rigid motion in each field: v [V,3], weight [V], basis [V*3,r] -> [V*3,r]."""
    x, y, z = (v - np.average(v, axis=0, weights=weight)).T
    o, one = np.zeros_like(x), np.ones_like(x)
    motion = np.stack(
        [np.stack(m, -1).ravel() for m in ((one, o, o), (o, one, o), (o, o, one), (o, -z, y), (z, o, -x), (-y, x, o))],
        -1,
    )
    w3 = np.repeat(weight, 3)[:, None]
    take = np.linalg.solve(motion.T @ (motion * w3), (motion * w3).T).astype(np.float32)
    return motion.astype(np.float32) @ (take @ basis)


def _measurement_operator(template: Template) -> tuple[np.ndarray, np.ndarray]:
    """Linearize the measurements: gradients [m,2,3] and vertices [m,2].

    A measurement changes by the sum of its gradients times the movements of its vertices.
    """
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
    """Take the measurements [m] of a head [V,3] of the template's topology, mm."""
    _, places = _measurement_operator(template)
    return np.array([anthropometry.measure(vertices[p], m) for p, m in zip(places, anthropometry.MEASUREMENTS)])


def vertex_areas(v: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return a third of the area of the faces around each vertex: v [V,3], faces [F,3] -> [V]."""
    a, b, c = v[faces[:, 0]], v[faces[:, 1]], v[faces[:, 2]]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), len(v))
