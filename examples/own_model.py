"""A morphable model of your own: from meshes of people and of expressions, which share their vertices, to a file.

python examples/own_model.py -o mine.safetensors                  # with meshes that are made up first
python examples/own_model.py -o mine.safetensors --meshes FOLDER  # with your own, see `make_meshes`

Then: facemodels doctor mine.safetensors; facemodels sheet -o faces.png --model mine.safetensors;
facemodels fit scan.ply --model mine.safetensors -o out
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import facemodels
from facerender.meshes import load_mesh

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("-o", "--output", default="mine.safetensors", help="the model (default: mine.safetensors)")
parser.add_argument("--meshes", type=Path, help="folder of meshes (default: made up, beside the output)")
options = parser.parse_args()


def make_meshes(folder: Path) -> None:
    """What is needed: OBJ files of one topology, in millimeters, y up, the face towards +z."""
    model, generator = facemodels.load_model("builtin"), torch.Generator().manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(12):  # people, without expression
        identity = torch.randn(1, 8, generator=generator)
        facemodels.write(folder / f"person{k:02}.obj", facemodels.mesh_of(model, identity))
    for name in ("jawOpen", "mouthSmileLeft", "mouthSmileRight"):  # the mean person with expressions
        expression = torch.tensor([[float(name == n) for n in model.expression_names]])
        facemodels.write(folder / f"expression_{name}.obj", facemodels.mesh_of(model, None, expression))
    facemodels.write(folder / "neutral.obj", facemodels.mesh_of(model))
    corner = model.landmark_weights.argmax(1, keepdim=True)
    np.savetxt(folder / "landmarks.txt", model.landmark_index.gather(1, corner), "%d")  # 68 vertices, in iBUG's order
    np.savetxt(folder / "face.txt", model.regions["face"], "%d")  # the vertices that fits compare and measure


folder = options.meshes or Path(options.output).with_name(Path(options.output).stem + "_meshes")
if options.meshes is None:
    make_meshes(folder)


def vertices(path: Path) -> np.ndarray:
    """Vertices [V,3] in millimeters."""
    return load_mesh(path).vertices.double().numpy()


people = np.stack([vertices(path) for path in sorted(folder.glob("person*.obj"))])  # [N,V,3]
mean = people.mean(0)
_, spread, modes = np.linalg.svd((people - mean).reshape(len(people), -1), full_matrices=False)
count = min(6, len(people) - 1)
identity = (spread[:count, None] / np.sqrt(len(people) - 1) * modes[:count]).reshape(count, -1, 3)  # unit variance

neutral = vertices(folder / "neutral.obj")
shapes = {path.stem.partition("_")[2]: vertices(path) - neutral for path in sorted(folder.glob("expression_*.obj"))}

landmarks = np.loadtxt(folder / "landmarks.txt", int)
data = facemodels.ModelData(
    name="mine",
    mean=mean,
    identity=identity,
    expression=np.stack(list(shapes.values())),
    expression_names=tuple(shapes),
    blendshapes=True,  # coefficients of expressions are activations in 0..1
    faces=load_mesh(folder / "neutral.obj").faces.numpy(),
    landmark_index=landmarks,
    regions={"face": np.loadtxt(folder / "face.txt", int)},
)
data.save(options.output)

model = facemodels.load_model(options.output)
print(f"{options.output}: {model}")
scan = torch.from_numpy(people[0])  # any mesh of a face, in any pose
fit = facemodels.fit_mesh(scan, model.faces, model, model.landmarks(scan[None].float())[0], progress=False)
assert fit.placement is not None
distance = (fit.placement(fit.face(model).vertices[0]) - scan)[model.regions["face"]].norm(dim=-1)
print(f"fitted to a person: {distance.median():.2f} mm off; {fit.doubts or 'nothing speaks against it'}")
