"""A NoW evaluation: a method that ships, and the predictions of another one from its files.

python examples/now.py                                    # on example data, written to now_example first
python examples/now.py NoW --method pgn                   # on the challenge's validation set
python examples/now.py NoW --predictions predicted_meshes

`facemodels evaluate now --help` has the layout of the data and of predictions.
"""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np

from facemodels import load_model, mesh_of, write
from facemodels.core.landmarks import SEVEN
from facemodels.evaluation import evaluate, write_example


def predict(data: Path, folder: Path) -> None:
    """Write predictions as the challenge takes them: for each photograph a mesh and seven landmarks on it.

    This one predicts the mean face for everybody. Put your own meshes in its place.
    """
    model = load_model()
    mesh, landmarks = mesh_of(model, morphs=False), model.landmarks(model.mean[None])[0, list(SEVEN)]
    for line in (data / "imagepathsvalidation.txt").read_text().split():
        file = (folder / line).with_suffix(".obj")  # folder/SUBJECT/CHALLENGE/NAME.obj
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, mesh)  # millimeters
        np.savetxt(file.with_suffix(".txt"), landmarks.numpy())  # [7,3]


parser = ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", type=Path, nargs="?", default=Path("now_example"))
parser.add_argument("--method", help="weights that ship, or a checkpoint (default: the best that ship)")
parser.add_argument("--predictions", type=Path, help="default: the mean face, written to DATA_mean_face")
options = parser.parse_args()
if not options.data.exists():
    write_example("now", options.data)
if options.predictions is None:
    options.predictions = options.data.with_name(options.data.name + "_mean_face")
    predict(options.data, options.predictions)

report = evaluate("now", options.data, options.method)
print(report)  # everything that the command prints; report.results has the numbers
other = evaluate("now", options.data, predictions=options.predictions)
print(f"\n{other.table()}")
print(f"\n{report.method}: {report.results['median_mm']:.2f} mm, {other.method}: {other.results['median_mm']:.2f} mm")
