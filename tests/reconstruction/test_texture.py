"""Textures from photographs (facemodels.reconstruction.texture)."""

import torch

import facerender as fr
from facemodels.reconstruction import overlays
from facemodels.reconstruction.texture import photo_texture
from tests.stub_method import ramps


def test_a_texture_drawn_on_its_face_gives_the_photograph_back(stub, face):
    """Where the face is seen; and what is hidden is its counterpart on the other half."""
    from facerender.color import to_linear

    picture = ramps()
    texture = photo_texture(picture, face, stub.model, 512)
    piece, model = overlays.draw_face(face, stub.model, picture.shape[:2]), stub.model
    where, fragments = piece.where, piece.fragments
    per_corner = fr.Fragments(fragments.face_id, fragments.bary, fragments.depth)
    uv = fr.interpolate(model.uv[None].contiguous(), model.uv_faces, per_corner)
    shown = fr.texture.sample_texture(texture[None], uv)[0]
    normals = torch.nn.functional.normalize(piece.interpolate(piece.normals()), dim=-1)
    sure = (
        (fragments.face_id[0] >= 0)
        & torch.from_numpy(overlays.visible_parts(model)[0])[fragments.face_id[0].clamp(min=0).long()]
        & (normals[..., 2] > 0.75)
    )
    wanted = to_linear(torch.from_numpy(picture[where].copy()).float() / 255)
    error = (shown - wanted).abs()[sure]
    assert sure.sum() > 500 and error.median() < 0.02 and error.quantile(0.9) < 0.06
