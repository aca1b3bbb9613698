"""Published networks of 62 parameters, from the files that a user has.

They are 2DASL's (Tu et al. 2019; a ResNet-50), 3DDFA's (Zhu et al. 2016; a MobileNet-V1) and 3DDFA_V2's (Guo et al.
2020; the same, of full or half width; of its outputs the 62 parameters are taken, and its landmarks left out). All
predict the same numbers about the same model, and become a `DASL` about the user's Basel model, which then is like any
other. What differs from a network that was trained here:

* The 50 coefficients are those of the first 40 identity and 10 expression modes of the model, with modes of unit
  length: sigma times ours. (A network trained here uses the directions that move the vertices most.)
* The camera is in pixels per micrometer, and counts pixels as MATLAB does: the center of the first one is (1, 1), and
  rows are 121 - y. Here it is per millimeter, the corner of the picture is (0, 0), and rows are 120 - y. (So 3DDFA_V2's
  network of half width, on the crops of AFLW in `data.aflw`, puts the corners of the eyes on the labels to 0.05 pixels
  on average.)
* 3DDFA's networks have no landmark channel: the weights of that channel are zero. 2DASL's was trained with 18 points
  of a landmark detector in it and is at its best with them: `DASL.predict(image, landmarks)`. Without, the points are
  those of its own first pass, with the channel empty.

    python -m facemodels.methods.published stage2.pth.tar --model Model_Shape.mat --whitening param_whitening.pkl \\
        -o runs/published

writes a checkpoint, for ``--checkpoint`` of every command.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facemodels.core.errors import InputError
from facemodels.data.tddfa import basel_deviations
from facemodels.io.files import input_error, read_npz, take_arrays
from facemodels.io.pickles import read_pickle
from facemodels.methods.dasl import DASL, DASLConfig
from facemodels.models.formats.tddfa_v2 import IDENTITY, POSE
from facemodels.networks import fill, read_weights
from facemodels.training.checkpoint import save_checkpoint

PARAMETERS, EXPRESSION = 62, 10
TRUNKS = {"layer4.0.conv1.weight": "resnet50", "dw6.conv_dw.weight": "mobilenet"}  # by a name that only one of them has
MICROMETERS = 1000.0  # per millimeter


def load_published(path: str | Path, model: str | Path, whitening: str | Path, entry: str | None = None) -> DASL:
    """Load the published weights of 2DASL, 3DDFA or 3DDFA_V2, in evaluation mode.

    The names of the weights tell which network it is.

    Args:
        path: The checkpoint, a file of torch.save. No code in it is run.
        model: Model_Shape.mat with Model_Exp.mat beside it, or 3DDFA_V2's bfm_noneck_v3.pkl.
        whitening: param_whitening.pkl of 3DDFA or 2DASL, param_mean_std_62d_120x120.pkl of 3DDFA_V2, or an .npz of
            param_mean [62] and param_std [62].
        entry: The key of the weights if the checkpoint holds several ("res_state_dict" is 2DASL's).

    Raises:
        InputError: A file is missing, damaged, or not what it should be.
    """
    found = {
        name.replace("fc_param.", "fc."): value
        for name, value in read_weights(path, entry).items()
        if not name.startswith("fc_lm.")
    }  # 3DDFA_V2 has two outputs
    trunk = next((trunk for name, trunk in TRUNKS.items() if name in found), None)
    if trunk == "mobilenet" and len(found["dw6.conv_dw.weight"]) == 512:
        trunk = "mobilenet_05"
    if trunk is None:
        expected = "the weights of 2DASL's ResNet-50 or of a MobileNet-V1 of 3DDFA or 3DDFA_V2"
        raise input_error(path, expected, f"{', '.join([*found][:4])} ...")
    mean, std = read_whitening(whitening)
    sigmas = [torch.from_numpy(s).float() for s in basel_deviations(model)]
    for sigma, count, what in zip(sigmas, (IDENTITY, EXPRESSION), ("identity", "expression")):
        if len(sigma) < count:
            raise input_error(model, f"a model of at least {count} {what} modes", f"{len(sigma)}")
    method = DASL(DASLConfig(model=str(model), trunk=trunk, schemes=()))
    fill(method.network.trunk, found, path)
    factor, shift = torch.ones(PARAMETERS), torch.zeros(PARAMETERS)
    factor[:POSE].view(3, 4)[:, :3] = MICROMETERS
    shift[3], shift[7] = -0.5, -0.5  # of t_x and t_y
    method.parameter_mean.copy_(factor * mean + shift)
    method.parameter_std.copy_(factor * std)
    for name, sigma, count in zip(("shape", "expression"), sigmas, (IDENTITY, EXPRESSION)):
        getattr(method, f"to_{name}").copy_(torch.diag(sigma)[:, :count])
        getattr(method, f"from_{name}").copy_(torch.diag(1 / sigma)[:count])
    return method.eval()


def read_whitening(path: str | Path) -> tuple[Tensor, Tensor]:
    """Read the mean [62] and standard deviation [62] of the raw parameters, in the units of the file.

    Args:
        path: A pickle of numpy arrays, which is read without running it, or an .npz. The arrays are param_mean and
            param_std, or mean and std.

    Raises:
        InputError: The file is missing, damaged, or lacks one of them.
    """
    expected = "the whitening of the 62 parameters"
    content = read_npz(path, expected) if Path(path).suffix.lower() == ".npz" else read_pickle(path, expected)
    content = content if isinstance(content, dict) else {}
    names = next((pair for pair in (("param_mean", "param_std"), ("mean", "std")) if pair[0] in content), None)
    names = names or ("param_mean", "param_std")
    arrays = {name: content[name] for name in names if name in content}
    arrays = {name: value.reshape(-1) if isinstance(value, np.ndarray) else value for name, value in arrays.items()}
    mean, std = take_arrays(path, arrays, dict.fromkeys(names, (PARAMETERS,)), expected)
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise input_error(path, "finite means and positive deviations", "others")
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(std.astype(np.float32))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m facemodels.methods.published` and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m facemodels.methods.published",
        description="Make a checkpoint of the published weights of 2DASL, 3DDFA or 3DDFA_V2.",
    )
    parser.add_argument(
        "weights",
        type=Path,
        metavar="FILE",
        help="2DASL's checkpoint, or 3DDFA's phase1_wpdc_vdc.pth.tar or 3DDFA_V2's mb1_120x120.pth",
    )
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        metavar="FILE",
        help="Model_Shape.mat with Model_Exp.mat beside it, or bfm_noneck_v3.pkl",
    )
    parser.add_argument(
        "--whitening",
        type=Path,
        required=True,
        metavar="FILE",
        help="param_whitening.pkl, or an .npz of param_mean and param_std",
    )
    parser.add_argument("--entry", help="the key of the weights if the file holds several")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the checkpoint goes")
    options = parser.parse_args(arguments)
    try:
        method = load_published(options.weights, options.model, options.whitening, options.entry)
        print(save_checkpoint(options.output / "checkpoints", 0, method, {}, None, {}, 1, None))
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
