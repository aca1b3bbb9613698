"""PGN: Liu, Han, Lyu, King, Xu, Learning 3D face reconstruction with a pose guidance network, ACCV 2020.

Of identity, expression and pose, it is the pose that limits parametric methods, the paper finds. So pose is not
regressed. One encoder has two heads: the coefficients of a morphable model, and the 68 landmarks in three dimensions,
read from a UV position map. Pose is then the similarity that best takes the landmarks X of the model to the predicted
ones Y, in closed form and with a gradient that is stable everywhere (`core.alignment.similarity`):

    f, R, t = argmin sum_i w_i |f R X_i + t - Y_i|^2,     V = f R S(identity, expression) + t

Labeled pictures teach landmarks, coefficients and vertices. Frames of one person teach without labels: the two heads
must agree with each other; the identity must be the same in all frames, also when it is exchanged between them; and a
frame that is reprojected into another through the geometry must look like it, by the census transform, where the
surface is visible in both:

    L = L_lmk + L_param + L_vert                                          labeled pictures
      + 0.1 L_2d + 0.1 L_id + 0.1 L_swap + 0.1 L_census + 1e-4 L_reg      frames of one person, from stage 2 on

Only the paper's abstract and first page are public. What they do not say is chosen here: sizes, weights, and errors of
points in percent of the picture's side.

settings      the settings and the presets
network       the encoder with its heads
pose          pose guidance, and the baseline that regresses the pose
reprojection  a frame as it would look with the face of another frame
method        data, losses, inference, and validation with the paper's case study
"""

from facemodels.methods.pgn.method import PGN, Prediction
from facemodels.methods.pgn.network import Heads, Network, vertex_uv
from facemodels.methods.pgn.pose import HeadPose
from facemodels.methods.pgn.reprojection import reproject
from facemodels.methods.pgn.settings import PRESETS, PGNConfig

__all__ = ["PGN", "PRESETS", "HeadPose", "Heads", "Network", "PGNConfig", "Prediction", "reproject", "vertex_uv"]
