"""MICC Florence: faces against scans, by Bagdanov, Del Bimbo and Masi ("The Florence 2D/3D hybrid face dataset", 2011).

Data: textured scans of 53 people, with videos of them. There is no official protocol. Two families of numbers are in
use, which cannot be compared with each other; ``--variant`` chooses.

"rmse", of Deep3D (Deng et al. 2019) and MGCNet (Shang et al. 2020): frames of the videos. The scan is cropped to 95 mm
around the tip of the nose. The predicted, neutral mesh is laid on it by landmarks, then by closest points with
isotropic scale. The error of a mesh is the root of the mean squared distance of scan vertices from the planes of the
closest triangles; mean and standard deviation are over people. Where papers differ: Genova et al. (2018) took one scale
for all and mean distances (1.50 for what is 1.77 here); GANFit averages over frames, aligns rigidly and takes the
nearer of two scans. Deep3D crops the forehead too, at a height that is not published: here it stays.

"nme", of VRN (Jackson et al. 2017) and PRNet (Feng et al. 2018): pictures are renderings of the scans at pitches of
-15, 20 and 25 degrees and yaws of -80 to 80. After alignment by closest points, the error is the mean distance of
cropped scan vertices from the predicted mesh, with its expression, in percent of the distance of the outer corners of
the eyes in 3D.
"""

import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import facerender as fr
from facemodels.core.errors import InputError
from facemodels.core.landmarks import LEFT_EYE_OUTER, NOSE_TIP, RIGHT_EYE_OUTER
from facemodels.core.progress import progress
from facemodels.evaluation.examples import ORDER_68, PHOTO_LANDMARKS, people, turned, write_picture, write_scan
from facemodels.evaluation.report import RECALLED, PublishedRow, Report, Results
from facemodels.evaluation.scan_alignment import (
    LandmarkCheck,
    Surface,
    add_keep_going,
    align_closest_points,
    align_landmarks,
    within,
)
from facemodels.evaluation.scan_faces import Photo, predicted_surface, read_photo, reconstructions
from facemodels.evaluation.scans import one_file, pictures_in, read_scan, read_scan_landmarks
from facemodels.methods.face_method import FaceMethod
from facerender.color import to_srgb
from facerender.meshes import Mesh, MeshError, load_mesh, mesh_albedo

RADIUS = 95.0  # mm
FRAMES = 5  # of each video
PITCHES, YAWS = (-15.0, 20.0, 25.0), (-80.0, -40.0, 0.0, 40.0, 80.0)  # degrees
SIDE = 320  # pixels of a rendering
_DEEP3D = "README of microsoft/Deep3DFaceReconstruction"
_DEEP3D_PYTORCH = "README of sicxu/Deep3DFaceRecon_pytorch"
PUBLISHED = {
    "rmse": [
        PublishedRow("Genova 2018, by Deng et al.", [1.77, 0.53], _DEEP3D),
        PublishedRow("Deep3D, TensorFlow", [1.67, 0.50], _DEEP3D),
        PublishedRow("Deep3D, PyTorch, 2023", [1.54, 0.49], _DEEP3D_PYTORCH),
        PublishedRow("Deep3D, PyTorch", [1.53, 0.45], _DEEP3D_PYTORCH),
    ],
    "nme": [
        PublishedRow("3DDFA", [6.38], RECALLED),
        PublishedRow("VRN", [5.27], RECALLED),
        PublishedRow("PRNet", [3.76], RECALLED),
        PublishedRow("3DDFA_V2", [3.56], "public material"),
        PublishedRow("SADRNet", [3.12], RECALLED),
    ],
}


def configure(parser: ArgumentParser) -> None:
    """Add the protocol's arguments."""
    parser.epilog = f"""examples:
  facemodels evaluate florence --method dasl --data Florence --json florence.json
  facemodels evaluate florence --method dasl --data Florence --variant nme

The data:
  DATA/
    subject_01/
      Model/frontal1/obj/    or frontal2
        scan.obj             the scan, any name, millimeters; with its texture for --variant nme
        scan.txt             its 68 landmarks [68,3] in the scan's coordinates, .txt, .npy or .json,
                             NaN where one is unknown; the data set lacks it
      Video/CONDITION/       for --variant rmse: Indoor-Cooperative, PTZ-Indoor, PTZ-Outdoor, others
        000.png ...          frames of the video as pictures, of which 5 are taken
        000.txt ...          their landmarks, optional
    subject_02/ ...

{ORDER_68}

{PHOTO_LANDMARKS}"""
    parser.add_argument(
        "--variant",
        choices=tuple(PUBLISHED),
        default="rmse",
        help="rmse: frames of videos, point to plane, mm; nme: renderings of the scans, percent (default: rmse)",
    )
    add_keep_going(parser)


def run(method: FaceMethod, data: Path, options: Namespace) -> Report:
    """Score a method; see `facemodels.evaluation.Protocol`."""
    subjects = sorted(p for p in Path(data).glob("subject_*") if p.is_dir())
    if not subjects:
        raise InputError(f"{data}: expected MICC Florence's folders subject_01, subject_02 ... in it, found none")
    return {"rmse": _run_rmse, "nme": _run_nme}[options.variant](method, subjects, options.keep_going)


def write_example(folder: Path) -> None:
    """Write a tiny data set; see `facemodels.evaluation.Protocol`."""
    for k, person in enumerate(people(2, (0.0, -30.0))):
        home, rotation = folder / f"subject_{k + 1:02d}", turned(2 * k)
        scan = home / "Model" / "frontal1" / "obj" / "scan.obj"
        write_scan(scan, person.vertices @ rotation.T, seed=k)
        np.savetxt(scan.with_suffix(".txt"), person.landmarks @ rotation.T, fmt="%.4f")
        for n, picture in enumerate(person.pictures):
            write_picture(home / "Video" / ("Indoor-Cooperative", "PTZ-Indoor")[n] / "000.png", picture)


def point_to_plane_rmse(points: Tensor, marks: Tensor, surface: Surface, fits: bool = True) -> float:
    """The error of a predicted surface by the variant "rmse", in the scan's unit.

    Args:
        points: [P,3], the cropped vertices of the scan.
        marks: [68,3], its landmarks.
        surface: The predicted surface.
        fits: Whether its landmarks fit those of the scan (`align_closest_points`).
    """
    placement = align_closest_points(points, surface, align_landmarks(surface, marks), fits=fits)
    return float(surface.plane_distances(points, placement).square().mean().sqrt())


def nme(points: Tensor, marks: Tensor, surface: Surface, fits: bool = True) -> float:
    """The error of a predicted surface by the variant "nme", in percent; arguments as of `point_to_plane_rmse`."""
    placement = align_closest_points(points, surface, align_landmarks(surface, marks), fits=fits)
    eyes = (marks[LEFT_EYE_OUTER] - marks[RIGHT_EYE_OUTER]).norm()
    return 100 * float(surface.distances(points, placement).mean() / eyes)


def _read_subject(subject: Path, needed: tuple[int, ...]) -> tuple[Path, Tensor, Tensor]:
    """The path of a subject's scan, its cropped vertices [P,3] and its landmarks [68,3], of which some are needed."""
    folders = [subject / "Model" / name / "obj" for name in ("frontal1", "frontal2")]
    path = one_file(next((f for f in folders if f.is_dir()), folders[0]), ("*.obj",), "a frontal scan")
    marks = read_scan_landmarks(path, needed)
    points = within(read_scan(path).vertices, marks[NOSE_TIP], RADIUS)
    if not len(points):
        raise InputError(
            f"{path}: no vertex lies within {RADIUS:.0f} mm of the tip of the nose in the landmarks beside it; both "
            "must be in millimeters and in the same coordinates"
        )
    return path, points, marks


def _run_rmse(method: FaceMethod, subjects: list[Path], keep_going: bool) -> Report:
    errors: dict[str, dict[str, list[float]]] = {}  # by person and video
    empty, check = [], LandmarkCheck(millimeters=True, keep_going=keep_going)
    for subject in progress(subjects, "people"):
        videos = sorted(p for p in (subject / "Video").glob("*") if p.is_dir())
        frames = {video.name: _evenly_spread(pictures_in(video), FRAMES) for video in videos}
        if not any(frames.values()):
            empty.append(subject.name)
            continue
        path, points, marks = _read_subject(subject, (NOSE_TIP,))
        faces = reconstructions(method, (read_photo(path) for paths in frames.values() for path in paths))
        errors[subject.name] = {video: [] for video in frames}
        for video, face in zip([video for video, paths in frames.items() for _ in paths], faces):
            surface = predicted_surface(method, face)
            fits = check.add(path, surface, marks)
            errors[subject.name][video].append(point_to_plane_rmse(points, marks, surface, fits))
    if not errors:
        raise InputError(
            f"{subjects[0].parent}: expected frames of the videos as pictures in {subjects[0].name}/Video/<condition>/,"
            " found none"
        )
    persons = [np.mean([e for es in by_video.values() for e in es]) for by_video in errors.values()]
    single = [e for by_video in errors.values() for es in by_video.values() for e in es]
    results: Results = {
        "people": len(persons),
        "images": len(single),
        "people_left_out": len(empty),
        "rmse_mm": float(np.mean(persons)),
        "rmse_std_over_people_mm": float(np.std(persons)),
    }
    for video in sorted({v for by_video in errors.values() for v in by_video if by_video[v]}):
        of_people = [np.mean(by_video[video]) for by_video in errors.values() if by_video.get(video)]
        results[f"{video.lower().replace('-', '_')}_rmse_mm"] = float(np.mean(of_people))
    notes = [
        *check.finish(),
        f"{FRAMES} frames of each video, evenly spread; the error is averaged over a person's frames, then over people;"
        " the deviation is over people.",
        "The predicted mesh is neutral, as the scans are. Distances from scan vertices to the prediction. The forehead "
        "stays (Deep3D crops it at an unpublished height).",
    ]
    if empty:
        notes.append(f"Left out, without frames: {', '.join(empty)}.")
    return Report(
        protocol="florence",
        title=f"MICC Florence, {len(persons)} people: point-to-plane RMSE in mm of scan vertices within 95 mm of the "
        "tip of the nose, neutral mesh predicted from one frame, scale aligned",
        results=results,
        errors=np.array(single),
        unit="mm",
        largest=5.0,
        columns=["RMSE mm", "std mm"],
        row=[results["rmse_mm"], results["rmse_std_over_people_mm"]],
        ranked_by="RMSE mm",
        published=PUBLISHED["rmse"],
        notes=notes,
    )


def _evenly_spread(paths: list[Path], count: int) -> list[Path]:
    """`count` of the paths, evenly spread; all if there are no more."""
    if not paths:
        return []
    return [paths[k] for k in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int))]


def _run_nme(method: FaceMethod, subjects: list[Path], keep_going: bool) -> Report:
    check = LandmarkCheck(millimeters=True, keep_going=keep_going)
    rows: list[list[float]] = []
    for subject in progress(subjects, "people"):
        path, points, marks = _read_subject(subject, (NOSE_TIP, RIGHT_EYE_OUTER, LEFT_EYE_OUTER))
        try:
            mesh = load_mesh(path, lambda note: warnings.warn(note, stacklevel=2))
        except MeshError as error:
            raise InputError(str(error)) from None
        tip = marks[NOSE_TIP] - torch.tensor(mesh.origin, dtype=marks.dtype)
        faces = reconstructions(method, renderings(mesh, tip, str(path)))
        rows.append([])
        for face in faces:
            surface = predicted_surface(method, face, expression=True)
            fits = check.add(path, surface, marks)
            rows[-1].append(nme(points, marks, surface, fits))
    errors = np.array(rows)  # [people, poses]
    results: Results = {
        "people": len(errors),
        "images": errors.size,
        "nme_percent": float(errors.mean()),
        "nme_std_percent": float(errors.std()),
    }
    by_yaw = errors.reshape(len(errors), len(PITCHES), len(YAWS)).mean((0, 1))
    for yaw, mean in zip(YAWS, by_yaw):
        results[f"yaw_{'minus_' if yaw < 0 else ''}{abs(yaw):.0f}_nme_percent"] = float(mean)
    return Report(
        protocol="florence",
        title=f"MICC Florence, {len(errors)} people: mean distance to the closest points, in percent of the outer "
        f"interocular distance, on {errors.size} renderings of the scans, scale aligned",
        results=results,
        errors=errors,
        unit="percent",
        largest=15.0,
        columns=["NME %"],
        row=[results["nme_percent"]],
        ranked_by="NME %",
        published=PUBLISHED["nme"],
        notes=[
            *check.finish(),
            "Renderings at pitch -15, 20, 25 (down where positive) and yaw -80, -40, 0, 40, 80 degrees, orthographic, "
            "with the light in the texture, on a gray background.",
            "The predicted mesh has its predicted expression. Distances from scan vertices within 95 mm of the tip of "
            "the nose to the predicted surface.",
        ],
    )


@torch.no_grad()
def renderings(mesh: Mesh, nose_tip: Tensor, name: str) -> Iterator[Photo]:
    """Render a scan in all poses, pitch by pitch.

    Args:
        mesh: The scan, millimeters.
        nose_tip: [3], the tip of its nose, as the mesh's vertices from the mesh's origin.
        name: The scan's name, for messages.

    Yields:
        Pictures of SIDE pixels, in whose middle half lie the 95 mm to each side of the middle of the face.
    """
    middle = nose_tip.float() - torch.tensor([0.0, 0.0, 40.0])  # about where a face turns
    angles = torch.tensor([[pitch, yaw, 0.0] for pitch in PITCHES for yaw in YAWS]) * (torch.pi / 180)
    scale = SIDE / (4 * RADIUS)
    half, center = SIDE / 4, SIDE / 2
    box = (center - half, center - half, center + half, center + half)
    for k, rotation in enumerate(fr.camera.euler_rotation(angles)):
        clip = fr.camera.weak_perspective(
            (mesh.vertices - middle)[None],
            torch.tensor([scale]),
            rotation[None],
            torch.full((1, 2), center),
            (SIDE, SIDE),
            depth=4.0,
        )
        fragments = fr.rasterize(clip, mesh.faces, (SIDE, SIDE))
        colors = mesh_albedo(mesh, fragments)
        covered = (fragments.face_id >= 0)[..., None]
        picture = to_srgb(torch.where(covered, colors, 0.2)[0].clamp(0, 1))
        yield Photo(f"{name}, rendering {k + 1}", (picture * 255).round().to(torch.uint8).numpy(), box)
