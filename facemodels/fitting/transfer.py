"""Identity and expression carried from one morphable model to another: `Transfer`.

Correspondences are found once: the target's mean face is fitted to the source's (`fit_mesh`), and every vertex of its
face takes the closest point of the source's surface. A face of the source then tells where these vertices should be
(identity), and an expression how far they should move (as in the deformation transfer of Sumner and Popovic 2004, but
within the target's space). The target's coefficients follow by regularized least squares within their bounds.

From a model to itself, coefficients stay as they are: least squares would shrink them a little.
"""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import facerender as fr
from facemodels.core.alignment import Similarity, similarity
from facemodels.core.errors import InputError
from facemodels.core.surface import ClosestPoints, interpolate_faces
from facemodels.fitting.judge import FitWarning
from facemodels.fitting.least_squares import (
    VertexFunction,
    bounded_step,
    coefficient_layout,
)
from facemodels.fitting.raster import face_triangles
from facemodels.fitting.scan import fit_mesh
from facemodels.models.load import load_model
from facemodels.models.morphable import MorphableModel

COUNT = 50.0  # effective number of independent vertices
MIN_DEVIATION = 0.02  # least deviation of the basis, mm
MAX_DISTANCE = 5.0  # largest distance of a correspondence from the source's surface, mm


class Transfer:
    """Carries coefficients of one model to another.

    Args:
        source: The model that coefficients come from, or what `load_model` takes.
        target: The model that they go to, on the same device; or what `load_model` takes.

    Attributes:
        source: The model.
        target: The model.
        same: Whether both are one model; coefficients then stay as they are, activations of blend shapes within 0..1.
        vertices: int64 [P], the target's vertices that have a correspondence.
        face_id: int64 [P], the faces of the source that they correspond to.
        bary: [P,3], the barycentric coordinates in these faces.
        placement: From the target's coordinates to the source's, of scale 1: both are millimeters.

    Raises:
        InputError: The mean faces have too little in common.
    """

    def __init__(self, source: MorphableModel | str | Path, target: MorphableModel | str | Path) -> None:
        source, target = load_model(source), load_model(target)
        self.source, self.target, self.same = source, target, _is_same(source, target)
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
        given = None if landmarks is None else landmarks.cpu()
        with warnings.catch_warnings():
            # What the fit of a person says of shapes and units does not hold for a mean face; overlap counts below.
            warnings.simplefilter("ignore", FitWarning)
            fit = fit_mesh(mean.cpu(), faces.cpu(), target, given, expression=False, progress=False)
        assert fit.placement is not None  # of a fit to a mesh

        region = face_triangles(source)
        vertices = target.faces[face_triangles(target)].unique().long()
        shape = fit.placement(target.shape(fit.identity)[0]).double()
        found = ClosestPoints(mean, faces[region])(shape[vertices])
        normals = fr.vertex_normals(shape[None], target.topology)[0, vertices]
        there = interpolate_faces(
            fr.vertex_normals(mean[None], source.topology)[0], faces[region], found.face_id, found.bary
        )
        good = (found.distance < MAX_DISTANCE) & ((normals * there).sum(-1) > 0.5)
        if good.sum() < 100:
            raise InputError(
                f"the faces of the models {source.name} and {target.name} have only {int(good.sum())} vertices in"
                " common, and 100 are needed; the region 'face' of each must be a face, in millimeters, y up and"
                " z forward"
            )
        self.vertices, self.bary = vertices[good], found.bary[good]
        self.face_id = region.nonzero()[:, 0][found.face_id[good]]
        self._corners = faces[self.face_id]
        moved = similarity(target.mean[self.vertices].double(), self._on_source(mean[None])[0], scale=False)
        self.placement = Similarity(*moved)

    def _on_source(self, vertices: Tensor) -> Tensor:
        """Vertices [N,V,3] of the source at the correspondences: [N,P,3]."""
        return (vertices[:, self._corners] * self.bary[..., None]).sum(-2)

    def identity(self, identity: Tensor) -> Tensor:
        """Carry identities.

        Args:
            identity: [N,<=I] coefficients of the source.

        Returns:
            [N,I] coefficients of the target.
        """
        if self.same:
            self.source.shape(identity[:1])  # raises if they are of another model, as below
            return _filled(identity, self.target.num_identity)
        layout = coefficient_layout(self.target, expression=0)
        vertices = VertexFunction(self.target, self.vertices, layout)
        zero = torch.zeros_like(layout.precision)
        mean, modes = vertices(zero), vertices.jacobian(zero)
        # Some modes are much like a motion of the head. So small motions, which have no prior, are solved for too.
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

    def _identify(self, fit: "_Linear", mean: Tensor, shape: Tensor) -> Tensor:
        placed = similarity(shape, mean, scale=False)(shape)
        for _ in range(6):
            x = fit.solve(placed - mean)[6:]
            placed = similarity(shape, mean + fit.basis[..., 6:] @ x, scale=False)(shape)
        return x

    def expression(
        self, expression: Tensor | None, identity: Tensor | None = None, joints: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Carry expressions of one person.

        Args:
            expression: [N,<=E] coefficients of the source.
            identity: [1,<=I] coefficients of the source, the person; None for the mean face.
            joints: [N,J,3] rotation vectors of a source with joints.

        Returns:
            Coefficients [N,E] of the target, and its joints [N,J,3] or None for a target without.
        """
        if self.same:
            one_frame = (None if x is None else x[:1] for x in (expression, joints))
            self.source.shape(identity, *one_frame)  # raises if they are of another model, as below
            return self._kept(expression, joints)
        neutral, moved = self.source.shape(identity), self.source.shape(identity, expression, joints)
        motion = self._on_source(moved - neutral).double() @ self.placement.rotation
        layout = coefficient_layout(self.target)
        own = torch.zeros_like(layout.precision)
        first = layout.sizes[0]
        if identity is not None:
            own[:first] = self.identity(identity)[0].double()
        vertices = VertexFunction(self.target, self.vertices, layout)
        linear = _Linear(
            vertices.jacobian(own)[..., first:], layout.precision[first:], layout.lower[first:], layout.upper[first:]
        )
        rest, found = vertices(own), []
        for m in motion:
            x = linear.solve(m)
            for _ in range(4 if layout.joints else 0):  # turning joints is not linear: Gauss-Newton
                now = torch.cat([own[:first], x])
                bent = replace(linear, basis=vertices.jacobian(now)[..., first:])
                x = bent.solve(m - (vertices(now) - rest) + bent.basis @ x)
            found.append(torch.cat([own[:first], x]))
        carried = torch.stack(found).to(neutral.dtype)
        turned = None
        if self.target.joints:
            turned = torch.stack([layout.joint_rotations(x, len(self.target.joints)) for x in carried])
        return layout.split(carried)[1], turned

    def _kept(self, expression: Tensor | None, joints: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Expressions for the model that they are of."""
        rest = self.target.mean
        if expression is None:
            assert joints is not None  # one of them is given
            expression = rest.new_zeros(len(joints), 0)
        if joints is None and self.target.joints:
            joints = rest.new_zeros(len(expression), len(self.target.joints), 3)
        filled = _filled(expression, self.target.num_expression)
        return filled.clamp(0, 1) if self.target.blendshapes else filled, joints


def _is_same(a: MorphableModel, b: MorphableModel) -> bool:
    """Whether two models have the same coefficients: their modes and joints are equal."""
    if a is b:
        return True
    parts = ("rows", "faces", "skin_weights", "joint_regressor", "pose_basis")
    pairs = [(getattr(a, part), getattr(b, part)) for part in parts]
    equal = all(x is y if x is None or y is None else torch.equal(x, y) for x, y in pairs)
    return equal and (a.num_identity, a.blendshapes, a.joints) == (b.num_identity, b.blendshapes, b.joints)


def _filled(coefficients: Tensor, count: int) -> Tensor:
    """Coefficients [N,<=count] with zeros up to their whole number."""
    return torch.nn.functional.pad(coefficients, (0, count - coefficients.shape[1]))


@dataclass
class _Linear:
    """Least squares for coefficients of a basis [P,3,K] with a prior and bounds."""

    basis: Tensor
    precision: Tensor
    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        self.normal = torch.einsum("pik,pil->kl", self.basis, self.basis)

    def solve(self, offsets: Tensor) -> Tensor:
        """Coefficients [K] for vertices moved by offsets [P,3].

        The deviation of the basis is estimated together with them, from the residual: what the basis shows exactly is
        carried exactly, and what it cannot show is not approximated by improbable coefficients.
        """
        right, total, count = torch.einsum("pik,pi->k", self.basis, offsets), offsets.square().sum(), len(offsets)
        variance = (0.3**2 * total / (3 * count)).clamp(min=MIN_DEVIATION**2)
        for _ in range(6):
            share = COUNT / count / variance
            x = bounded_step(share * self.normal + self.precision.diag(), -share * right, self.lower, self.upper)
            left = total - 2 * right @ x + x @ self.normal @ x
            variance = (left / (3 * count)).clamp(min=MIN_DEVIATION**2)
        return x
