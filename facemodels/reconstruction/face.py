"""One reconstructed face of a picture: `Face`, and what the faces of one method share: `Origin`."""

import copy
import functools
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from facemodels.core.camera import Camera
from facemodels.core.crops import Box
from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters
from facemodels.core.rotation import head_angles
from facemodels.io.images import read_picture
from facemodels.models.arkit import arkit_curves, has_arkit
from facemodels.models.builtin.expressions import NAMES as ARKIT
from facemodels.models.load import load_model
from facemodels.models.morphable import MorphableModel

if TYPE_CHECKING:
    from facemodels.export import Mesh


class Origin:
    """What the faces of one method share. A pickle of it holds the model's name, and not the model.

    Args:
        model: The morphable model, on the CPU; None: it is loaded where it is first needed.
        name: What `load_model` loads it by.
        neutral: [E], what the method answers for faces without expression, see `Face.arkit`; None: not measured.
    """

    def __init__(self, model: MorphableModel | None, name: str, neutral: Tensor | None = None) -> None:
        self._model, self.neutral = model, neutral
        self.name = name if name == "builtin" else str(Path(name).absolute())

    @property
    def model(self) -> MorphableModel:
        """The morphable model."""
        if self._model is None:
            self._model = _loaded(self.name)
        return self._model

    def __reduce__(self) -> tuple[Any, ...]:
        return Origin, (None, self.name, self.neutral)

    def __deepcopy__(self, memo: Any) -> "Origin":
        return self


@functools.lru_cache(4)
def _loaded(name: str) -> MorphableModel:
    return load_model(name)


@functools.lru_cache(2)  # the faces of one picture ask for it one after the other
def _read(path: Path, changed: int) -> np.ndarray:
    return read_picture(path)


@dataclass(frozen=True, eq=False, repr=False)
class Face:
    """One reconstructed face of a picture.

    Faces can be compared, copied and pickled. A pickle holds neither the model nor a picture that was given as an
    array; a picture that was given as a file is read again where it is needed.

    Attributes:
        box: The detector's box, or the box that was given: (x0, y0, x1, y1), pixels.
        score: See `confidence`.
        crop: The square that the network saw, before it is turned: (x0, y0, x1, y1), pixels.
        parameters: The face's parameters in pixels of the whole picture, with a batch of 1.
        track: Which face of a video it is, counted from 0; None in a photograph.
        turn: The counterclockwise rotation of the crop about its center, radians.
        origin: Its morphable model, and what else the faces of its method share.
        size: (H, W) of the picture.
        source: The file of the picture, or its pixels, which are not copied; None for a frame of a video.
        before: Of a face that was transferred to another model, the face as its method gave it.
    """

    box: Box
    score: float
    crop: Box
    parameters: FaceParameters
    track: int | None = None
    turn: float = 0.0
    origin: Origin | None = None
    size: tuple[int, int] | None = None
    source: Path | np.ndarray | None = None
    before: "Face | None" = None

    # The face as numbers.

    @property
    def confidence(self) -> float:
        """How likely this is a face in its place, 0..1; 1 where the box or the landmarks were given.

        A second network says so, which looks at the crop around the landmarks; of 100 crops with a confidence of 0.9,
        about 90 show a face (measured on crops that were held out, see facemodels/weights/face-check/README.md). It
        says little about how well the face is reconstructed. Faces below the threshold of `reconstruct` (0.5) are not
        returned; a face that is followed through a video stays down to a quarter of the threshold.
        """
        return self.score

    @property
    def degrees(self) -> tuple[float, float, float]:
        """(pitch, yaw, roll) in degrees, in the convention of 300W-LP and AFLW2000-3D.

        Positive pitch looks up, positive yaw looks to the left of the picture, positive roll turns the head clockwise
        in the picture; see `facemodels.core.rotation.head_angles`.
        """
        pitch, yaw, roll = head_angles(self.rotation).tolist()
        return pitch, yaw, roll

    @property
    def landmarks(self) -> Tensor:
        """[68,3] landmarks in pixels of the picture, y down, z toward the viewer: the most accurate there are.

        Some methods, the default among them, predict them with more freedom than the mesh has, which moves with its
        pose and shape alone. So `mesh_landmarks` lie beside them: with the default weights by 1.2 % of the face's size
        on average, which is 1 pixel for a small face and 10 for one of 800 pixels. With `refine` both are the same
        where the fit succeeds.
        """
        return self.parameters.landmarks[0]

    @property
    def identity(self) -> Tensor:
        """[I] identity coefficients of the morphable model, in standard deviations: within -3..3 as a rule."""
        return self.parameters.identity[0]

    @property
    def expression(self) -> Tensor:
        """[E] expression coefficients of the morphable model, as they shape the mesh.

        They are activations in 0..1 where the model has blend shapes (`model.blendshapes`; the built-in one has
        ARKit's), and otherwise standard deviations. `arkit` is for driving another face.
        """
        return self.parameters.expression[0]

    @property
    def arkit(self) -> dict[str, float]:
        """ARKit's 52 expression curves by their names, each in 0..1; 0 where the model lacks one, such as tongueOut.

        A network answers a little of everything for a face without expression: the default one 0.05 a curve on average,
        and up to 0.16. What 90 % of neutral faces stay below is measured for each curve and each of these weights, and
        counts as 0 here; what is above is stretched to 0..1. `expression` has the values as they are. For other
        weights, they are the same. A face that was transferred to another model keeps the curves that it had.

        Raises:
            InputError: The model's expressions are not ARKit's.
        """
        if self.before is not None and has_arkit(self.before.model):
            return self.before.arkit
        curves = self.expression
        neutral = None if self.origin is None else self.origin.neutral
        if neutral is not None:
            floor = neutral.new_zeros(len(curves))
            floor[: len(neutral)] = neutral[: len(curves)]
            curves = (curves - floor) / (1 - floor)
        return dict(zip(ARKIT, arkit_curves(self.model, curves[None])[0].tolist()))

    @property
    def albedo(self) -> Tensor | None:
        """[A] albedo coefficients of the model, in standard deviations; None where the method estimates none."""
        return None if self.parameters.albedo is None else self.parameters.albedo[0]

    @property
    def light(self) -> Tensor | None:
        """[9,3] spherical harmonics of the preset "deep3d" in camera space; None where the method estimates none."""
        return None if self.parameters.light is None else self.parameters.light[0]

    @property
    def rotation(self) -> Tensor:
        """[3,3] rotation from the head to the camera (x right, y up, z toward the viewer)."""
        return self.parameters.rotation[0]

    @property
    def scale(self) -> float:
        """Pixels per millimeter."""
        return float(self.parameters.scale)

    @property
    def translation(self) -> Tensor:
        """[2], the pixel (x, y) of the picture where the model's origin lies; y down."""
        return self.parameters.translation[0]

    # The face as a mesh.

    @property
    def model(self) -> MorphableModel:
        """The morphable model.

        Raises:
            InputError: The face was made without one.
        """
        if self.origin is None:
            raise InputError("this face does not know its morphable model; faces of reconstruct and Reconstructor do")
        return self.origin.model

    @property
    def vertices(self) -> Tensor:
        """[V,3] vertices in millimeters: the head with its expression, without pose; y up, +z out of the face."""
        with torch.no_grad():
            return self.model.shape(self.parameters.identity, self.parameters.expression)[0]

    @property
    def faces(self) -> Tensor:
        """int32 [F,3], the triangles of `vertices`; `model.topology` is the same for the ops of `facerender`."""
        return self.model.faces

    def pixels(self) -> Tensor:
        """[V,3], where the vertices lie in the picture: x and y (down) in pixels, z toward the viewer in pixels too."""
        return self.parameters.pixels(self.vertices[None])[0]

    @property
    def mesh_landmarks(self) -> Tensor:
        """[68,3], where the mesh's own landmarks lie in the picture, as `pixels`; compare `landmarks`."""
        return self.parameters.pixels(self.model.landmarks(self.vertices[None]))[0]

    def mesh(self, texture: bool = True) -> "Mesh":
        """The face as a mesh to be saved: ``face.mesh().save("face.glb")``, or .obj, .ply, .html (a viewer).

        Args:
            texture: Take its texture from the picture, where there is one and the model has texture coordinates.
        """
        from facemodels.export import mesh_of
        from facemodels.reconstruction.texture import UNLIT, photo_texture

        mesh = mesh_of(self.model, self.identity, self.expression, self.albedo, name="face")
        picture = self.picture if texture and self.model.uv is not None else None
        if picture is None:
            return mesh
        return replace(mesh, texture=UNLIT * photo_texture(picture, self, self.model).numpy())

    # The face in its picture.

    @property
    def picture(self) -> np.ndarray | None:
        """The picture, uint8 [h,w,3], sRGB; None for a frame of a video, and for an array after pickling.

        Raises:
            InputError: Its file is gone, or has another size now.
        """
        if not isinstance(self.source, Path):
            return self.source
        try:
            changed = self.source.stat().st_mtime_ns
        except OSError:
            raise InputError(f"{self.source}: the picture of this face is no longer there") from None
        picture = _read(self.source, changed)
        if picture.shape[:2] != self.size:
            raise InputError(f"{self.source}: the picture has changed since this face was found in it")
        return picture

    def camera(self, size: tuple[int, int] | None = None) -> Camera:
        """The camera that draws the head where the face lies: ``face.camera().clip(face.vertices[None])`` is [1,V,4].

        Args:
            size: (H, W) of the picture; None: `size`.

        Raises:
            InputError: The size is not known.
        """
        size = size or self.size
        if size is None:
            raise InputError("this face does not know the size of its picture; give size=(height, width)")
        p = self.parameters
        x, y = p.translation[0].tolist()
        return Camera(p.scale, p.rotation, torch.zeros(1, 2), size, (x, y))

    def overlay(self, picture: Any = None) -> np.ndarray:
        """Draw the face over its picture; `facemodels.overlay` draws several.

        Args:
            picture: A path, an array, a tensor or a PIL image, as `reconstruct` takes them; None: its own.

        Returns:
            uint8 [h,w,3].

        Raises:
            InputError: There is no picture, it cannot be read, or it has another size than the face's.
        """
        from facemodels.reconstruction.overlays import overlay

        picture = self.picture if picture is None else picture
        if picture is None:
            raise InputError("this face does not keep its picture (a frame of a video); give it to overlay")
        return overlay(picture, [self], self.model)

    # The face as a value.

    def with_parameters(self, **changes: Tensor | None) -> "Face":
        """A copy with some parameters replaced.

        Args:
            changes: Name of a field of `FaceParameters` -> its value for this face, without the batch dimension.
        """
        batched: dict[str, Any] = {name: None if value is None else value[None] for name, value in changes.items()}
        before = None if "expression" in changes else self.before  # whose curves are no longer this face's
        return replace(self, parameters=self.parameters._replace(**batched), before=before)

    def __repr__(self) -> str:
        box = ", ".join(f"{v:.0f}" for v in self.box)
        track = "" if self.track is None else f", track {self.track}"
        pitch, yaw, roll = self.degrees
        return (
            f"Face(box ({box}), confidence {self.confidence:.2f}, pitch {pitch:.0f}, yaw {yaw:.0f}, roll {roll:.0f}"
            f"{track})"
        )

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are equal; the pictures and models are not compared."""
        if not isinstance(other, Face):
            return NotImplemented
        return self._key() == other._key() and all(
            a is b or (a is not None and b is not None and torch.equal(a, b))
            for a, b in zip(self.parameters, other.parameters)
        )

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return tuple(self.box), self.score, tuple(self.crop), self.track, self.turn, self.size

    def __getstate__(self) -> dict[str, Any]:
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return state | {"source": self.source if isinstance(self.source, Path) else None}

    def __copy__(self) -> "Face":
        return replace(self)

    def __deepcopy__(self, memo: Any) -> "Face":
        return replace(self, parameters=copy.deepcopy(self.parameters, memo))
