"""python -m facemodels.weights CHECKPOINT FOLDER: packs a checkpoint as the weights that ship are packed."""

import sys

from ..errors import InputError
from . import pack

if len(sys.argv) != 3:
    sys.exit("usage: python -m facemodels.weights CHECKPOINT FOLDER")
try:
    folder = pack(*sys.argv[1:])
except InputError as error:
    sys.exit(f"error: {error}")
size = (folder / "weights.safetensors").stat().st_size
print(f"{folder}: {size / 1e6:.2f} MB; facemodels.load_method({str(folder)!r}) loads it")
