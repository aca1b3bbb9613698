"""Named regions of the built-in model."""

import numpy as np

from facemodels.models.builtin.eyes import LID_MARGIN_RING
from facemodels.models.builtin.mouth import LIP_BORDER_RING, LIP_CONTACT_RING
from facemodels.models.builtin.template import Template


def regions(template: Template) -> dict[str, np.ndarray]:
    """Return named sets of vertices, int32.

    "face" is the skin of the face without the ears, the neck and the inside of the mouth and the nostrils.
    """
    t, v = template, template.vertices
    mouth = t.rings["mouth"]
    inside = [mouth[LIP_CONTACT_RING + 1 :], t.parts["mouth end"]]
    for side in ("left", "right"):
        inside += [
            t.rings[f"{side} eye"][LID_MARGIN_RING + 1 :],
            t.rings[f"{side} nostril"][2:],
            t.parts[f"{side} nostril end"],
            t.parts[f"{side} eye"],
        ]
    inside += [t.parts[n] for n in ("upper teeth", "lower teeth", "tongue")]
    hidden = np.zeros(len(v), bool)
    hidden[np.concatenate([p.ravel() for p in inside])] = True
    ears = np.zeros(len(v), bool)
    for side in ("left", "right"):
        ears[t.rings[f"{side} ear"][1:]] = True
        ears[t.parts[f"{side} ear end"]] = True
    # The lower border of the face rises from the chin to the angle of the jaw.
    jaw = np.interp(np.abs(v[:, 0]), [0, 24, 45, 55, 80], [-112, -107, -92, -76, -60])
    face = ~hidden & ~ears & (v[:, 2] > 12) & (v[:, 1] > jaw) & (v[:, 1] < 66)
    eyeballs = np.zeros(len(v), bool)
    eyeballs[t.parts["left eye"]] = eyeballs[t.parts["right eye"]] = True
    nose_breadth = np.interp(v[:, 1], [-45, -36, -10, 5], [17, 20, 14, 10])
    masks = {
        "face": face,
        "ears": ears,
        "eyeballs": eyeballs,
        "neck": ~hidden & ~ears & ((v[:, 1] < jaw) & (v[:, 1] < -60)),
        "nose": face & (np.abs(v[:, 0]) < nose_breadth) & (v[:, 1] > -46) & (v[:, 1] < 6),
    }
    out = {name: np.flatnonzero(mask) for name, mask in masks.items()}
    out |= {
        "lips": np.unique(mouth[LIP_BORDER_RING : LIP_CONTACT_RING + 1]),
        "mouth": np.unique(np.concatenate([mouth[LIP_CONTACT_RING + 1 :].ravel(), t.parts["mouth end"]])),
    }
    out |= {"teeth": np.concatenate([t.parts["upper teeth"], t.parts["lower teeth"]]), "tongue": t.parts["tongue"]}
    out |= {f"{side}_eye": t.parts[f"{side} eye"] for side in ("left", "right")}
    return {name: np.asarray(ids, np.int32) for name, ids in out.items()}
