"""facemodels reconstruct: the faces of photographs, folders, videos and webcams."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from facemodels.cli.reconstruct_inputs import KnownFaces, sort_inputs, unique_names
from facemodels.cli.reconstruct_outputs import (
    CoefficientTransfer,
    OutputWriter,
    print_problem,
)
from facemodels.cli.reconstruct_photos import reconstruct_photos
from facemodels.cli.reconstruct_videos import reconstruct_video
from facemodels.core.errors import InputError
from facemodels.core.options import add_output_folder, number
from facemodels.io.files import check_writable
from facemodels.io.results import result_folder
from facemodels.io.video import VIDEO_SUFFIXES
from facemodels.methods import shipped
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.detect import check_detector
from facemodels.reconstruction.files import DEFAULT_OUTPUTS, OUTPUTS, check_outputs
from facemodels.reconstruction.follow import DETECT_EVERY
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.refine import ITERATIONS

USUAL_OUTPUTS = ("overlay", "landmarks", "pose", "glb", "coefficients")  # what --write usual stands for


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = f"""examples:
  facemodels reconstruct photo.jpg -o out
  facemodels reconstruct holiday/ clip.mp4 -o out --write usual,obj,arkit
  facemodels reconstruct photo.jpg -o out --refine              better shapes, a second per face
  facemodels reconstruct photo.jpg -o out --landmarks photo.pts 68, 21 or 5 known points
  facemodels reconstruct webcam -o out                          recorded until Ctrl-C as webcam.mp4

--write takes words separated by commas (default: {",".join(DEFAULT_OUTPUTS)}). Of a video,
pictures become a video, and tables have a row for each frame:
  usual                                     {",".join(USUAL_OUTPUTS)}
  all                                       everything
  overlay, landmarks, depth, normals, pose  pictures; landmarks and pose (degrees) as files too
  obj, ply, glb, viewer                     meshes in millimeters (GLB: meters), textured with the
                                            photograph, hidden parts by symmetry; viewer: a web page
  texture                                   that texture as a picture
  coefficients                              of the morphable model, with camera and landmarks, as
                                            .npz and .json
  arkit                                     ARKit's 52 expression curves as .csv

File names begin with the picture's name; those of single faces with NAME_0, NAME_1, ..., the
largest face first (of a video: in the order in which they appear). The exit code is 0 if every
input was read and has a face, and given landmarks fit their faces; else it is 1: what is wrong is
named, and the rest is still processed.

No input is ever replaced by a result. Results of earlier runs are replaced, but are no inputs of
the next run on their folder; other files that are in the way are renamed to NAME~."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help=f"pictures, folders of them, videos ({' '.join(VIDEO_SUFFIXES)}), or webcam, webcam:1, ...",
    )
    add_output_folder(parser)
    parser.add_argument(
        "--write",
        default=",".join(DEFAULT_OUTPUTS),
        metavar="WORDS",
        help=f"what to write: usual, all, or {', '.join(OUTPUTS)}",
    )
    parser.add_argument(
        "--method",
        metavar="METHOD",
        help=f"shipped weights ({', '.join(shipped.weight_names())}), or the folder of a checkpoint (default: the "
        "best shipped weights)",
    )
    parser.add_argument(
        "--refine",
        action="store_const",
        const=ITERATIONS,
        default=0,
        help="photographs: fit each predicted face to the picture, for a better shape, with albedo and light; about a "
        "second a face",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="transfer the shapes to another morphable model, builtin or a file (default: the method's own model)",
    )
    parser.add_argument(
        "--landmarks",
        type=Path,
        metavar="PATH",
        help="landmark file of a photograph, or a folder with a file named as each photograph; faces are not detected "
        "there",
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help='JSON, {"photo.jpg": [[x0, y0, x1, y1], ...]} in pixels; faces of these photographs are not detected',
    )
    parser.add_argument(
        "--threshold",
        type=number(float, 0, 1, exclusive=True),
        default=0.5,
        metavar="CONFIDENCE",
        help="minimum confidence of a detected face, 0..1 (default: 0.5)",
    )
    parser.add_argument(
        "--most",
        type=number(int, 1),
        metavar="N",
        help="keep at most the N largest faces of each picture (default: all)",
    )
    parser.add_argument(
        "--smallest",
        type=number(float, 1),
        metavar="PIXELS",
        help="height of the smallest faces to look for, from brows to chin; small ones in a large picture take a "
        "finer search (default: what the usual one finds, down to about a fortieth of the longer side)",
    )
    parser.add_argument(
        "--person",
        type=number(int, 0),
        metavar="N",
        help="only the person of each video whose files have this number: 0 is the first to appear",
    )
    parser.add_argument(
        "--every",
        type=number(int, 1),
        default=DETECT_EVERY,
        metavar="N",
        help=f"look for new faces in every Nth frame of a video (default: {DETECT_EVERY})",
    )
    parser.add_argument(
        "--smooth",
        type=number(float, 0),
        default=1.2,
        metavar="FRAMES",
        help="standard deviation of a video's temporal filter, 0 for none (default: 1.2)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto (default: cpu)")


def output_words(text: str) -> list[str]:
    """The words of --write; `usual` and `all` stand for several."""
    words = (word.strip() for word in text.split(","))
    several = {"usual": USUAL_OUTPUTS, "all": OUTPUTS}
    return list(dict.fromkeys(one for word in words if word for one in several.get(word, (word,))))


def _is_possible(word: str, model: MorphableModel, method: MorphableModel) -> bool:
    try:
        check_outputs([word], model, method)
    except InputError as error:
        print_problem(error)
        return word not in OUTPUTS
    return True


def run(options: Namespace) -> int:
    """Run the command and return its exit code."""
    words = output_words(options.write)
    known = KnownFaces(options.landmarks, options.boxes)
    worker = Reconstructor(
        options.method, options.device, options.threshold, options.refine, options.most, options.smallest
    )
    transfer = CoefficientTransfer(worker.model, options.model)
    if "all" in options.write.split(","):
        words = [word for word in words if _is_possible(word, transfer.model, worker.model)]
    check_outputs(words, transfer.model, worker.model)
    check_writable(options.output)
    photos, clips, problems, notes = sort_inputs(options.inputs)
    for message in notes:
        print_problem(message)
    if clips and options.refine:
        raise InputError(
            f"{clips[0]}: --refine takes photographs; it would take a second for each face of each frame of a video"
        )
    if options.person is not None and not clips:
        raise InputError("--person is for videos; --most 1 takes the largest face of each picture")
    for message in problems:
        print_problem(message)
    if clips and not photos and options.landmarks is not None:
        raise InputError(f"{options.landmarks}: --landmarks are for photographs; the faces of videos are detected")
    if len(photos) > 1 and options.landmarks is not None and not options.landmarks.is_dir():
        raise InputError(
            f"{options.landmarks}: landmarks of one photograph, and there are {len(photos)}; give a folder with a file "
            "named as each"
        )
    failures = len(problems)
    for name in known.unmatched(photos):
        print_problem(f"{options.boxes}: {name} is none of the photographs")
        failures += 1
    lacking = known.lacking(photos)
    if lacking and len(lacking) == len(photos):
        raise InputError(
            f"{options.landmarks}: expected a landmark file named as a photograph, such as {photos[0].stem}.pts or "
            f"{photos[0].stem}.txt; found none"
        )
    for photo in lacking:
        print_problem(f"{photo}: has no landmark file in {options.landmarks}, so its faces are detected")
    if clips or any(known.is_unknown(photo) for photo in photos):
        check_detector()
    names = unique_names([*photos, *clips], options.output)
    writer = OutputWriter(options.output, words, transfer)
    read = [*photos, *(clip for clip in clips if isinstance(clip, Path)), options.landmarks, options.boxes]
    with result_folder(options.output, [path for path in read if path is not None], print_problem):
        failures += reconstruct_photos(worker, photos, names, known, writer)
        for clip in clips:
            try:
                failures += not reconstruct_video(
                    worker, clip, names[clip], writer, options.every, options.smooth, options.person
                )
            except (InputError, OSError) as error:
                print_problem(error, clip)
                failures += 1
    if writer.count:
        print(f"{writer.count} file{'s' if writer.count > 1 else ''} in {options.output}")
    return 1 if failures else 0
