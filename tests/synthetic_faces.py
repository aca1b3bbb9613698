"""Photos and scans of faces that are known exactly."""

import math

import torch

import facerender as fr
from facemodels.core.alignment import similarity
from facemodels.core.camera import Camera
from facemodels.core.drawing import to_bytes
from facemodels.models.sampling import random_coefficients

SIZE = (224, 224)  # height and width of a photo
CROP = 120  # side of a crop


def camera(yaw=0.4, pitch=-0.1, roll=0.15, scale=1.3, focal=math.inf, size=SIZE, translation=(4.0, -3.0)):
    rotation = fr.camera.euler_rotation(torch.tensor([[pitch, yaw, roll]], dtype=torch.float64))
    return Camera(
        torch.tensor([scale]).double(),
        rotation,
        torch.tensor([translation]).double(),
        size,
        (size[1] / 2 + 5, size[0] / 2),
        focal,
    )


def rendered(model, seed=0, scale=1.0, focal=math.inf, size=SIZE, yaw=None):
    """Return (picture uint8, camera, coefficients, vertices, landmarks [68,2]) of a random person.

    The background is plain; the light is a lamp and a sky.
    """
    generator = torch.Generator().manual_seed(seed)
    person = random_coefficients(model, 1, generator)
    yaw = float(torch.rand(1, generator=generator) - 0.5) * 1.2 if yaw is None else yaw
    c = camera(yaw=yaw, pitch=0.1, scale=scale * size[0] / 224, focal=focal, size=size).to(torch.float32)
    vertices = model.shape(person.identity, person.expression)
    lamp = torch.tensor([[0.6, 0.4, 0.9]])
    light = fr.lighting.ambient_and_directional(
        torch.tensor([[0.45, 0.45, 0.5]]), lamp, torch.tensor([[0.8, 0.75, 0.7]]), "standard"
    )
    normals = fr.vertex_normals(vertices, model.topology) @ c.rotation.mT
    picture, _ = fr.render_face(
        c.clip(vertices),
        normals,
        model.albedo(person.albedo),
        light,
        model.topology,
        size,
        torch.tensor([0.2, 0.3, 0.25]),
        "standard",
    )
    return to_bytes(picture[0]), c, person, vertices, c.pixels(model.landmarks(vertices))[0]


def scanned(model, seed, unit=1.0, turned=True):
    """Return (vertices, landmarks, coefficients) of a random person somewhere in space.

    unit: units of the scan to a millimeter.
    """
    generator = torch.Generator().manual_seed(seed)
    person = random_coefficients(model, 1, generator)
    vertices = model.shape(person.identity, person.expression)[0].double()
    angles = torch.rand(1, 3, generator=generator, dtype=torch.float64) * 6 if turned else torch.zeros(1, 3).double()
    rotation = fr.camera.euler_rotation(angles)[0]

    def place(points):
        return (points.double() @ rotation.T + torch.tensor([120.0, -40, 70])) * unit

    return place(vertices), place(model.landmarks(vertices[None].float())[0]), person


def drawn(model, identity, yaw):
    """Return (crop [1,3,S,S] of a person, its weak-perspective camera)."""
    view = Camera(
        torch.tensor([0.42]),
        fr.camera.euler_rotation(torch.tensor([[0.05, yaw, 0.0]])),
        torch.tensor([[0.0, 4.0]]),
        (CROP, CROP),
        (CROP / 2, CROP / 2),
    )
    vertices = model.shape(identity)
    normals = fr.vertex_normals(vertices, model.topology) @ view.rotation.transpose(-1, -2)
    image, _ = fr.render_face(
        view.clip(vertices),
        normals,
        model.albedo(torch.zeros(1, 1)),
        fr.lighting.studio(1),
        model.topology,
        (CROP, CROP),
        torch.full((3,), 0.1),
    )
    return fr.color.to_srgb(image.clamp(0, 1)).permute(0, 3, 1, 2), view


def errors(model, fit, c, vertices):
    """Return (mean landmark error in pixels of a photo of 224, median vertex error in mm).

    The vertices of the face are compared in camera space, after a similarity alignment.
    """
    found = fit.face(model).vertices
    gap = (
        (fit.camera.pixels(model.landmarks(found)) - c.pixels(model.landmarks(vertices))).norm(dim=-1).mean()
        * 224
        / c.size[0]
    )
    region = model.regions.get("face", slice(None))
    own, true = (found @ fit.camera.rotation.mT)[0, region], (vertices @ c.rotation.mT)[0, region]
    return float(gap), float((similarity(own, true)(own) - true).norm(dim=1).median())
