"""The motions that expressions are made of: pulls and folds of the skin, lips, eyelids, eyeballs and the lower jaw."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline
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

Vector = tuple[float, float, float]

HINGE = np.array([0, -10.0, 8.0])  # mm, on the axis through both condyles of the jaw
LID_RADIUS = EYE_RADIUS + 0.75 * LID_THICKNESS  # mm, of the lid margins about the eye's center


def _rotated(d: np.ndarray, axis: ArrayLike, degrees: ArrayLike) -> np.ndarray:
    """Rotate vectors d [...,3] about unit axes, which broadcast against d, by degrees, which do against d[..., 0]."""
    axis, angle = np.broadcast_to(axis, d.shape), np.radians(np.broadcast_to(degrees, d.shape[:-1]))[..., None]
    c, s = np.cos(angle), np.sin(angle)
    return d * c + np.cross(axis, d) * s + axis * (d * axis).sum(-1, keepdims=True) * (1 - c)


class Motions:
    """The mean head with the coordinates in which motions are written. Every motion returns offsets [V,3], mm.

    Attributes:
        with_jaw: [V], the share of the jaw's motion that each vertex makes while the lips part.
        with_jaw_closed: the same while the lips stay together, half way between skull and jaw.
        with_jaw_sliding: the same while closed lips slide on each other.
        along: [P], of the places on the border of the lips, from -1 at the right corner to 1 at the left.
        v: [V,3], the mean head, mm; t: the template.
    """

    def __init__(self, template: Template) -> None:
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
        # Muscles pull on the skin of the face, not of the back of the skull, and not on the lids, which `lids` moves.
        self.pulled = self.skin * smoothstep(v[:, 2], 8, 40) * (1 - self.on_lid)
        self._jaw_weights()

    def _eye_coordinates(self) -> None:
        """Places along the lid margin, and the share of its motion that the rings of skin around it make."""
        self.margin = LID_MARGIN_RING
        self.eye = self.t.rings["left eye"]
        p = self.v[self.eye[self.margin]]
        # Along the margin from the inner canthus to the outer.
        self.across = np.clip((p[:, 0] - CANTHI[0, 0]) / (CANTHI[1, 0] - CANTHI[0, 0]), 0, 1)
        between = CANTHI[0] + self.across[:, None] * (CANTHI[1] - CANTHI[0])
        self.canthal_z = between[:, 2]
        self.is_upper_lid = p[:, 1] > between[:, 1]
        self.ring_place = np.concatenate(
            [[0], EYE_RINGS]
        )  # of the rings of skin: 0 at the block's border, 1 at the margin
        self.lid_share = smoothstep(
            self.ring_place, 0.25, 1.0
        )  # of the margin's motion that a ring of skin makes with it
        self.on_lid = np.zeros(len(self.v))
        for side in ("left", "right"):
            rings = self.t.rings[f"{side} eye"]
            self.on_lid[rings[: self.margin + 1]] = self.lid_share[:, None]
            self.on_lid[rings[self.margin + 1 :]] = 1

    def _mouth_coordinates(self) -> None:
        """Places along the lips, and the share of their motion that the skin around them makes."""
        v, self.mouth, self.border = self.v, self.t.rings["mouth"], LIP_BORDER_RING
        self.contact = LIP_CONTACT_RING
        p = v[self.mouth[self.border]]
        left, right = p[:, 0].argmax(), p[:, 0].argmin()
        self.along = p[:, 0] / p[left, 0]  # -1 at the right corner, 1 at the left
        step, half = (np.arange(len(p)) - right) % len(p), (left - right) % len(p)
        first, second = (step > 0) & (step < half), step > half  # the ring from the right corner to the left, and back
        first_is = 1 if p[first, 1].mean() > p[second, 1].mean() else -1
        self.lip = first_is * first - first_is * second  # 1 on the upper lip, -1 on the lower one, 0 at the corners
        # The tangents of the border, a little straightened.
        tangent = (np.roll(p, -1, 0) - np.roll(p, 1, 0)) * np.where(second, -1, 1)[:, None] * [1, 0.5, 0.5]
        tangent[self.lip == 0] = [1, 0, 0]
        self.lip_tangent = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
        # The share of the lips' motion that the skin makes: a mean over the places on their border, which fades with
        # distance.
        self.around_lips = np.flatnonzero(np.linalg.norm(v - [0, -66, 90], axis=1) < 75)
        q = v[self.around_lips]
        distance = np.linalg.norm(q[:, None] - p, axis=2)
        weights = 1 / (distance**3 + 1e-3)
        nose = smoothstep(q[:, 1], -53, -41) * (1 - smoothstep(np.abs(q[:, 0]), 15, 27))
        fade = np.maximum(1 - (distance.min(1) / 42) ** 2, 0) ** 2 * (1 - nose)
        self.lip_weights = weights * (fade / weights.sum(1))[:, None]

    def _jaw_weights(self) -> None:
        """The share of the jaw's motion that each vertex makes.

        From skull, jaw and lips the shares are diffused over the mesh, so they go round the corners of the mouth and
        not across it.
        """
        x, y, z = self.v.T
        rise = np.degrees(np.arctan2(y - HINGE[1], z - HINGE[2]))  # seen from the hinge, above the horizontal
        # Distance below the line from the angle of the jaw to the chin, seen in profile, mm.
        below = -0.86 * (y + 70) - 0.508 * (z - 20)
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

    def mirror(self, offsets: np.ndarray) -> np.ndarray:
        """Return the mirror image of a motion."""
        return offsets[self.t.symmetry] * [-1, 1, 1]

    def both(self, offsets: np.ndarray) -> np.ndarray:
        """Return the sum of a motion and its mirror image."""
        return offsets + self.mirror(offsets)

    def carry(self, offsets: np.ndarray) -> np.ndarray:
        """Move the lips, and the oral cavity behind them, along with the skin at their border. In place."""
        inner = self.mouth[self.border + 1 :]
        share = np.interp(np.arange(len(inner)), [self.contact - self.border, len(inner) - 1], [1, 0])
        offsets[inner] = share[:, None, None] * offsets[self.mouth[self.border]]
        return offsets

    def pull(self, at: tuple[float, float], size: tuple[float, float], by: Vector, lip: int = 0) -> np.ndarray:
        """Draw skin in the direction of a muscle, on both sides.

        Args:
            at: (x, y) of the place that moves most, mm; with x = 0 there is no mirror image.
            size: half width and half height of the patch, mm.
            by: how far it moves there, mm.
            lip: 1 spares the lower lip and the chin, -1 the upper lip and the nose.
        """
        x, y = self.v[:, 0], self.v[:, 1]
        mask = np.exp(-0.5 * (((x - at[0]) / size[0]) ** 2 + ((y - at[1]) / size[1]) ** 2)) * self.pulled
        mask = mask * {0: 1, 1: 1 - self.with_jaw, -1: self.with_jaw}[lip]
        out = mask[:, None] * np.array(by, float)
        return self.carry(self.both(out) if at[0] else out)

    def fold(self, line: list[tuple[float, float]], depth: float, width: float) -> np.ndarray:
        """Make a furrow of the skin with the bulge beside it, on both sides.

        Args:
            line: [(x, y), ...], mm. Beyond it, away from the mouth, the skin bulges; on the near side it sinks by half.
            depth: of the bulge, mm.
            width: of the furrow, mm.
        """
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

    def lips(
        self,
        upper: tuple[Vector, Vector] = ((0, 0, 0), (0, 0, 0)),
        corner: Vector = (0, 0, 0),
        lower: tuple[Vector, Vector] = ((0, 0, 0), (0, 0, 0)),
        roll: tuple[float, float] = (0, 0),
    ) -> np.ndarray:
        """Move both lips as curves between the corners of the mouth; the skin around follows.

        Shifts are (outwards, up, forwards), mm. Up refers to the line where the lips touch, so that lips which go up
        alike stay closed however they roll.

        Args:
            upper: shifts of the upper lip, at the middle and half way to the corner.
            corner: shift of the corners.
            lower: shifts of the lower lip, as of the upper.
            roll: how far the (upper, lower) lip turns outwards about its border with the skin, degrees.
        """
        # The curves are level at the corners, which would else become spikes.
        place = self.along - np.sign(self.along) * np.maximum(np.abs(self.along) - 0.85, 0) ** 2 / 0.3
        shift = np.zeros((len(self.along), 3))
        for sign, (middle, half) in ((1, upper), (-1, lower)):
            sides = np.array([[-1, 1, 1], [-1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]])
            points = np.array([corner, half, middle, half, corner], float) * sides
            curve = CubicSpline([-1, -0.55, 0, 0.55, 1], points)(place / place.max())
            shift = np.where((self.lip * sign >= 0)[:, None], curve, shift)
        angle = np.where(self.lip > 0, -roll[0], roll[1]) * np.maximum(1 - self.along**2, 0) ** 0.5
        rings = self.mouth[self.border : self.contact + 2]
        d = self.v[rings] - self.v[rings[0]]
        turn = _rotated(d, self.lip_tangent, angle) - d
        shift[:, 1] -= turn[self.contact - self.border, :, 1]
        out = self.spread(shift)
        out[rings] = shift + turn
        inner = self.mouth[self.contact + 2 :]
        out[inner] = np.linspace(0.7, 0, len(inner))[:, None, None] * out[rings[-1]]
        return out

    def spread(self, shift: np.ndarray) -> np.ndarray:
        """Move the border of the lips by shift [P,3], mm, the lips with it, and the skin around them less."""
        out = np.zeros_like(self.v)
        out[self.around_lips] = self.lip_weights @ shift
        out[~self.skin] = 0
        return self.carry(out)

    def lids(self, upper: float = 0.0, lower: float = 0.0, closed: float | None = None) -> np.ndarray:
        """Slide the lid margins of both eyes over the eyeballs; the skin behind follows, the upper lid's fold opens.

        Args:
            upper: how far the upper margin rises at its middle, mm.
            lower: the same of the lower margin.
            closed: closes the eyes instead, with both margins at this share of the opening's height.
        """
        m, p = self.margin, self.v[self.eye[self.margin]]
        arch = np.sin(np.pi * self.across) ** 0.8
        low, high = (lid_margin(self.across, side)[:, 1] for side in (False, True))
        raised = np.where(self.is_upper_lid, upper, lower) * arch
        if closed is not None:
            # The upper lid ends a little below the lower one: the same offsets then close eyes that are wider open.
            raised = low + closed * (high - low) - 0.8 * self.is_upper_lid * arch - p[:, 1]
        # On a chord the margin would come closer to the eyeball than it was: it ends by as much farther out.
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
        rise: np.ndarray | float
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

    def _lid_z(self, x: np.ndarray, y: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
        """Return the z of a lid that rests on a ball about the eye's center, and near the canthi on their line."""
        inside = radius**2 - (x - EYE[0]) ** 2 - (y - EYE[1]) ** 2
        return smooth_max(EYE[2] + np.sqrt(np.maximum(inside, 0)), self.canthal_z, 1.2)

    def gaze(self, up: float = 0.0, out: float = 0.0) -> np.ndarray:
        """Turn both eyeballs about their centers, upwards and outwards, degrees."""
        offsets = np.zeros_like(self.v)
        ball = self.t.parts["left eye"]
        d = self.v[ball] - EYE
        angle = np.hypot(up, out)
        offsets[ball] = _rotated(d, np.array([-up, out, 0.0]) / angle, angle) - d
        return self.both(offsets)

    def jaw(self, weights: np.ndarray, turn: float = 0.0, glide: Vector = (0, 0, 0), yaw: float = 0.0) -> np.ndarray:
        """Turn the lower jaw, with its teeth and the tongue, about the joint before the ear, and glide it in the joint.

        Args:
            weights: [V], the share of the motion that each vertex makes: `with_jaw` or one like it.
            turn: opening about the hinge, degrees.
            glide: shift, mm.
            yaw: turn to the left, degrees.
        """
        # Soft parts below the jaw go with the part of its edge above them, the less the farther they are. Behind them
        # there is no room, so when the jaw opens they are pushed down rather than back, and take the throat along.
        below = np.maximum(self.below_jaw, 0)
        d = self.v - HINGE + below[:, None] * [0, 0.86, 0.508]
        out = _rotated(_rotated(d, [1.0, 0, 0], turn), [0, 1.0, 0], yaw) - d + np.array(glide, float)
        out[:, 1] -= 0.3 * turn * smoothstep(below, 0, 30) * np.exp(-((self.v[:, 0] / 34) ** 4))
        fade = np.stack([1 - smoothstep(self.below_jaw, *span) for span in ((0, 70), (0, 75), (-10, 44))], 1)
        return weights[:, None] * fade * out
