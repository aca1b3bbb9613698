"""Refinement: faces that a network predicts, fitted to their pictures by rendering.

A network that has learnt from landmarks says little about a person's shape; the colors of the skin say more. So the
predicted landmarks hold the face in place and give its expression, while camera, identity, light and albedo are moved
until the rendered face looks like the picture and ends where the face in it ends (analysis by synthesis, Blanz and
Vetter 1999). The descent is stopped early: further steps explain shadows and hair, which the model lacks, by shape.
"""

import warnings

import torch
from torch import Tensor

import facerender as fr
from facemodels.core.errors import InputError
from facemodels.core.parameters import FaceParameters
from facemodels.fitting.judge import FitWarning
from facemodels.fitting.photo import PRESET, Weights, fit_image
from facemodels.methods.face_method import FaceMethod
from facemodels.training.method import Method

ITERATIONS = 70  # steps of the descent
# What the model cannot show is correlated over neighboring pixels and pulls at the shape, which therefore needs a
# strong prior: light and albedo are to give way first. It also bends mouths, so the expression stays that of the
# landmarks. The outline says more about where a cheek ends than landmarks do. See docs/notes/refine.md.
WEIGHTS = Weights(picture=16.0, landmarks=0.2, shape=8.0, outline=4.0)
# Largest mean landmark displacement, relative to the box of the landmarks; above it the fit has lost the face and the
# network's prediction is kept.
MAX_DISPLACEMENT = 0.1


class Refined(FaceMethod):
    """A method whose faces are fitted to their pictures, about a second a face.

    It reconstructs; training stays with the method itself, `unrefined`.

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
        Method.__init__(self, method.config)  # not FaceMethod's, which would load the model once more
        # A class has one name and one of everything below; here they are those of `method`.
        self.name, self.given = method.name, method.given  # type: ignore[misc]
        self.monitor, self.optional = method.monitor, method.optional  # type: ignore[misc]
        self.size, self.iterations, self.unrefined = method.size, iterations, method
        self.set_unregistered("model", method.model)

    def reconstruct(self, image: Tensor) -> FaceParameters:
        """Predict and fit faces.

        A face that cannot be fitted (turned away, or hidden) stays as the network predicts it.

        Args:
            image: [N,3,S,S], sRGB in 0..1; see `FaceMethod.reconstruct`.

        Returns:
            The faces, with albedo and light.
        """
        with torch.no_grad():
            prediction = self.unrefined.reconstruct(image)
        if not len(image):
            return prediction
        fitted = [self._fit(picture, prediction.select(slice(n, n + 1))) for n, picture in enumerate(image)]
        return FaceParameters.stack(fitted).map(lambda value: value.to(image))

    def validate(self, device: torch.device) -> dict[str, Tensor] | dict[str, float]:
        """Return the results of the method itself on held-out data; nothing is refined there."""
        return self.unrefined.validate(device)

    def _fit(self, picture: Tensor, prediction: FaceParameters) -> FaceParameters:
        points = prediction.landmarks[0, :, :2]
        try:
            with torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore", FitWarning)  # a fit that is far off is not taken, below
                fit = fit_image(
                    picture.permute(1, 2, 0),
                    points,
                    self.model,
                    contour="static",
                    iterations=self.iterations,
                    weights=WEIGHTS,
                    hold_expression=True,
                    progress=False,
                )
        except InputError:
            return self._padded(prediction)
        camera, at_rest = fit.camera, fit.face(self.model).landmarks
        assert camera is not None and at_rest is not None and fit.light is not None  # of a fit to a picture
        depth = (at_rest @ camera.rotation.transpose(-1, -2))[..., 2:] * camera.scale[:, None, None]
        landmarks = torch.cat([camera.pixels(at_rest), depth], -1)
        assert fit.landmark_error is not None and fit.landmarks is not None
        known = points[~fit.landmarks.isnan().any(-1)]  # what the model lacks was not fitted
        if not fit.landmark_error < MAX_DISPLACEMENT * (known.amax(0) - known.amin(0)).mean():
            return self._padded(prediction)
        return FaceParameters(
            fit.identity,
            fit.expression,
            camera.rotation,
            camera.scale,
            camera.pixels(torch.zeros(1, 1, 3).to(camera.rotation))[:, 0],
            landmarks,
            fit.albedo,
            fr.lighting.convert(fit.light, PRESET, "deep3d"),
        )

    def _padded(self, prediction: FaceParameters) -> FaceParameters:
        """The network's prediction with as many coefficients as a fit has, and with albedo and light.

        Where the method predicts neither, the albedo is the mean and the light comes from everywhere.
        """
        model, light, albedo = self.model, prediction.light, prediction.albedo
        if light is None:
            ambient, direction, intensity = prediction.identity.new_tensor(
                [[[0.7] * 3], [[0.0, 0.0, 1.0]], [[0.0] * 3]]
            ).unbind(0)
            light = fr.lighting.ambient_and_directional(ambient, direction, intensity)
        if model.num_albedo == 0:
            albedo = None
        elif albedo is None:
            albedo = prediction.identity.new_zeros(1, 0)
        return prediction._replace(
            light=light,
            identity=_pad(prediction.identity, model.num_identity),
            expression=_pad(prediction.expression, model.num_expression),
            albedo=None if albedo is None else _pad(albedo, model.num_albedo),
        )


def _pad(coefficients: Tensor, count: int) -> Tensor:
    return torch.nn.functional.pad(coefficients, (0, count - coefficients.shape[1]))
