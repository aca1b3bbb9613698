"""Landmarks from nested files: JSON of the usual tools, dlib's XML (imglab) and MeshLab's PickedPoints.

Read for `facemodels.io.landmarks`, which says what the files may look like.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import COUNTS
from facemodels.io.landmark_names import SIZES, by_name, coordinates, of_picture

# Keys under which tools keep the points; the first that is there is followed.
_KEYS = (
    *("landmarks", "face_landmarks", "faceLandmarks", "multi_face_landmarks", "landmark", "keypoints", "points"),
    *("pts", "shape", "face_keypoints_2d", "people", "faces", "facial_area_landmarks"),
)
_OPENPOSE = 70  # points of OpenPose's faces: the 68 and the pupils, each with its confidence
_EXPECTED = 'expected a list of [x, y], or {"36": [x, y], ...} by iBUG number'


def read_json(path: Path, text: str, photo: str | None) -> list[np.ndarray]:
    """Read the points of each face of a JSON file.

    Args:
        path: The file, for messages.
        text: What it holds.
        photo: The picture's name, which chooses among the pictures of a file.

    Returns:
        [L,2] or [L,3] of each face, NaN for what is missing.

    Raises:
        InputError: It is not JSON, or has no points where tools keep them.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable JSON file ({one_line(error)})") from None
    try:
        return _faces(path, content, photo, 0)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {_EXPECTED} ({one_line(error)})") from None


def _faces(path: Path, content: Any, photo: str | None, depth: int) -> list[np.ndarray]:
    if depth > 6:
        raise ValueError("nested too deeply")
    if isinstance(content, Mapping):
        if not content:
            raise ValueError("the object is empty")
        if photo is not None and photo in content:
            return _faces(path, content[photo], photo, depth + 1)
        key = next((k for k in _KEYS if k in content), None)
        return [by_name(path, content)] if key is None else _faces(path, content[key], photo, depth + 1)
    if not isinstance(content, list):
        raise TypeError(f"found {str(content)[:40]}")
    if content and all(isinstance(x, (int, float)) or x is None for x in content):
        flat = np.array(coordinates(content))
        if len(flat) == 3 * _OPENPOSE:
            return [_confident(flat.reshape(-1, 3))]
        axes = next((a for a in (2, 3) if len(flat) % a == 0 and len(flat) // a in SIZES), None)
        if axes is None:
            raise ValueError(f"found {len(flat)} numbers in a row")
        return [flat.reshape(-1, axes)]
    if content and (len(content) in (*SIZES, _OPENPOSE) or not _is_nested(content[0])):
        if not _is_nested(content[0]):
            rows = [coordinates(point) for point in content]
            if len({len(row) for row in rows}) > 1:
                raise ValueError("some points have two coordinates, some three")
            points = np.array(rows, np.float64)
            return [_confident(points) if points.shape == (_OPENPOSE, 3) else points]
    return [face for entry in content for face in _faces(path, entry, photo, depth + 1)]


def _is_nested(entry: Any) -> bool:
    """Whether an entry of a list is a face, not a point."""
    if isinstance(entry, Mapping):
        return not {"x", "y"} <= {str(key).lower() for key in entry} or isinstance(next(iter(entry.values())), list)
    return isinstance(entry, list) and (len(entry) > 4 or any(isinstance(x, (list, Mapping)) for x in entry))


def _confident(points: np.ndarray) -> np.ndarray:
    """The 68 of OpenPose's points; those of confidence 0 are missing."""
    return np.where(points[:68, 2:] > 0, points[:68, :2], np.nan)


def read_xml(path: Path, text: str, photo: str | None) -> list[np.ndarray]:
    """Read the points of each face of an XML file of dlib's imglab, or of MeshLab's PickedPoints (.pp).

    Args:
        path: The file, for messages.
        text: What it holds.
        photo: The picture's name, which chooses among the pictures of a file.

    Returns:
        [L,2] or [L,3] of each face, NaN for what is missing. dlib's pixels are whole numbers at the centers of pixels:
        0.5 is added.

    Raises:
        InputError: It is not XML, or is not of one of these programs.
    """
    if "<!ENTITY" in text:
        raise InputError(f"{path}: an XML file with entities, which no program writes for landmarks")
    try:
        root = ElementTree.fromstring(text.strip())
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: not a readable XML file ({one_line(error)})") from None
    try:
        picked = [p for p in root.iter("point") if p.get("active", "1") != "0"]
        if picked:
            return [np.array([[float(p.attrib[axis]) for axis in "xyz"] for p in picked])]
        images = list(root.iter("image"))
        own = of_picture(path, [image.get("file", f"{k}") for k, image in enumerate(images)], photo)
        boxes = [box for k in own for box in images[k].iter("box")]
        faces = []
        for box in boxes or [root]:
            parts = [(p.attrib["name"], [float(p.attrib["x"]), float(p.attrib["y"])]) for p in box.iter("part")]
            if len({name for name, _ in parts}) != len(parts):
                raise ValueError("two parts have one name")
            if parts:
                faces.append(_parts(path, parts) + 0.5)
    except (KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: expected <part name= x= y=> in each <box>, as dlib's imglab ({one_line(error)})"
        ) from None
    if not faces:
        raise InputError(
            f"{path}: expected dlib's XML, with <part name= x= y=> in each <box>, or MeshLab's PickedPoints, found "
            f"<{root.tag}> without points"
        )
    return faces


def _parts(path: Path, parts: list[tuple[str, list[float]]]) -> np.ndarray:
    if len(parts) != 68 and len(parts) in COUNTS and all(name.isdigit() for name, _ in parts):
        return np.array([point for _, point in sorted(parts, key=lambda part: int(part[0]))])
    return by_name(path, dict(parts))
