"""A method whose faces are fitted to the picture: the landmarks that its network sees in a crop are where `fit_image` begins.

A network that has learnt from landmarks says little of a person's shape; what the skin looks like says more. So the landmarks that it sees hold the face in place and give its expression, while camera,
identity, light and albedo are moved until the rendered face looks like the picture and ends where it ends (analysis by synthesis, Blanz and Vetter 1999). The descent is stopped early: with every further step
it explains more of what the model cannot show, shadows and hair, by shape.
"""

import torch
from torch import Tensor, nn

import facerender as fr
from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters
from facemodels.fitting.photo import PRESET, Weights, fit_image
from facemodels.methods.face_method import FaceMethod
from facemodels.models.morphable import MorphableModel

ITERATIONS = 70  # of the descent
# Chosen on synthetic scans of people that no table counts. What the model cannot show is alike in neighbouring pixels and pulls at the shape, which so needs a strong prior; light and albedo are to give
# way first. It also bends mouths, so the expression stays what the landmarks say. The outline says more of where a cheek ends than landmarks do.
WEIGHTS = Weights(picture=16.0, landmarks=0.2, shape=8.0, outline=4.0)
FARTHEST = 0.1  # that landmarks may move on average, in sides of the square around them: beyond, the fit has lost the face, and what the network said stays


class Refined(FaceMethod):
    """A method whose faces are fitted to their pictures, about a second a face; everything else is the method's own.

    Args:
        method: The method whose network finds the faces; `unrefined` afterwards.
        iterations: Steps of the fit.

    Raises:
        InputError: The method's model has joints, which `FaceParameters` do not hold.
        ValueError: iterations is below 1.
    """

    def __init__(self, method: FaceMethod, iterations: int = ITERATIONS) -> None:
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        if method.model.joints:
            raise InputError(
                f"faces of {method.model.name} cannot be refined: a fit would turn its joints; use a method of a model"
                " without joints"
            )
        nn.Module.__init__(self)  # not FaceMethod's, which would load the model once more
        self.config, self.name, self.size, self.given = method.config, method.name, method.size, method.given
        self.unrefined, self.iterations = method, iterations

    @property
    def model(self) -> MorphableModel:
        """The method's morphable model."""
        return self.unrefined.model

    def reconstruct(self, image: Tensor) -> FaceParameters:
        """As `FaceMethod.reconstruct`, with albedo and light. A face that cannot be fitted (turned away, or hidden) is what the network says."""
        with torch.no_grad():
            said = self.unrefined.reconstruct(image)
        fitted = [self._fitted(picture, said.select(slice(n, n + 1))) for n, picture in enumerate(image)]
        return FaceParameters.stack(fitted).map(lambda value: value.to(image))

    def _fitted(self, picture: Tensor, said: FaceParameters) -> FaceParameters:
        model = self.unrefined.model
        seen = said.landmarks[0, :, :2]
        try:
            with torch.enable_grad():
                fit = fit_image(
                    picture.permute(1, 2, 0),
                    seen,
                    model,
                    contour="static",
                    iterations=self.iterations,
                    weights=WEIGHTS,
                    hold_expression=True,
                    progress=False,
                )
        except InputError:
            return self._whole(said)
        camera, points = fit.camera, fit.face(model).landmarks
        depth = (points @ camera.rotation.transpose(-1, -2))[..., 2:] * camera.scale[:, None, None]
        landmarks = torch.cat([camera.pixels(points), depth], -1)
        moved = (landmarks[0, :, :2] - seen).norm(dim=-1).mean() / (seen.amax(0) - seen.amin(0)).mean()
        if not moved < FARTHEST:
            return self._whole(said)
        translation = camera.pixels(torch.zeros(1, 1, 3).to(camera.rotation))[:, 0]
        return FaceParameters(
            fit.identity,
            fit.expression,
            camera.rotation,
            camera.scale,
            translation,
            landmarks,
            fit.albedo,
            fr.lighting.convert(fit.light, PRESET, "deep3d"),
        )

    def _whole(self, said: FaceParameters) -> FaceParameters:
        """What the network says, with as many coefficients as a fit has, and with albedo and light: without its own the mean albedo, and light from everywhere."""
        model, light = self.unrefined.model, said.light
        if light is None:
            light = fr.lighting.ambient_and_directional(
                *said.identity.new_tensor([[[0.7] * 3], [[0.0, 0.0, 1.0]], [[0.0] * 3]]).unbind(0)
            )
        albedo = (
            None if model.num_albedo == 0 else said.identity.new_zeros(1, 0) if said.albedo is None else said.albedo
        )
        counts = {
            "identity": (said.identity, model.num_identity),
            "expression": (said.expression, model.num_expression),
            "albedo": (albedo, model.num_albedo),
        }
        return said._replace(
            light=light,
            **{
                name: None if value is None else torch.nn.functional.pad(value, (0, count - value.shape[1]))
                for name, (value, count) in counts.items()
            },
        )
