"""Head pose on AFLW2000-3D: mean absolute error of yaw, pitch and roll in degrees.

The protocol of Hopenet (Ruiz, Chong and Rehg: Fine-grained head pose estimation without keypoints, 2018):

* Labels are the first three numbers of Pose_Para, in degrees: pitch, yaw, roll of R = Rx Ry Rz with the signs of the
  data set (`data.tddfa`).
* Faces with any of the three beyond 99 degrees are excluded, as everywhere in this benchmark: 31 of the 2,000.
* A predicted rotation is decomposed in the same convention (`core.rotation.head_angles`), which gives a yaw within 90
  degrees, even where the label is beyond. Differences of angles are taken the shorter way round.
* Crops are made from the labeled landmarks, as in the landmark benchmark. The detectors' boxes of some papers are
  looser.

The angles are those of the model's axes. Where a model looks up or down a little more than Basel's mean face, that is
part of the error: the signed errors show it.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import torch

from facemodels.core.rotation import head_angles
from facemodels.data.tddfa import AFLW2000, pose_rotation
from facemodels.evaluation.aflw2000_data import (
    LAYOUT,
    batches,
    locate,
    photograph_count,
    subset_notes,
    write_example,
)
from facemodels.evaluation.predictor import add_limit, limited, predictor
from facemodels.evaluation.report import RECALLED, PublishedRow, Report, Results
from facemodels.losses import rotation_angle
from facemodels.methods.face_method import FaceMethod

__all__ = ["configure", "differences", "run", "scores", "write_example"]

LARGEST = 99.0  # degrees
ANGLES = ("pitch", "yaw", "roll")  # in the order of Pose_Para
COLUMNS = ["yaw", "pitch", "roll", "mean"]

_6DREPNET = "README of 6DRepNet"
PUBLISHED = [
    PublishedRow("Hopenet, alpha 1", [6.92, 6.64, 5.67, 6.41], _6DREPNET),
    PublishedRow("Hopenet, alpha 2", [6.47, 6.56, 5.44, 6.16], _6DREPNET),
    PublishedRow("FSA-Net", [4.50, 6.08, 4.64, 5.07], _6DREPNET),
    PublishedRow("WHENet-V", [4.44, 5.75, 4.31, 4.83], _6DREPNET),
    PublishedRow("QuatNet", [3.97, 5.62, 3.92, 4.50], _6DREPNET),
    PublishedRow("FDN", [3.78, 5.61, 3.88, 4.42], _6DREPNET),
    PublishedRow("2DASL, released parameters", [3.85, 5.06, 3.50, 4.13], "computed from the files of XgTu/2DASL"),
    PublishedRow("6DRepNet", [3.63, 4.91, 3.37, 3.97], _6DREPNET),
    PublishedRow("img2pose", [3.43, 5.03, 3.28, 3.91], RECALLED),
    PublishedRow("SynergyNet", [None, None, None, 3.35], "leaderboard of Papers with Code"),
    PublishedRow("OPAL", [2.77, 4.26, 2.77, 3.27], "issue 1 of pcr-upm/opal23"),
]


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's arguments."""
    parser.epilog = f"""example:
  facemodels evaluate pose --method dasl --data AFLW2000-3D.zip --json pose.json --curve pose.png

Angles are the data set's (Pose_Para), as everywhere in facemodels where people see them:
    pitch  positive where the face looks up
    yaw    positive where it looks to the left of the picture
    roll   positive where the head is turned clockwise in the picture
Applied to a head are first roll, then yaw, then pitch: R = Rx(pitch) Ry(yaw) Rz(roll).

Faces with a labeled pitch, yaw or roll beyond 99 degrees are excluded, as everywhere, and named in
the notes. The curve shows the mean of the three absolute errors.

{LAYOUT}"""
    add_limit(parser, "photographs")


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method; see `facemodels.evaluation.Protocol`."""
    photos = AFLW2000(locate(data))
    names = limited(photos.names, options.limit)
    reconstruct = predictor(method, "reconstruct")
    labels, rotations, excluded = [], [], []
    for some, _, crops in batches(photos, names, method.size):
        predicted = reconstruct(crops).rotation.double().cpu().numpy()
        for photo, rotation in zip(some, predicted):
            label = np.degrees(photo.pose[:3].astype(np.float64))
            if np.abs(label).max() > LARGEST:
                excluded.append(photo.name)
                continue
            labels.append(label)
            rotations.append(rotation)
    results, errors = scores(np.array(rotations).reshape(-1, 3, 3), np.array(labels).reshape(-1, 3))
    left_out = len(names) - len(labels) - len(excluded)
    results |= {
        "images": len(labels),
        "images_excluded_beyond_99_degrees": len(excluded),
        "images_left_out": left_out,
    }
    title = (
        "Mean absolute error of yaw, pitch and roll in degrees; "
        f"{photograph_count(len(labels))}, crops from the labeled landmarks"
    )
    named = f": {', '.join(excluded)}." if excluded else "."
    notes = [
        f"{len(excluded)} faces with an angle beyond {LARGEST:.0f} degrees are excluded{named}",
        *subset_notes(len(labels) + len(excluded), left_out),
        "Labels: the fitted angles of the data set, R = Rx Ry Rz with its signs; the predicted rotation is decomposed "
        "in the same convention.",
        "Published methods are trained on 300W-LP, whose angles are of the same face model; the axes of another model "
        "may differ by a few degrees of pitch, see the signed errors.",
        "Published crops are made from labels or by detectors; in some papers they are looser than these.",
    ]
    return Report(
        protocol="pose",
        title=title,
        results=results,
        errors=errors,
        unit="degrees",
        largest=30.0,
        columns=COLUMNS,
        row=[results[f"mae_{angle}_degrees"] for angle in COLUMNS],
        ranked_by="mean",
        published=PUBLISHED,
        notes=notes,
    )


def scores(rotations: np.ndarray, labels: np.ndarray) -> tuple[Results, np.ndarray]:
    """Score rotations.

    Args:
        rotations: [N,3,3] predicted rotations.
        labels: [N,3] labeled pitch, yaw and roll, degrees.

    Returns:
        The results: mae_pitch_degrees, mae_yaw_degrees, mae_roll_degrees and mae_mean_degrees;
        mean_signed_error_pitch_degrees ..., predicted minus labeled; rotation_error_degrees, the mean angle of the
        rotation from one to the other. All None if N is 0. And the mean of each face's three absolute errors, degrees
        [N].
    """
    if not len(labels):
        keys = [f"mae_{a}_degrees" for a in (*ANGLES, "mean")]
        keys += [f"mean_signed_error_{a}_degrees" for a in ANGLES]
        return dict.fromkeys([*keys, "rotation_error_degrees"]), np.zeros(0)
    off = differences(head_angles(torch.from_numpy(rotations).double()).numpy(), labels)
    absolute = np.abs(off)
    results: Results = {f"mae_{angle}_degrees": float(v) for angle, v in zip(ANGLES, absolute.mean(0))}
    results["mae_mean_degrees"] = float(absolute.mean())
    results |= {f"mean_signed_error_{angle}_degrees": float(v) for angle, v in zip(ANGLES, off.mean(0))}
    between = rotation_angle(torch.from_numpy(rotations), torch.from_numpy(pose_rotation(np.radians(labels))))
    return results | {"rotation_error_degrees": float(between.mean().rad2deg())}, absolute.mean(1)


def differences(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Predicted minus labeled angles in degrees, the shorter way round: in [-180, 180)."""
    return (np.asarray(predicted, np.float64) - labels + 180) % 360 - 180
