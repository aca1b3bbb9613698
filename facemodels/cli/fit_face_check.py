"""Whether the photo shows a face where `facemodels fit` put one: landmarks alone do not say what the pixels are."""

import numpy as np
import torch

from facemodels.core.landmarks import FIVE_OF, NUM_LANDMARKS
from facemodels.fitting.result import Fit
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.face_check import cut_crops, load_face_check
from facemodels.reconstruction.views import FIVE_POINTS_SCALE, FIVE_POINTS_SHIFT_DOWN, View, turned_box, upright_turn

# What right and wrong landmarks give is in docs/notes/fitting_checks.md.
MIN_CONFIDENCE = 0.01  # of a face at the landmarks
MIN_CONFIDENCE_FIVE = 0.001  # the same of a model without all 68, whose crop follows from five points
UNSURE, SURE = 0.5, 0.9  # below and above: there is a face of half the landmarks' size in their place


def face_confidence(photo: np.ndarray, fit: Fit, model: MorphableModel) -> tuple[float, float] | None:
    """How likely a photo shows a face in its place under a fit, by the face-check network.

    Args:
        photo: uint8 [h,w,3], sRGB.
        fit: A fit to it.
        model: The model of the fit.

    Returns:
        The confidences, 0..1, of a face of the fit's size and of half of it, around the same center; None where the
        network's weights were removed, or the model lacks eyes, nose or mouth.
    """
    network = load_face_check()
    if network is None or model.has_landmark is None or fit.camera is None:
        return None
    known = model.has_landmark.cpu().numpy()
    with torch.no_grad():
        points = fit.camera.pixels(model.landmarks(fit.face(model).vertices))[0].double().cpu().numpy()
    scale, shift_down = 1.0, 0.0
    if not known.all():  # a box around the rest would be too small
        groups = [list(group) for group in FIVE_OF[NUM_LANDMARKS]]
        if not all(known[group].all() for group in groups):
            return None
        points = np.array([points[group].mean(0) for group in groups])
        scale, shift_down = FIVE_POINTS_SCALE, FIVE_POINTS_SHIFT_DOWN
    turn = upright_turn(fit.camera.rotation[0])
    x0, y0, x1, y1 = turned_box(points, turn, scale, shift_down)
    quarter = (x1 - x0) / 4
    boxes = (x0, y0, x1, y1), (x0 + quarter, y0 + quarter, x1 - quarter, y1 - quarter)
    crops = cut_crops([photo], [View(0, box, turn, box, 1.0) for box in boxes])
    whole, half = torch.sigmoid(network(crops)).tolist()
    return whole, half


def face_doubts(photo: np.ndarray, fit: Fit, model: MorphableModel) -> list[str]:
    """What the pixels of a photo say against a fit: a sentence, or nothing. See `face_confidence`."""
    confidence = face_confidence(photo, fit, model)
    if confidence is None:
        return []
    whole, half = confidence
    lowest = MIN_CONFIDENCE if bool(model.has_landmark.all()) else MIN_CONFIDENCE_FIVE
    if whole < UNSURE and half > SURE:
        return [
            f"the face seen at the landmarks is only about half as large as they are (confidence {half:.2f}, and "
            f"{whole:.2g} for a face of their size); give landmarks in pixels of this picture, not of a larger version "
            "of it"
        ]
    if whole < lowest:
        return [
            f"no face is seen at the landmarks (confidence {whole:.1g}); check that they belong to this picture, at "
            "this size and orientation: overlay.png shows where they lie. If they lie on the face of a drawing or a "
            "rendering, the fit may be right all the same"
        ]
    return []
