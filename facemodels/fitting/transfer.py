"""Identity and expression carried from one morphable model to another: `Transfer`.

Correspondences are found once: the target's mean face is fitted to the source's (`fit_mesh`), and every vertex of its face takes the closest point of the source's
surface. A face of the source then says where these vertices should be (identity), and an expression by how much they should move (expression, as in the deformation
transfer of Sumner and Popovic 2004, but within the target's space); the target's coefficients follow by regularised least squares, within their bounds.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

import facerender as fr
from facemodels.core.alignment import Similarity, similarity
from facemodels.core.errors import InputError
from facemodels.core.surface import ClosestPoints, interpolate_faces
from facemodels.fitting.least_squares import ModelPart, bounded_step, coefficients_of
from facemodels.fitting.photo import face_triangles
from facemodels.fitting.scan import fit_mesh
from facemodels.models.morphable import MorphableModel

COUNT = 50.0  # independent vertices that all correspondences amount to
LEAST_DEVIATION = 0.02  # mm that the basis is off at least
FARTHEST = 5.0  # mm from the source's surface that still are a correspondence


class Transfer:
    """Carries coefficients of `source` to `target`.

    Attributes:
        source, target: the models, on one device.
        vertices: int64 [P], the target's vertices that have a correspondence; face_id [P] and bary [P,3]: theirs, on the source's faces.
        placement: `Similarity` from the target's coordinates to the source's (of scale 1: both are millimetres).
    """

    def __init__(self, source: MorphableModel, target: MorphableModel):
        """
        Raises:
            InputError: the mean faces have too little in common.
        """
        self.source, self.target = source, target
        mean = source.mean.double()
        marked = (
            source.landmark_index is not None
            and target.landmark_index is not None
            and bool((source.has_landmark & target.has_landmark).sum() > 3)
        )
        landmarks = (
            torch.where(source.has_landmark[:, None], source.landmarks(source.mean[None])[0], torch.nan)
            if marked
            else None
        )
        faces = source.faces.long()
        fit = fit_mesh(
            mean.cpu(),
            faces.cpu(),
            target,
            None if landmarks is None else landmarks.cpu(),
            expression=False,
            progress=False,
        )

        region = face_triangles(source)
        vertices = target.faces[face_triangles(target)].unique().long()
        shape = fit.placement(target.shape(fit.identity)[0]).double()
        found = ClosestPoints(mean, faces[region])(shape[vertices])
        normals = fr.vertex_normals(shape[None], target.topology)[0, vertices]
        there = interpolate_faces(
            fr.vertex_normals(mean[None], source.topology)[0], faces[region], found.face_id, found.bary
        )
        good = (found.distance < FARTHEST) & ((normals * there).sum(-1) > 0.5)
        if good.sum() < 100:
            raise InputError(
                f"the faces of the models {source.name} and {target.name} have only {int(good.sum())} vertices in common, and 100 are needed; "
                f"the region 'face' of each must be a face, in millimetres, y up and z forwards"
            )
        self.vertices, self.bary = vertices[good], found.bary[good]
        self.face_id = region.nonzero()[:, 0][found.face_id[good]]
        self._corners = faces[self.face_id]
        moved = similarity(target.mean[self.vertices].double(), self._on_source(mean[None])[0], scale=False)
        self.placement = Similarity(*moved)

    def _on_source(self, vertices):
        """Vertices [N,V,3] of the source at the correspondences: [N,P,3]."""
        return (vertices[:, self._corners] * self.bary[..., None]).sum(-2)

    def identity(self, identity: Tensor) -> Tensor:
        """Identity coefficients [N,<=I] of the source as the target's [N,I]."""
        layout = coefficients_of(self.target, expression=0)
        part = ModelPart(self.target, self.vertices, layout)
        zero = torch.zeros_like(layout.precision)
        mean, modes = part(zero), part.jacobian(zero)
        # Some modes are much like a motion of the head, so small ones are solved for at once: columns of turns and shifts, of no prior.
        turns = -torch.linalg.cross(mean[:, :, None], torch.eye(3).to(mean).expand(len(mean), 3, 3), dim=1)
        basis = torch.cat([turns / mean.norm(dim=-1).mean(), torch.eye(3).to(mean).expand(len(mean), 3, 3), modes], -1)
        free = torch.full((6,), torch.inf).to(mean)
        fit = _Linear(
            basis,
            torch.cat([1e-6 / free.clamp(max=1), layout.precision]),
            torch.cat([-free, layout.lower]),
            torch.cat([free, layout.upper]),
        )
        return torch.stack(
            [self._identify(fit, mean, shape) for shape in self._on_source(self.source.shape(identity).double())]
        ).to(identity.dtype)

    def _identify(self, fit, mean, shape):
        placed = similarity(shape, mean, scale=False)(shape)
        for _ in range(6):
            x = fit.solve(placed - mean)[6:]
            placed = similarity(shape, mean + fit.basis[..., 6:] @ x, scale=False)(shape)
        return x

    def expression(
        self, expression: Tensor | None, identity: Tensor | None = None, joints: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Expressions of the source as the target's, of one person.

        Args:
            expression: [N,<=E] coefficients of the source; joints: [N,J,3] of a source that has any. identity: [1,<=I], of the source, who makes them; the mean
                face for None.

        Returns:
            (expression [N,E], joints [N,J,3] or None for a target without).
        """
        neutral, moved = self.source.shape(identity), self.source.shape(identity, expression, joints)
        motion = self._on_source(moved - neutral).double() @ self.placement.rotation
        layout = coefficients_of(self.target)
        own = torch.zeros_like(layout.precision)
        first = layout.sizes[0]
        if identity is not None:
            own[:first] = self.identity(identity)[0].double()
        part = ModelPart(self.target, self.vertices, layout)
        linear = _Linear(
            part.jacobian(own)[..., first:], layout.precision[first:], layout.lower[first:], layout.upper[first:]
        )
        rest, found = part(own), []
        for m in motion:
            x = linear.solve(m)
            for _ in range(4 if layout.joints else 0):  # turning joints is not linear: Gauss-Newton
                now = torch.cat([own[:first], x])
                bent = replace(linear, basis=part.jacobian(now)[..., first:])
                x = bent.solve(m - (part(now) - rest) + bent.basis @ x)
            found.append(torch.cat([own[:first], x]))
        found = torch.stack(found).to(neutral.dtype)
        joints = (
            torch.stack([layout.joint_rotations(x, len(self.target.joints)) for x in found])
            if self.target.joints
            else None
        )
        return layout.split(found)[1], joints


@dataclass
class _Linear:
    """Least squares for coefficients of a basis [P,3,K] with a prior and bounds."""

    basis: Tensor
    precision: Tensor
    lower: Tensor
    upper: Tensor

    def __post_init__(self):
        self.normal = torch.einsum("pik,pil->kl", self.basis, self.basis)

    def solve(self, offsets: Tensor) -> Tensor:
        """Coefficients [K] for vertices moved by offsets [P,3].

        How far the basis can follow is estimated together with them, so that what it shows exactly is carried exactly, and what it does not is not
        bought with coefficients that nobody has: the deviation is that of what is left, and neighbours that go together count as COUNT independent vertices.
        """
        right, total, count = torch.einsum("pik,pi->k", self.basis, offsets), offsets.square().sum(), len(offsets)
        variance = (0.3**2 * total / (3 * count)).clamp(min=LEAST_DEVIATION**2)
        for _ in range(6):
            share = COUNT / count / variance
            x = bounded_step(share * self.normal + self.precision.diag(), -share * right, self.lower, self.upper)
            left = total - 2 * right @ x + x @ self.normal @ x
            variance = (left / (3 * count)).clamp(min=LEAST_DEVIATION**2)
        return x
