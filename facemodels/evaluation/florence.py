"""MICC Florence: textured scans of 53 people with videos of them, by Bagdanov, Del Bimbo and Masi, "The Florence 2D/3D hybrid face dataset" (2011). There is no official
protocol. Two families of numbers are in use, and neither can be compared with the other; ``--variant`` chooses.

"rmse", of Deep3D (Deng et al. 2019) and MGCNet: frames of the videos. The scan is cropped to 95 mm around the tip of the nose; the predicted mesh is laid on it by landmarks, then
by iterated closest points with isotropic scale; the error of a mesh is the root of the mean squared distance of scan vertices from the planes of the nearest triangles. Mean and
standard deviation are over people. Where tables differ: Genova et al. (2018) took one scale for all and mean distances (1.50 for what is 1.77 here); GANFit averages over
frames, aligns rigidly, and takes the nearer of two scans. Deep3D cuts the forehead too, at a height that is not published: here it stays.

"nme", of VRN (Jackson et al. 2017) and PRNet (Feng et al. 2018): pictures are renderings of the scans at pitches of -15, 20 and 25 degrees and yaws of -80 to 80. After iterated
closest points, the mean distance of cropped scan vertices from their nearest points on the predicted mesh, in percent of the distance of the outer corners of the eyes in 3D.
"""

from pathlib import Path

import numpy as np
import torch

import facerender as fr
from facemodels.core.errors import InputError
from facemodels.core.landmarks import LEFT_EYE_OUTER, NOSE_TIP, RIGHT_EYE_OUTER
from facemodels.evaluation.report import Report
from facemodels.evaluation.scans import (
    Photo,
    Surface,
    inner,
    one_file,
    photo,
    pictures_in,
    placed_by_landmarks,
    predicted_surface,
    read_scan,
    read_scan_landmarks,
    reconstructions,
    refined,
)
from facerender.color import to_srgb
from facerender.meshes import Mesh, MeshError, load_mesh

RADIUS = 95.0  # mm
FRAMES = 5  # of each video
PITCHES, YAWS = (-15.0, 20.0, 25.0), (-80.0, -40.0, 0.0, 40.0, 80.0)  # degrees
SIDE = 320  # pixels of a rendering
VARIANTS = ("rmse", "nme")
PUBLISHED = {
    "rmse": [
        ("Genova 2018, by Deng et al.", [1.77, 0.53], "found"),
        ("Deep3D, TensorFlow", [1.67, 0.50], "found"),
        ("Deep3D, PyTorch, 2023", [1.54, 0.49], "found"),
        ("Deep3D, PyTorch", [1.53, 0.45], "found"),
    ],
    "nme": [
        ("3DDFA", [6.38], "recalled"),
        ("VRN", [5.27], "recalled"),
        ("PRNet", [3.76], "recalled"),
        ("3DDFA_V2", [3.56], "found"),
        ("SADRNet", [3.12], "recalled"),
    ],
}


def configure(parser) -> None:
    parser.add_argument(
        "--variant",
        choices=VARIANTS,
        default="rmse",
        help="rmse: frames, point to plane, mm; nme: renderings of the scans, percent (default: rmse)",
    )


def run(method, data: Path, options) -> Report:
    """Scores a method.

    data: the folder with subject_01/Model/frontal1/obj/*.obj (or frontal2) and, for "rmse", frames in subject_01/Video/<condition>/. Beside each scan lie its 68 landmarks
    (`read_scan_landmarks`), which the data set lacks; beside a frame may lie its landmarks (`photo`). options.variant: see the module.

    Raises:
        InputError: a file is missing or damaged; the message names it.
    """
    subjects = sorted(p for p in Path(data).glob("subject_*") if p.is_dir())
    if not subjects:
        raise InputError(f"{data}: expected MICC Florence's folders subject_01, subject_02 ... in it, found none")
    return {"rmse": _run_rmse, "nme": _run_nme}[options.variant](method, subjects)


def point_to_plane_rmse(points, marks, surface: Surface) -> float:
    """The error of a predicted surface on cropped scan vertices [P,3] with landmarks [68,3], after alignment with scale, in the scan's unit."""
    placement = refined(points, surface, placed_by_landmarks(surface, marks))
    return float(surface.plane_distances(points, placement).square().mean().sqrt())


def nme(points, marks, surface: Surface) -> float:
    """The same as a mean distance of nearest points, in percent of the distance of the eyes' outer corners."""
    placement = refined(points, surface, placed_by_landmarks(surface, marks))
    return 100 * float(
        surface.distances(points, placement).mean() / (marks[LEFT_EYE_OUTER] - marks[RIGHT_EYE_OUTER]).norm()
    )


def _scan(subject, needed):
    """(path of the scan, cropped vertices, landmarks)."""
    folders = [subject / "Model" / name / "obj" for name in ("frontal1", "frontal2")]
    path = one_file(next((f for f in folders if f.is_dir()), folders[0]), ("*.obj",), "a frontal scan")
    marks = read_scan_landmarks(path, needed)
    points = inner(read_scan(path).vertices, marks[NOSE_TIP], RADIUS)
    if not len(points):
        raise InputError(
            f"{path}: no vertex lies within {RADIUS:.0f} mm of the tip of the nose that the landmarks beside it give; both must be millimetres of one frame"
        )
    return path, points, marks


def _run_rmse(method, subjects):
    errors, empty = {}, []
    for subject in subjects:
        videos = sorted(p for p in (subject / "Video").glob("*") if p.is_dir())
        frames = {video.name: _spread(pictures_in(video), FRAMES) for video in videos}
        if not any(frames.values()):
            empty.append(subject.name)
            continue
        _, points, marks = _scan(subject, (NOSE_TIP,))
        found = reconstructions(method, (photo(path) for paths in frames.values() for path in paths))
        errors[subject.name] = {
            video: [point_to_plane_rmse(points, marks, predicted_surface(method, next(found))) for _ in paths]
            for video, paths in frames.items()
        }
    if not errors:
        raise InputError(
            f"{subjects[0].parent}: expected frames of the videos as pictures in {subjects[0].name}/Video/<condition>/, found none"
        )
    people = [np.mean([e for es in videos.values() for e in es]) for videos in errors.values()]
    single = [e for videos in errors.values() for es in videos.values() for e in es]
    results = {
        "people": len(people),
        "images": len(single),
        "people_left_out": len(empty),
        "rmse_mm": float(np.mean(people)),
        "rmse_std_over_people_mm": float(np.std(people)),
    }
    for video in sorted({v for videos in errors.values() for v in videos if videos[v]}):
        results[f"{video.lower().replace('-', '_')}_rmse_mm"] = float(
            np.mean([np.mean(videos[video]) for videos in errors.values() if videos.get(video)])
        )
    title = f"MICC Florence, {len(people)} people: point-to-plane RMSE in mm of scan vertices within 95 mm of the tip of the nose, neutral mesh predicted of one frame, scale aligned"
    notes = [
        f"{FRAMES} frames of each video, evenly spread; the error is averaged over a person's frames, then over people; the deviation is over people.",
        "The predicted mesh is neutral, as the scans are. Distances from scan vertices to the prediction. The forehead stays (Deep3D cuts it at an unpublished height).",
    ]
    notes += [f"left out, without frames: {', '.join(empty)}"] if empty else []
    row = [results["rmse_mm"], results["rmse_std_over_people_mm"]]
    return Report(
        "florence", title, results, np.array(single), "mm", 5.0, ["RMSE mm", "std mm"], row, PUBLISHED["rmse"], notes
    )


def _spread(paths, count):
    """`count` of the paths, evenly spread; all where there are no more."""
    return (
        [paths[k] for k in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int))]
        if paths
        else []
    )


def _run_nme(method, subjects):
    errors = []
    for subject in subjects:
        path, points, marks = _scan(subject, (NOSE_TIP, RIGHT_EYE_OUTER, LEFT_EYE_OUTER))
        try:
            mesh = load_mesh(path)
        except MeshError as error:
            raise InputError(str(error)) from None
        found = reconstructions(method, renderings(mesh, marks[NOSE_TIP], str(path)))
        errors.append([nme(points, marks, predicted_surface(method, one, expression=True)) for one in found])
    errors = np.array(errors)  # [people, poses]
    results = {
        "people": len(errors),
        "images": errors.size,
        "nme_percent": float(errors.mean()),
        "nme_std_percent": float(errors.std()),
    }
    turned = errors.reshape(len(errors), len(PITCHES), len(YAWS)).mean((0, 1))
    results |= {
        f"yaw_{'minus_' if yaw < 0 else ''}{abs(yaw):.0f}_nme_percent": float(e) for yaw, e in zip(YAWS, turned)
    }
    title = f"MICC Florence, {len(errors)} people: mean distance of nearest points, in percent of the outer interocular distance, on {errors.size} renderings of the scans, scale aligned"
    notes = [
        "Renderings at pitch -15, 20, 25 (down where positive) and yaw -80, -40, 0, 40, 80 degrees, orthographic, the texture's own light, grey background.",
        "The predicted mesh has the expression that is predicted. Distances from scan vertices within 95 mm of the tip of the nose to the predicted surface.",
    ]
    return Report(
        "florence",
        title,
        results,
        errors,
        "percent",
        15.0,
        ["NME %"],
        [results["nme_percent"]],
        PUBLISHED["nme"],
        notes,
    )


@torch.no_grad()
def renderings(mesh: Mesh, nose_tip, name: str):
    """Pictures of a scan (`Photo`) from all of the poses, pitch by pitch, the square of 95 mm to each side of the middle of its face in the middle."""
    middle = nose_tip.float() - torch.tensor([0.0, 0.0, 40.0])  # about where a face turns around
    angles = torch.tensor([[pitch, yaw, 0.0] for pitch in PITCHES for yaw in YAWS]) * (torch.pi / 180)
    scale = SIDE / (4 * RADIUS)
    half, centre = SIDE / 4, SIDE / 2
    box = (centre - half, centre - half, centre + half, centre + half)
    for k, rotation in enumerate(fr.camera.euler_rotation(angles)):
        clip = fr.camera.weak_perspective(
            (mesh.vertices - middle)[None],
            torch.tensor([scale]),
            rotation[None],
            torch.full((1, 2), centre),
            (SIDE, SIDE),
            depth=4.0,
        )
        fragments = fr.rasterize(clip, mesh.faces, (SIDE, SIDE))
        colours = fr.interpolate(mesh.colours[None].contiguous(), mesh.faces, fragments)
        if mesh.texture is not None:
            colours = colours * fr.texture.sample_texture(
                mesh.texture[None], fr.interpolate(mesh.uv[None].contiguous(), mesh.faces, fragments), wrap="repeat"
            )
        seen = (fragments.face_id >= 0)[..., None]
        picture = to_srgb(torch.where(seen, colours, 0.2)[0].clamp(0, 1))
        yield Photo(f"{name}, rendering {k + 1}", (picture * 255).round().to(torch.uint8).numpy(), box)
