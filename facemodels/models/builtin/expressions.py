"""The 52 expressions of the built-in model: the blend shapes of ARKit (names and meanings are Apple's).

Each shape is a sum of a few motions (`motions`): muscles pull on the skin, lips and lids move, eyes and jaw turn.
Offsets are in mm for a coefficient of 1 and add up. A turn goes along its chord: it is exact at 1, and the lids rise
from the eyeball as far as their chord needs. Peak movements are typical of adults: the lids' opening of 10 mm, 8 mm at
the brow, 28 degrees of the eye, 14 mm at the corner of a smiling mouth, 39 mm between the incisors (people open to 40
to 55 mm).
"""

import numpy as np
from scipy.interpolate import PchipInterpolator

from facemodels.models.builtin.motions import Motions, Vector
from facemodels.models.builtin.smooth import smoothstep
from facemodels.models.builtin.template import Template

# Of the open jaw: degrees about the hinge, and mm of the condyles down and forwards along their joints.
OPEN_TURN = 23.0
OPEN_GLIDE: Vector = (0, -7.0, 13.0)


def _pairs(h: Motions) -> dict[str, tuple[np.ndarray, float]]:
    """Make the shapes that have a left and a right one.

    Returns:
        Name without side -> offsets [V,3] of both sides together, mm, and the half width in mm of the strip in the
        middle in which one side fades out.
    """
    pull, fold, lips, lids = h.pull, h.fold, h.lips, h.lids
    brow_down = (
        pull((11, 22), (10, 9), (-2.8, -4.6, 0.5))
        + pull((27, 25), (13, 10), (-1.5, -3.8, 0.5))
        + pull((44, 21), (10, 8), (-0.4, -1.2, 0))
    )
    squint = (
        pull((36, -14), (15, 6), (-0.5, 2.8, 0.8))
        + pull((54, -2), (7, 10), (-1.2, 0.4, 0.5))
        + pull((34, 20), (15, 6), (-0.3, -1.0, 0))
    )
    sneer = (
        pull((14, -36), (7, 8), (0.6, 4.0, 0.2), lip=1)
        + pull((10, -12), (6, 10), (-0.6, 3.0, 1.2))
        + pull((25, -34), (9, 9), (0, 3.2, 1.4), lip=1)
    )
    return {
        "browDown": (brow_down + pull((6, 10), (5, 8), (-0.4, -1.6, 0.8)), 7),
        "browOuterUp": (pull((41, 23), (15, 11), (0.6, 6.4, -0.4)) + pull((36, 42), (20, 14), (0, 3.6, 0)), 7),
        "cheekSquint": (
            pull((38, -20), (15, 10), (0, 4.5, 2.2)) + lids(0, 1.2) + fold([(22, -12), (32, -14), (44, -10)], 0.8, 2.5),
            7,
        ),
        "eyeBlink": (lids(closed=0.2) + pull((32, -12), (14, 5), (0, 0.6, 0)), 7),
        "eyeLookDown": (h.gaze(up=-27) + lids(-6.2, -2.8), 7),
        "eyeLookIn": (h.gaze(out=-28), 7),
        "eyeLookOut": (h.gaze(out=28), 7),
        "eyeLookUp": (h.gaze(up=25) + lids(3.0, 1.2) + pull((33, 21), (14, 7), (0, 1.0, 0)), 7),
        "eyeSquint": (lids(-1.2, 2.4) + squint, 7),
        "eyeWide": (lids(2.6, -0.7) + pull((32, 22), (15, 9), (0, 1.2, 0)), 7),
        "mouthDimple": (
            lips(upper=((0, 0, -0.6), (1.4, 0, -1.6)), corner=(4, 0.5, -4.5), lower=((0, 0, -0.6), (1.4, 0, -1.6)))
            + pull((33, -66), (4.5, 7), (-0.6, 0, -1.6)) + pull((43, -66), (7, 11), (1.2, 0, 1.6)),
            12,
        ),
        "mouthFrown": (
            lips(upper=((0, 0, 0), (0.5, -1.8, -0.3)), corner=(1.0, -7.5, -1.5), lower=((0, 0.5, 0.3), (0.5, -1.6, 0)))
            + fold([(31, -72), (34, -78), (34, -87)], 0.9, 3.0),
            12,
        ),
        "mouthLowerDown": (lips(corner=(0.8, -1.2, -0.5), lower=((0, -6.8, 0.3), (1.6, -7.0, -0.6)), roll=(0, 10)), 12),
        "mouthPress": (
            lips(
                upper=((0, 0, -1.2), (0.2, 0, -1.2)), corner=(0.8, 0.4, -1.4),
                lower=((0, 0.8, -1.2), (0.2, 0.7, -1.2)), roll=(-34, -34),
            ),
            12,
        ),
        "mouthSmile": (
            lips(
                upper=((0, 0.6, -2.2), (4.2, 2.2, -3.2)), corner=(9.5, 8.0, -6.0),
                lower=((0, 0.8, -2.0), (4.2, 2.2, -3.0)),
            )
            + pull((42, -32), (15, 11), (1.0, 3.5, 3.0))
            + fold([(19, -38), (27, -45), (35, -54), (38, -61)], 2.0, 3.8) + lids(0, 0.5),
            14,
        ),
        "mouthStretch": (
            lips(
                upper=((0, -0.4, -1.4), (3.8, -0.6, -2.0)), corner=(9.0, -3.0, -6.0),
                lower=((0, -2.0, -1.4), (4.0, -3.5, -2.2)),
            )
            + pull((34, -92), (16, 12), (2.0, -2.5, 0), lip=-1),
            12,
        ),
        "mouthUpperUp": (
            lips(upper=((0, 4.8, 0.6), (0.8, 5.6, -0.2)), corner=(0.5, 1.2, -0.4), roll=(8, 0))
            + fold([(19, -37), (27, -46), (34, -57)], 1.8, 3.5) + pull((24, -38), (9, 9), (0.3, 3.0, 1.0), lip=1),
            12,
        ),
        "noseSneer": (
            sneer + lips(upper=((0, 0.4, 0.2), (0.2, 0.8, 0)), corner=(0, 0.4, 0), lower=((0, 0.4, 0.2), (0.2, 0.8, 0)))
            + fold([(18, -34), (24, -42), (30, -50)], 1.6, 3.5) + pull((10, 18), (8, 8), (-1.2, -2.0, 0.6)),
            7,
        ),
    }  # fmt: skip


def _whole(h: Motions) -> dict[str, np.ndarray]:
    """Make the shapes that have no side: name -> offsets [V,3], mm."""
    pull, lips = h.pull, h.lips
    jaw_open = h.jaw(h.with_jaw, turn=OPEN_TURN, glide=OPEN_GLIDE) + lips(corner=(-2.5, 0, 0))
    puff = (
        pull((41, -58), (14, 14), (6.5, 0, 6.0))
        + pull((20, -52), (9, 5), (0, 0, 2.4), lip=1)
        + pull((20, -81), (10, 5), (0, 0, 2.0), lip=-1)
    )
    chin_up = pull((0, -92), (13, 10), (0, 4.5, 1.0), lip=-1)
    return {
        "browInnerUp": pull((10, 23), (13, 11), (0.8, 6.0, -0.3)) + pull((15, 42), (18, 13), (0, 3.0, 0)),
        "cheekPuff": puff + lips(
            upper=((0, 0, 0.6), (-0.2, 0, 0.8)), corner=(-1.5, 0, 1.8), lower=((0, 0, 0.6), (-0.2, 0, 0.8))
        ),
        "jawForward": h.jaw(h.with_jaw_sliding, glide=(0, -0.8, 6.5)) + lips(lower=((0, 1.4, 0.4), (0, 1.0, 0.3))),
        "jawOpen": jaw_open,
        # Closes the lips of jawOpen; makes no sense without it.
        "mouthClose": h.jaw(h.with_jaw_closed, turn=OPEN_TURN, glide=OPEN_GLIDE) - jaw_open,
        "mouthFunnel": lips(
            upper=((0, 3.6, 3.5), (-3.8, 2.8, 4.0)), corner=(-7.0, 0, 3.5),
            lower=((0, -7.0, 3.2), (-3.8, -5.4, 3.8)), roll=(34, 34),
        ),
        "mouthPucker": lips(
            upper=((0, 0.6, 6.5), (-4.6, 0.2, 6.0)), corner=(-8.0, 0.2, 4.5),
            lower=((0, -0.6, 6.0), (-4.6, 0, 5.6)), roll=(16, 16),
        ),
        "mouthRollLower": lips(lower=((0, 3.3, -1.0), (0, 2.4, -1.0)), roll=(0, -50)),
        "mouthRollUpper": lips(upper=((0, -0.6, -1.0), (0, -0.6, -1.0)), corner=(0, 0, -0.5), roll=(-52, 0)),
        "mouthShrugLower": chin_up + lips(
            upper=((0, 2.6, 0.6), (0, 1.6, 0.4)), corner=(0, -1.0, 0),
            lower=((0, 2.7, 4.0), (0, 1.7, 3.0)), roll=(0, 14),
        ),
        "mouthShrugUpper": lips(
            upper=((0, 2.6, 1.8), (0, 1.8, 1.2)), corner=(0, 0.4, 0),
            lower=((0, 2.4, 0.4), (0, 1.6, 0.2)), roll=(16, 0),
        ),
        "tongueOut": 0.25 * jaw_open + lips(lower=((0, -2.5, 0), (0.4, -2, 0)), roll=(0, 6)) + _tongue_out(h),
    }  # fmt: skip


def _sideways(h: Motions) -> dict[str, np.ndarray]:
    """Make the shapes of jaw and mouth to the left: name without side -> offsets [V,3], mm."""
    shift = np.stack([np.full(len(h.along), 9.0), 1.0 * h.along, -2.5 * h.along], 1)  # round the teeth
    return {
        "jaw": h.jaw(h.with_jaw_sliding, glide=(1.5, 0, 0), yaw=5.0) + h.lips(lower=((0, 0.8, 0.3), (0, 0.6, 0.2))),
        "mouth": h.spread(shift),
    }


def _tongue_out(h: Motions) -> np.ndarray:
    """Stretch the tongue: flat and narrow, up over the lower teeth, and down in front of the lip.

    The shape opens the jaw by a quarter as well.
    """
    tongue = h.t.parts["tongue"]
    x, y, z = h.v[tongue].T
    middle = np.polyval(np.polyfit(z, y, 2), z)  # of its thickness
    out = smoothstep(z, z.min(), z.max())
    ahead = z + 33 * out
    path = PchipInterpolator([30, 62, 80, 95, 105, 122], [-76, -73, -65, -61.8, -63.5, -71.5])(ahead)
    offsets = np.zeros_like(h.v)
    offsets[tongue] = np.stack([-0.2 * out * x, path + (1 - 0.45 * out) * (y - middle) - y, 33 * out], -1)
    return offsets


NAMES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip


def expressions(template: Template) -> np.ndarray:
    """Return the offsets float32 [52,V,3], mm, of a full activation of each of `NAMES`, to be added to the vertices."""
    h = Motions(template)
    shapes = {name: (offsets + h.mirror(offsets)) / 2 for name, offsets in _whole(h).items()}
    for name, (offsets, width) in _pairs(h).items():
        left = smoothstep(h.v[:, :1], -width, width) * (offsets + h.mirror(offsets)) / 2
        shapes[name + "Left"], shapes[name + "Right"] = left, h.mirror(left)
    for name, left in _sideways(h).items():
        shapes[name + "Left"], shapes[name + "Right"] = left, h.mirror(left)
    return np.stack([shapes[name] for name in NAMES]).astype(np.float32)
