"""Cycle: Yang, Zhao, Yang, Shen, Cycle-consistency of dynamic faces, IEEE Transactions on Multimedia 26, 2023.

Pose and expression change a face's appearance alike, and a network that learns from pictures alone confuses them. The
paper takes the variation of pose, or of expression, between two frames of a video, injects it into one of them, and
asks the network to extract it there again and to reverse it: the first frame must return.

A network with a branch each for identity a, expression b, pose p = (R, scale, shift) and texture (t, with light g) sees
frames 1 and 2 of a person. On each frame alone it learns from a rendering of its prediction (Deng et al. 2019, with
their weights but for that of the coefficients):

    L = 1.92 L_photo + 1.6e-3 L_landmarks + 6e-3 L_coefficients + 10 L_gamma + 5 L_reflectance + 0.1 L_pair

where L_pair is the distance between the two frames' a and t. From stage 2 on, it also learns from two cycles. That of
pose is

    dp = p2 p1^-1                          the variation; rotations and scales are composed, never subtracted
    J  = compose(frame 1; a1, b1, dp p1)   injected
    a_J, b_J, p_J, t_J, g_J                the prediction for J
    L_variation = d(p_J p1^-1, dp)^2       extracted
    L_picture   = |render(a_J, b_J, dp^-1 p_J, t_J, g_J) - frame 1|       reversed with what was injected
    L_kept      = |a_J - a1|^2 + |b_J - b1|^2 + |t_J - t1|^2 + |g_J - g1|^2

and that of expression is the same with db = b2 - b1 at the pose of frame 1, which J must keep. Reversed with what was
extracted, p1 would come back whatever the network predicts, and the picture would not teach it.

Only the paper's abstract is public: the idea, the four branches, and that nothing is labeled. The other decisions are
made here; docs/notes/cycle.md has the measurements behind them.

* Each cycle teaches one branch. In L_picture the other properties of J are detached; only L_kept reaches their
  branches. The predictions for frames 1 and 2 are targets, without gradient: a network that sees no variation anywhere
  would minimize it best.
* For the first `detached` steps of the cycles J is a picture without gradient. After that the injected variation, and
  nothing else, is taught through J too.
* J is composed by "render", "texture" or "warp", see `composition`.
* The weight of the coefficients is twenty times that of Deng et al. (3e-4), who train on hundreds of thousands of
  faces: in short trainings from scratch, identity and expression would take over what pose should explain.
* The variation of an expression keeps its direction, but its size is drawn about `variation_mm`, and the size has no
  gradient. Otherwise the cycles teach the network to predict smaller variations.
* Differences of shapes are mean squares in mm^2 over the face, so that identity and expression, whose coefficients have
  other units, weigh the same.
* Batch norm uses J's batch statistics and does not update the running averages: no frame at inference is made like J.

settings      the settings and the presets
properties    what the network predicts, and the variations of it
network       the network with its four branches
composition   the picture J
method        data, losses and inference
"""

from facemodels.methods.cycle.composition import (
    albedo,
    compose,
    fill_holes,
    posed_surface,
)
from facemodels.methods.cycle.method import Cycle
from facemodels.methods.cycle.network import Network
from facemodels.methods.cycle.properties import (
    VARIED,
    Pose,
    Properties,
    inject,
    reverse,
)
from facemodels.methods.cycle.settings import CYCLES, MODES, PRESETS, CycleConfig

__all__ = [
    "CYCLES",
    "MODES",
    "PRESETS",
    "VARIED",
    "Cycle",
    "CycleConfig",
    "Network",
    "Pose",
    "Properties",
    "albedo",
    "compose",
    "fill_holes",
    "inject",
    "posed_surface",
    "reverse",
]
