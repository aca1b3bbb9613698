"""Head pose on AFLW2000-3D: mean absolute error of yaw, pitch and roll in degrees (Ruiz, Chong, Rehg: Fine-grained head pose estimation without keypoints, 2018).

* Labels are the first three numbers of Pose_Para, in degrees: pitch, yaw, roll of R = Rx Ry Rz with the signs of the data set (`data.tddfa`).
* Faces with any of the three beyond 99 degrees are excluded, as everywhere in this benchmark: 31 of the 2,000.
* A predicted rotation is taken apart in the same convention (`angles_of`), which gives a yaw within 90 degrees, also where a label is beyond; a difference of angles goes
  the shorter way round.
* Crops are made from the labelled landmarks, as in the landmark benchmark; detectors' boxes, which some papers take, are looser.

The angles are those of the model's axes. Where a model looks up or down a little more than Basel's mean face, that is part of the error: `..._signed_error_...` shows it.
"""

import numpy as np
import torch

from facemodels.data.tddfa import AFLW2000, pose_rotation
from facemodels.evaluation import applied
from facemodels.evaluation.aflw2000 import batches, first, located, photographs, subset_note
from facemodels.evaluation.report import FOUND, RECALLED, Report
from facemodels.losses import rotation_angle

LARGEST = 99.0  # degrees
ANGLES = ("pitch", "yaw", "roll")  # in the order of Pose_Para
COLUMNS = ["yaw", "pitch", "roll", "mean"]
PUBLISHED = [
    ("Hopenet, alpha 1", [6.92, 6.64, 5.67, 6.41], FOUND),
    ("Hopenet, alpha 2", [6.47, 6.56, 5.44, 6.16], FOUND),
    ("FSA-Net", [4.50, 6.08, 4.64, 5.07], FOUND),
    ("WHENet-V", [4.44, 5.75, 4.31, 4.83], FOUND),
    ("QuatNet", [3.97, 5.62, 3.92, 4.50], FOUND),
    ("FDN", [3.78, 5.61, 3.88, 4.42], FOUND),
    ("2DASL, released parameters", [3.85, 5.06, 3.50, 4.13], FOUND),
    ("6DRepNet", [3.63, 4.91, 3.37, 3.97], FOUND),
    ("img2pose", [3.43, 5.03, 3.28, 3.91], RECALLED),
    ("SynergyNet", [None, None, None, 3.35], FOUND),
    ("OPAL", [2.77, 4.26, 2.77, 3.27], FOUND),
]


def angles_of(rotation: np.ndarray) -> np.ndarray:
    """Pitch, yaw, roll [...,3] of rotations [...,3,3], radians, yaw within a right angle: `data.tddfa.pose_rotation` gives the rotation back."""
    r = np.asarray(rotation, np.float64)
    yaw = np.arcsin(np.clip(-r[..., 0, 2], -1, 1))
    return np.stack([np.arctan2(r[..., 1, 2], r[..., 2, 2]), yaw, np.arctan2(r[..., 0, 1], r[..., 0, 0])], -1)


def differences(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """predicted - labels in degrees, the shorter way round: in [-180, 180)."""
    return (np.asarray(predicted, np.float64) - labels + 180) % 360 - 180


def configure(parser):
    parser.epilog = """example:
  facemodels evaluate pose --method dasl --data AFLW2000-3D.zip --json pose.json --curve pose.png

Faces with a labelled pitch, yaw or roll beyond 99 degrees are excluded, as everywhere, and named in the notes. The curve is of the mean of the three absolute errors."""
    parser.add_argument("--limit", type=int, metavar="N", help="the first N photographs alone")


def run(method, data, options) -> Report:
    photos = AFLW2000(located(data))
    names = first(photos.names, options.limit)
    reconstruct = applied(method, "reconstruct")
    labels, rotations, kept, excluded = [], [], [], []
    for some, _, crops in batches(photos, names, method.size):
        predicted = reconstruct(crops).rotation.double().cpu().numpy()
        for photo, rotation in zip(some, predicted):
            label = np.degrees(photo.pose[:3].astype(np.float64))
            if np.abs(label).max() > LARGEST:
                excluded.append(photo.name)
                continue
            labels.append(label)
            rotations.append(rotation)
            kept.append(photo.name)
    results, errors = scores(np.array(rotations).reshape(-1, 3, 3), np.array(labels).reshape(-1, 3))
    left_out = len(names) - len(kept) - len(excluded)
    results |= {"images": len(kept), "images_excluded_beyond_99_degrees": len(excluded), "images_left_out": left_out}
    row = [results[f"mae_{angle}_degrees"] for angle in (*COLUMNS[:3], "mean")]
    title = f"Mean absolute error of yaw, pitch and roll in degrees; {photographs(len(kept))}, crops from the labelled landmarks"
    beyond = f"{len(excluded)} faces with an angle beyond {LARGEST:.0f} degrees are excluded" + (
        f": {', '.join(excluded)}." if excluded else "."
    )
    notes = [
        beyond,
        *subset_note(len(kept) + len(excluded), left_out),
        "Labels: the fitted angles of the data set, R = Rx Ry Rz with its signs; the predicted rotation is taken apart in the same convention.",
        "Published methods are trained on 300W-LP, whose angles are of the same face model; the axes of another model may differ by a few degrees of pitch, see the signed errors.",
        "Published crops are from labels or detectors, looser than these in some papers.",
    ]
    return Report("pose", title, results, errors, "degrees", 30.0, COLUMNS, row, PUBLISHED, notes)


def scores(rotations: np.ndarray, labels: np.ndarray) -> tuple[dict, np.ndarray]:
    """(results, the mean of the three absolute errors of each face [N], degrees) of rotations [N,3,3] and labelled pitch, yaw, roll [N,3] in degrees.

    mae_pitch_degrees, mae_yaw_degrees, mae_roll_degrees, mae_mean_degrees; mean_signed_error_pitch_degrees ...: predicted less labelled; rotation_error_degrees: the mean
    angle of the rotation between both. None without faces.
    """
    if not len(labels):
        keys = (
            [f"mae_{a}_degrees" for a in (*ANGLES, "mean")]
            + [f"mean_signed_error_{a}_degrees" for a in ANGLES]
            + ["rotation_error_degrees"]
        )
        return dict.fromkeys(keys), np.zeros(0)
    off = differences(np.degrees(angles_of(rotations)), labels)
    absolute = np.abs(off)
    results = {f"mae_{angle}_degrees": float(v) for angle, v in zip(ANGLES, absolute.mean(0))} | {
        "mae_mean_degrees": float(absolute.mean())
    }
    results |= {f"mean_signed_error_{angle}_degrees": float(v) for angle, v in zip(ANGLES, off.mean(0))}
    between = rotation_angle(torch.from_numpy(rotations), torch.from_numpy(pose_rotation(np.radians(labels))))
    return results | {"rotation_error_degrees": float(between.mean().rad2deg())}, absolute.mean(1)
