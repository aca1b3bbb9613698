"""2DASL: Tu, Zhao, Jiang, Luo, Xie, Zhao, He, Ma, Feng, 3D face reconstruction from a single image assisted by 2D face
images in the wild, 2019.

A network reads a picture and a fourth channel in which 18 landmarks are marked (the paper's FLM, facial landmark map),
and predicts 62 whitened parameters: a 3x4 camera matrix, 40 shape and 10 expression coefficients. Pictures with
parameters are rare, pictures with a few 2D landmarks are not. So besides the loss on labeled faces, four schemes learn
from pictures with 2D landmarks alone:

    L = L_3d + 0.005 L_2d-con + 0.005 L_3d-con + 1 L_cyc + 0.005 L_sc

Stage 1 of the training is L_3d on labeled faces, stage 2 everything. The files:

* `settings`: the settings, their presets, and where they go beyond the paper.
* `parameters`: the 62 parameters, for any morphable model.
* `network`: the landmark channel, the network and the critic.
* `schemes`: the four schemes.
* `method`: `DASL`: data, both passes and their losses, inference, validation.

Layers, the 18 points and their weights, the constants and L_3d (the weighted parameter distance cost, WPDC, of Zhu et
al. 2016) are those of the authors' released code and of a public reimplementation's notes. docs/notes/dasl.md has what
was chosen beyond them, and why.
"""

from facemodels.methods.dasl.method import (
    DASL,
    HELD_OUT,
    POINT_WEIGHTS,
    Batch,
    Prediction,
)
from facemodels.methods.dasl.network import SIZE, Critic, Network, landmark_channel
from facemodels.methods.dasl.parameters import Reduced, parameters_of, pose_of, reduce_basis
from facemodels.methods.dasl.settings import PRESETS, SCHEMES, DASLConfig

__all__ = [
    "DASL",
    "DASLConfig",
    "HELD_OUT",
    "POINT_WEIGHTS",
    "PRESETS",
    "SCHEMES",
    "SIZE",
    "Batch",
    "Critic",
    "Network",
    "Prediction",
    "Reduced",
    "landmark_channel",
    "parameters_of",
    "pose_of",
    "reduce_basis",
]
