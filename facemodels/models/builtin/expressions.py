"""The 52 expressions of the built-in model: the blend shapes of ARKit (names and meanings are Apple's), made by moving what muscles move.

Each shape is a sum of a few kinds of motion, which the class `_Head` offers:

* `pull`: skin drawn in the direction of a muscle, most at one place and less around it;
* `fold`: a furrow of the skin with the bulge beside it;
* `lips`: the lips as two curves between the corners of the mouth, each of which may be shifted and turned inside out; the skin around
  follows, less with its distance, as an elastic sheet does;
* `lids`: the margins of the lids slide over the eyeball; the rings of skin behind follow, and the fold of the upper lid opens;
* `gaze`: the eyeball turns about its centre;
* `jaw`: the lower jaw with its teeth and the tongue turns about the joint before the ear and glides forwards in it; skin is stretched between
  the jaw and the skull.

Offsets are in mm for a coefficient of 1, to be added to each other. A turn goes along its chord: it is exact at 1, and the lids rise from the
eyeball by what their chord needs. Peak movements are typical ones of adults: the lids' opening of 10 mm, 8 mm at the brow, 28 degrees of the
eye, 14 mm at the corner of a smiling mouth, 39 mm between the incisors (people open to 40 to 55 mm).
"""

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.sparse import coo_matrix, diags

from facemodels.models.builtin.eyes import (
    CANTHI,
    EYE,
    EYE_RADIUS,
    EYE_RINGS,
    LID_MARGIN_RING,
    LID_THICKNESS,
    lid_margin,
)
from facemodels.models.builtin.mouth import LIP_BORDER_RING, LIP_CONTACT_RING
from facemodels.models.builtin.smooth import smooth_max, smoothstep
from facemodels.models.builtin.template import Template

HINGE = np.array([0, -10.0, 8.0])  # on the axis through both condyles of the jaw
OPENING = {
    "turn": 23.0,
    "glide": (0, -7.0, 13.0),
}  # degrees about the hinge, mm of the condyles down and forwards along their joints
LID_RADIUS = EYE_RADIUS + 0.75 * LID_THICKNESS  # of the margins of the lids about the eye's centre


def _turned(d, axis, degrees):
    """Vectors d [...,3] turned about unit axes by angles; axis and degrees broadcast against d and d[..., 0] (Rodrigues)."""
    axis, angle = np.broadcast_to(axis, d.shape), np.radians(np.broadcast_to(degrees, d.shape[:-1]))[..., None]
    c, s = np.cos(angle), np.sin(angle)
    return d * c + np.cross(axis, d) * s + axis * (d * axis).sum(-1, keepdims=True) * (1 - c)


class _Head:
    """The mean head with the coordinates in which expressions are written. Every motion returns offsets [V,3] mm."""

    def __init__(self, template: Template):
        t, v = template, template.vertices
        self.t, self.v = t, v
        self._mouth_coordinates()
        self._eye_coordinates()
        hidden = [
            t.parts[name] for name in ("left eye", "right eye", "upper teeth", "lower teeth", "tongue", "mouth end")
        ]
        hidden += [self.mouth[self.border + 1 :].ravel()] + [
            t.rings[f"{side} eye"][self.margin + 1 :].ravel() for side in ("left", "right")
        ]
        self.skin = np.ones(len(v), bool)
        self.skin[np.concatenate(hidden)] = False
        # Muscles pull on the skin of the face, not on that of the skull's back, and not on the lids, which `lids` moves.
        self.pulled = self.skin * smoothstep(v[:, 2], 8, 40) * (1 - self.on_lid)
        self._jaw_weights()

    # ---------------------------------------------------------------------------------------------------------------- coordinates

    def _eye_coordinates(self):
        self.margin = LID_MARGIN_RING
        self.eye = self.t.rings["left eye"]
        p = self.v[self.eye[self.margin]]
        self.across = np.clip(
            (p[:, 0] - CANTHI[0, 0]) / (CANTHI[1, 0] - CANTHI[0, 0]), 0, 1
        )  # along the margin from the inner canthus
        between = CANTHI[0] + self.across[:, None] * (CANTHI[1] - CANTHI[0])
        self.canthal_z = between[:, 2]
        self.is_upper_lid = p[:, 1] > between[:, 1]
        self.ring_place = np.concatenate([[0], EYE_RINGS])  # of the rings of skin: 0 far from the lid, 1 at its margin
        self.lid_share = smoothstep(
            self.ring_place, 0.25, 1.0
        )  # of the margin's motion that a ring of skin makes with it
        self.on_lid = np.zeros(len(self.v))
        for side in ("left", "right"):
            rings = self.t.rings[f"{side} eye"]
            self.on_lid[rings[: self.margin + 1]] = self.lid_share[:, None]
            self.on_lid[rings[self.margin + 1 :]] = 1

    def _mouth_coordinates(self):
        v, self.mouth, self.border = self.v, self.t.rings["mouth"], LIP_BORDER_RING
        self.contact = LIP_CONTACT_RING
        p = v[self.mouth[self.border]]
        left, right = p[:, 0].argmax(), p[:, 0].argmin()
        self.along = p[:, 0] / p[left, 0]  # -1 at the right corner, 1 at the left
        step, half = (np.arange(len(p)) - right) % len(p), (left - right) % len(p)
        first, second = (step > 0) & (step < half), step > half  # the ring from the right corner to the left, and back
        first_is = 1 if p[first, 1].mean() > p[second, 1].mean() else -1
        self.lip = first_is * first - first_is * second  # 1 on the upper lip, -1 on the lower one, 0 at the corners
        tangent = (
            (np.roll(p, -1, 0) - np.roll(p, 1, 0)) * np.where(second, -1, 1)[:, None] * [1, 0.5, 0.5]
        )  # a little straightened
        tangent[self.lip == 0] = [1, 0, 0]
        self.lip_tangent = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
        # The share of the lips' motion that the skin makes: a mean over the places on their border, times a fading with distance.
        self.around_lips = np.flatnonzero(np.linalg.norm(v - [0, -66, 90], axis=1) < 75)
        q = v[self.around_lips]
        distance = np.linalg.norm(q[:, None] - p, axis=2)
        weights = 1 / (distance**3 + 1e-3)
        nose = smoothstep(q[:, 1], -53, -41) * (1 - smoothstep(np.abs(q[:, 0]), 15, 27))
        fade = np.maximum(1 - (distance.min(1) / 42) ** 2, 0) ** 2 * (1 - nose)
        self.lip_weights = weights * (fade / weights.sum(1))[:, None]

    def _jaw_weights(self):
        """The share of the jaw's motion that each vertex makes: `with_jaw`, the lips parting, and `with_jaw_closed`, the lips staying together
        half way between skull and jaw. From skull, jaw and lips the shares are spread over the mesh, so they go round the corners of the
        mouth and not across it."""
        x, y, z = self.v.T
        rise = np.degrees(np.arctan2(y - HINGE[1], z - HINGE[2]))  # seen from the hinge, above the horizontal
        below = -0.86 * (y + 70) - 0.508 * (
            z - 20
        )  # of the line from the angle of the jaw to the chin, seen in profile; mm
        self.below_jaw = np.where(self.skin, below, -20)
        skull = (rise > -14) | (z < -4) | ((y > -46) & (np.abs(x) < 18))
        chin = (np.abs(x) < 24) & (y < -80) & (below < -6) & self.skin
        start = np.where(skull, 0, np.where(chin, 1, (1 - smoothstep(rise, -50, -20)) * smoothstep(z, -4, 38)))
        start, fixed = np.stack([start, start], 1), np.stack([skull | chin] * 2, 1)
        lips, touching = self.mouth[self.border :], self.mouth[self.border : self.contact + 2]
        power = np.interp(np.arange(len(lips)), [self.contact - self.border, len(lips) - 1], [0.55, 0.2])[:, None]
        start[lips, 0] = 0.5 - 0.5 * self.lip * np.maximum(1 - self.along**2, 0) ** power
        start[touching, 1] = 0.5
        fixed[lips, 0], fixed[touching, 1] = True, True
        faces = self.t.faces
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        graph = coo_matrix((np.ones(len(edges)), edges.T), (len(x), len(x))).tocsr()
        mean = diags(1 / np.maximum(np.asarray((graph + graph.T).sum(1)).ravel(), 1)) @ (graph + graph.T)
        shares = start
        for _ in range(80):
            shares = np.where(fixed, start, mean @ shares)
        for part, share in (("upper teeth", 0), ("lower teeth", 1), ("tongue", 1), ("left eye", 0), ("right eye", 0)):
            shares[self.t.parts[part]] = share
        self.with_jaw, self.with_jaw_closed = shares.T
        self.with_jaw_sliding = shares.mean(1)  # closed lips, which slide on each other

    # ---------------------------------------------------------------------------------------------------------------------- tools

    def mirror(self, offsets):
        return offsets[self.t.symmetry] * [-1, 1, 1]

    def both(self, offsets):
        return offsets + self.mirror(offsets)

    def carry(self, offsets):
        """Takes the lips, and what lies behind them, along with the skin at their border."""
        inner = self.mouth[self.border + 1 :]
        share = np.interp(np.arange(len(inner)), [self.contact - self.border, len(inner) - 1], [1, 0])
        offsets[inner] = share[:, None, None] * offsets[self.mouth[self.border]]
        return offsets

    # -------------------------------------------------------------------------------------------------------------------- motions

    def pull(self, at, size, by, lip=0):
        """The skin around (x, y) = at, within about size = (half width, half height) mm, moved by at most `by` mm; with its mirror image,
        unless it lies in the middle. lip: 1 spares the lower lip and the chin, -1 the upper lip and the nose."""
        x, y = self.v[:, 0], self.v[:, 1]
        mask = np.exp(-0.5 * (((x - at[0]) / size[0]) ** 2 + ((y - at[1]) / size[1]) ** 2)) * self.pulled
        mask = mask * {0: 1, 1: 1 - self.with_jaw, -1: self.with_jaw}[lip]
        out = mask[:, None] * np.array(by, float)
        return self.carry(self.both(out) if at[0] else out)

    def fold(self, line, depth, width):
        """A furrow along the line [(x, y), ...]: beyond the line, away from the mouth, the skin bulges by depth mm, before it the skin sinks by
        half of that, within about width mm."""
        q = np.linspace(0, len(line) - 1, 24)
        q = np.stack([np.interp(q, np.arange(len(line)), c) for c in np.array(line, float).T], 1)
        tangent = np.gradient(q, axis=0)
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1) / np.hypot(*tangent.T)[:, None]
        normal *= np.where(normal.sum(1, keepdims=True) < 0, -1, 1)
        near = np.flatnonzero(self.pulled * (self.v[:, 0] > 0))
        d = self.v[near, None, :2] - q
        distance = np.linalg.norm(d, axis=2)
        k = distance.argmin(1)
        r = np.arange(len(near))
        beyond = (d[r, k] * normal[k]).sum(1)
        past_end = np.maximum(distance[r, k] ** 2 - beyond**2, 0)
        u = beyond / (2 * width)
        out = np.zeros_like(self.v)
        out[near, 2] = (
            1.65
            * depth
            * u
            * np.exp(-0.5 * np.where(u > 0, u, 2 * u) ** 2 - 0.5 * past_end / (2 * width) ** 2)
            * self.pulled[near]
        )
        return self.carry(self.both(out))

    def lips(self, upper=((0, 0, 0), (0, 0, 0)), corner=(0, 0, 0), lower=((0, 0, 0), (0, 0, 0)), roll=(0, 0)):
        """Both lips moved: the upper and the lower at the middle and half way to the corner, and the corner, each (outwards, up, forwards) in
        mm; roll: how far the (upper, lower) lip turns outwards about its border with the skin, degrees. Up is meant of the line where the lips
        touch, so that lips which go up alike stay closed however they roll."""
        # The curves are level at the corners, which would else become spikes.
        place = self.along - np.sign(self.along) * np.maximum(np.abs(self.along) - 0.85, 0) ** 2 / 0.3
        shift = np.zeros((len(self.along), 3))
        for sign, (middle, half) in ((1, upper), (-1, lower)):
            points = np.array([corner, half, middle, half, corner], float) * [
                [-1, 1, 1],
                [-1, 1, 1],
                [0, 1, 1],
                [1, 1, 1],
                [1, 1, 1],
            ]
            curve = CubicSpline([-1, -0.55, 0, 0.55, 1], points)(place / place.max())
            shift = np.where((self.lip * sign >= 0)[:, None], curve, shift)
        angle = np.where(self.lip > 0, -roll[0], roll[1]) * np.maximum(1 - self.along**2, 0) ** 0.5
        rings = self.mouth[self.border : self.contact + 2]
        d = self.v[rings] - self.v[rings[0]]
        turn = _turned(d, self.lip_tangent, angle) - d
        shift[:, 1] -= turn[self.contact - self.border, :, 1]
        out = self.spread(shift)
        out[rings] = shift + turn
        inner = self.mouth[self.contact + 2 :]
        out[inner] = np.linspace(0.7, 0, len(inner))[:, None, None] * out[rings[-1]]
        return out

    def spread(self, shift):
        """The lips moved as their border [P,3] mm, and the skin around them."""
        out = np.zeros_like(self.v)
        out[self.around_lips] = self.lip_weights @ shift
        out[~self.skin] = 0
        return self.carry(out)

    def lids(self, upper=0.0, lower=0.0, closed=None):
        """Both eyes' lids with margins raised by mm at the middle; or closed: at this share of the opening's height."""
        m, p = self.margin, self.v[self.eye[self.margin]]
        arch = np.sin(np.pi * self.across) ** 0.8
        low, high = (lid_margin(self.across, side)[:, 1] for side in (False, True))
        raised = np.where(self.is_upper_lid, upper, lower) * arch
        if (
            closed is not None
        ):  # the upper lid a little over the lower one: the same offsets then close eyes that are somewhat wider open
            raised = low + closed * (high - low) - 0.8 * self.is_upper_lid * arch - p[:, 1]
        # On a chord the margin would come closer to the eyeball than it was: it ends as much farther out.
        swing = np.abs(raised) / LID_RADIUS if closed is None else (high - low) * (1 - closed) / LID_RADIUS
        lift = 1.3 * LID_RADIUS * (1 / np.cos(swing / 2) - 1)
        behind = np.where(self.is_upper_lid, 0, 0.2 * smoothstep(lift, 0, 0.4))
        at_margin = np.zeros_like(p)
        at_margin[:, 1] = raised
        at_margin[:, 2] = self._lid_z(p[:, 0], p[:, 1] + raised, LID_RADIUS + lift - behind) - self._lid_z(
            p[:, 0], p[:, 1], LID_RADIUS
        )
        opens = self.is_upper_lid * smoothstep(-raised, 0, 7)  # of the upper lid's fold
        out = np.zeros_like(self.v)
        for k, ring in enumerate(self.eye):
            if k <= m:
                share, rise, floor = self.lid_share[k], smoothstep(self.ring_place[k], 0.2, 0.6), LID_RADIUS + 0.3
            else:  # behind the margin, lagging, so that they may stay closer to the ball
                share, rise, floor = [
                    (0.5, 1.0, LID_RADIUS - 0.5),
                    (0.3, 1.0, LID_RADIUS - 1),
                    (0.0, 1.0, LID_RADIUS - 1),
                ][k - m - 1]
            start = self.v[ring] - EYE
            r0 = np.linalg.norm(start, axis=1)
            r1 = (
                r0
                + smooth_max(r0, floor + lift, 1.0)
                - smooth_max(r0, floor, 1.0)
                + (k < m) * opens * np.maximum(floor - r0, 0)
            )
            moved = start + share * at_margin
            r = np.linalg.norm(moved, axis=1)
            out[ring] = moved * ((r + rise * (r1 - r)) / r)[:, None] - start
        out[self.eye[m]] = at_margin
        return self.both(out)

    def _lid_z(self, x, y, radius):
        """Depth of a lid that rests on a ball about the eye's centre, and near the canthi on the line between them."""
        inside = radius**2 - (x - EYE[0]) ** 2 - (y - EYE[1]) ** 2
        return smooth_max(EYE[2] + np.sqrt(np.maximum(inside, 0)), self.canthal_z, 1.2)

    def gaze(self, up=0.0, out=0.0):
        """Both eyeballs turned about their centres, upwards and outwards, degrees."""
        offsets = np.zeros_like(self.v)
        ball = self.t.parts["left eye"]
        d = self.v[ball] - EYE
        angle = np.hypot(up, out)
        offsets[ball] = _turned(d, np.array([-up, out, 0.0]) / angle, angle) - d
        return self.both(offsets)

    def jaw(self, weights, turn=0.0, glide=(0, 0, 0), yaw=0.0):
        """The lower jaw turned open about the hinge by `turn` and to the left by `yaw` (degrees), and shifted (mm)."""
        # Soft parts below the jaw go with the part of its edge above them, the less the farther they are. Behind them there is no room, so
        # when the jaw opens they are pushed down rather than back, and take the throat along.
        below = np.maximum(self.below_jaw, 0)
        d = self.v - HINGE + below[:, None] * [0, 0.86, 0.508]
        out = _turned(_turned(d, [1.0, 0, 0], turn), [0, 1.0, 0], yaw) - d + np.array(glide, float)
        out[:, 1] -= 0.3 * turn * smoothstep(below, 0, 30) * np.exp(-((self.v[:, 0] / 34) ** 4))
        fade = np.stack([1 - smoothstep(self.below_jaw, *span) for span in ((0, 70), (0, 75), (-10, 44))], 1)
        return weights[:, None] * fade * out


# --------------------------------------------------------------------------------------------------------------------- the shapes


def _pairs(h: _Head):
    """Name without side -> (offsets of both sides, half width in mm of the strip in the middle in which a side fades)."""
    pull, fold, lips, lids = h.pull, h.fold, h.lips, h.lids
    brow_down = (
        pull((11, 22), (10, 9), (-2.8, -4.6, 0.5))
        + pull((27, 25), (13, 10), (-1.5, -3.8, 0.5))
        + pull((44, 21), (10, 8), (-0.4, -1.2, 0))
    )
    squint = (
        pull((36, -14), (15, 6), (-0.5, 2.8, 0.8))
        + pull((54, -2), (7, 10), (-1.2, 0.4, 0.5))
        + pull((34, 20), (15, 6), (-0.3, -1.0, 0))
    )
    sneer = (
        pull((14, -36), (7, 8), (0.6, 4.0, 0.2), lip=1)
        + pull((10, -12), (6, 10), (-0.6, 3.0, 1.2))
        + pull((25, -34), (9, 9), (0, 3.2, 1.4), lip=1)
    )
    return {
        "browDown": (brow_down + pull((6, 10), (5, 8), (-0.4, -1.6, 0.8)), 7),
        "browOuterUp": (pull((41, 23), (15, 11), (0.6, 6.4, -0.4)) + pull((36, 42), (20, 14), (0, 3.6, 0)), 7),
        "cheekSquint": (pull((38, -20), (15, 10), (0, 4.5, 2.2)) + lids(0, 1.2) + fold([(22, -12), (32, -14), (44, -10)], 0.8, 2.5), 7),
        "eyeBlink": (lids(closed=0.2) + pull((32, -12), (14, 5), (0, 0.6, 0)), 7),
        "eyeLookDown": (h.gaze(up=-27) + lids(-6.2, -2.8), 7),
        "eyeLookIn": (h.gaze(out=-28), 7),
        "eyeLookOut": (h.gaze(out=28), 7),
        "eyeLookUp": (h.gaze(up=25) + lids(3.0, 1.2) + pull((33, 21), (14, 7), (0, 1.0, 0)), 7),
        "eyeSquint": (lids(-1.2, 2.4) + squint, 7),
        "eyeWide": (lids(2.6, -0.7) + pull((32, 22), (15, 9), (0, 1.2, 0)), 7),
        "mouthDimple": (
            lips(upper=((0, 0, -0.6), (1.4, 0, -1.6)), corner=(4, 0.5, -4.5), lower=((0, 0, -0.6), (1.4, 0, -1.6)))
            + pull((33, -66), (4.5, 7), (-0.6, 0, -1.6)) + pull((43, -66), (7, 11), (1.2, 0, 1.6)),
            12,
        ),
        "mouthFrown": (
            lips(upper=((0, 0, 0), (0.5, -1.8, -0.3)), corner=(1.0, -7.5, -1.5), lower=((0, 0.5, 0.3), (0.5, -1.6, 0)))
            + fold([(31, -72), (34, -78), (34, -87)], 0.9, 3.0),
            12,
        ),
        "mouthLowerDown": (lips(corner=(0.8, -1.2, -0.5), lower=((0, -6.8, 0.3), (1.6, -7.0, -0.6)), roll=(0, 10)), 12),
        "mouthPress": (
            lips(upper=((0, 0, -1.2), (0.2, 0, -1.2)), corner=(0.8, 0.4, -1.4), lower=((0, 0.8, -1.2), (0.2, 0.7, -1.2)), roll=(-34, -34)),
            12,
        ),
        "mouthSmile": (
            lips(upper=((0, 0.6, -2.2), (4.2, 2.2, -3.2)), corner=(9.5, 8.0, -6.0), lower=((0, 0.8, -2.0), (4.2, 2.2, -3.0)))
            + pull((42, -32), (15, 11), (1.0, 3.5, 3.0)) + fold([(19, -38), (27, -45), (35, -54), (38, -61)], 2.0, 3.8) + lids(0, 0.5),
            14,
        ),
        "mouthStretch": (
            lips(upper=((0, -0.4, -1.4), (3.8, -0.6, -2.0)), corner=(9.0, -3.0, -6.0), lower=((0, -2.0, -1.4), (4.0, -3.5, -2.2)))
            + pull((34, -92), (16, 12), (2.0, -2.5, 0), lip=-1),
            12,
        ),
        "mouthUpperUp": (
            lips(upper=((0, 4.8, 0.6), (0.8, 5.6, -0.2)), corner=(0.5, 1.2, -0.4), roll=(8, 0))
            + fold([(19, -37), (27, -46), (34, -57)], 1.8, 3.5) + pull((24, -38), (9, 9), (0.3, 3.0, 1.0), lip=1),
            12,
        ),
        "noseSneer": (
            sneer + lips(upper=((0, 0.4, 0.2), (0.2, 0.8, 0)), corner=(0, 0.4, 0), lower=((0, 0.4, 0.2), (0.2, 0.8, 0)))
            + fold([(18, -34), (24, -42), (30, -50)], 1.6, 3.5) + pull((10, 18), (8, 8), (-1.2, -2.0, 0.6)),
            7,
        ),
    }  # fmt: skip


def _whole(h: _Head):
    """Name -> offsets of the shapes that have no side."""
    pull, lips = h.pull, h.lips
    jaw_open = h.jaw(h.with_jaw, **OPENING) + lips(corner=(-2.5, 0, 0))
    puff = (
        pull((41, -58), (14, 14), (6.5, 0, 6.0))
        + pull((20, -52), (9, 5), (0, 0, 2.4), lip=1)
        + pull((20, -81), (10, 5), (0, 0, 2.0), lip=-1)
    )
    chin_up = pull((0, -92), (13, 10), (0, 4.5, 1.0), lip=-1)
    return {
        "browInnerUp": pull((10, 23), (13, 11), (0.8, 6.0, -0.3)) + pull((15, 42), (18, 13), (0, 3.0, 0)),
        "cheekPuff": puff + lips(upper=((0, 0, 0.6), (-0.2, 0, 0.8)), corner=(-1.5, 0, 1.8), lower=((0, 0, 0.6), (-0.2, 0, 0.8))),
        "jawForward": h.jaw(h.with_jaw_sliding, glide=(0, -0.8, 6.5)) + lips(lower=((0, 1.4, 0.4), (0, 1.0, 0.3))),
        "jawOpen": jaw_open,
        "mouthClose": h.jaw(h.with_jaw_closed, **OPENING) - jaw_open,  # what closes the lips of jawOpen: nothing without it
        "mouthFunnel": lips(
            upper=((0, 3.6, 3.5), (-3.8, 2.8, 4.0)), corner=(-7.0, 0, 3.5), lower=((0, -7.0, 3.2), (-3.8, -5.4, 3.8)), roll=(34, 34)
        ),
        "mouthPucker": lips(
            upper=((0, 0.6, 6.5), (-4.6, 0.2, 6.0)), corner=(-8.0, 0.2, 4.5), lower=((0, -0.6, 6.0), (-4.6, 0, 5.6)), roll=(16, 16)
        ),
        "mouthRollLower": lips(lower=((0, 3.3, -1.0), (0, 2.4, -1.0)), roll=(0, -50)),
        "mouthRollUpper": lips(upper=((0, -0.6, -1.0), (0, -0.6, -1.0)), corner=(0, 0, -0.5), roll=(-52, 0)),
        "mouthShrugLower": chin_up + lips(
            upper=((0, 2.6, 0.6), (0, 1.6, 0.4)), corner=(0, -1.0, 0), lower=((0, 2.7, 4.0), (0, 1.7, 3.0)), roll=(0, 14)
        ),
        "mouthShrugUpper": lips(upper=((0, 2.6, 1.8), (0, 1.8, 1.2)), corner=(0, 0.4, 0), lower=((0, 2.4, 0.4), (0, 1.6, 0.2)), roll=(16, 0)),
        "tongueOut": 0.25 * jaw_open + lips(lower=((0, -2.5, 0), (0.4, -2, 0)), roll=(0, 6)) + _tongue_out(h),
    }  # fmt: skip


def _sideways(h: _Head):
    """Name without side -> offsets of the shape to the left."""
    shift = np.stack([np.full(len(h.along), 9.0), 1.0 * h.along, -2.5 * h.along], 1)  # round the teeth
    return {
        "jaw": h.jaw(h.with_jaw_sliding, glide=(1.5, 0, 0), yaw=5.0) + h.lips(lower=((0, 0.8, 0.3), (0, 0.6, 0.2))),
        "mouth": h.spread(shift),
    }


def _tongue_out(h: _Head):
    """The tongue drawn out: flat and narrow, up over the lower teeth, and down in front of the lip. Beside it the jaw is open by a quarter."""
    tongue = h.t.parts["tongue"]
    x, y, z = h.v[tongue].T
    middle = np.polyval(np.polyfit(z, y, 2), z)  # of its thickness
    out = smoothstep(z, z.min(), z.max())
    ahead = z + 33 * out
    path = PchipInterpolator([30, 62, 80, 95, 105, 122], [-76, -73, -65, -61.8, -63.5, -71.5])(ahead)
    offsets = np.zeros_like(h.v)
    offsets[tongue] = np.stack([-0.2 * out * x, path + (1 - 0.45 * out) * (y - middle) - y, 33 * out], -1)
    return offsets


NAMES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight",
    "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip


def expressions(template: Template) -> np.ndarray:
    """Offsets float32 [52,V,3] mm of a full activation of each of `NAMES`, to be added to the template's vertices."""
    h = _Head(template)
    shapes = {name: (offsets + h.mirror(offsets)) / 2 for name, offsets in _whole(h).items()}
    for name, (offsets, width) in _pairs(h).items():
        left = smoothstep(h.v[:, :1], -width, width) * (offsets + h.mirror(offsets)) / 2
        shapes[name + "Left"], shapes[name + "Right"] = left, h.mirror(left)
    for name, left in _sideways(h).items():
        shapes[name + "Left"], shapes[name + "Right"] = left, h.mirror(left)
    return np.stack([shapes[name] for name in NAMES]).astype(np.float32)
