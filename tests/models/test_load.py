"""What takes a model takes the name or file of one."""

import numpy as np
import pytest
import torch

import facemodels
from facemodels import InputError
from facemodels.fitting import photo, scan, transfer
from facemodels.models.builtin import builtin_data


@pytest.mark.parametrize(
    "module, call",
    [
        (photo, lambda model: facemodels.fit_image(np.zeros((9, 9, 3), np.uint8), np.zeros((68, 2)), model)),
        (scan, lambda model: facemodels.fit_mesh(np.eye(3), [[0, 1, 2]], model)),
        (transfer, lambda model: facemodels.Transfer(model, facemodels.load_model())),
        (transfer, lambda model: facemodels.Transfer(facemodels.load_model(), model)),
    ],
    ids=["fit_image", "fit_mesh", "Transfer from", "Transfer to"],
)
def test_fits_and_transfers_take_the_name_of_a_model_and_name_what_is_none(module, call):
    with pytest.raises(InputError, match="nosuch.safetensors"):
        call("nosuch.safetensors")
    with pytest.raises(InputError, match="a model is 'builtin', .* got None"):
        call(None)


def test_meshes_are_made_of_the_name_of_a_model():
    mesh = facemodels.mesh_of("builtin", morphs=False)
    assert torch.equal(torch.as_tensor(mesh.faces), torch.as_tensor(builtin_data().faces))
    with pytest.raises(InputError, match="nosuch.safetensors"):
        facemodels.mesh_of("nosuch.safetensors")
