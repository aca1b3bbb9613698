"""Differentiable renderer ops for triangle meshes, made for faces, on CPU and CUDA.

Conventions, kept by every op:

* Clip space is OpenGL's: x right, y up, visible when -w <= x, y, z <= w; smaller z/w is nearer. Orthographic cameras
  have w = 1.
* Images have row 0 at the top; pixel (i, j) has its center at (j + 0.5, i + 0.5); x_px = (x/w + 1) W/2,
  y_px = (1 - y/w) H/2.
* A pixel belongs to a triangle when its center is inside under the top-left rule, decided exactly on vertices snapped
  to 1/256 pixel: the same ids on CPU and CUDA. At equal depth the lower face index wins.
* Tensors are batch first, channels last: attributes [N,V,C] (or [1,V,C], shared by the batch), images [N,H,W,C].
* The argument `faces` of every op is a `Topology`, or int32 [F,3]; it is shared by the batch.
* Background is -1 in `face_id`, 0 in `bary`, 1 in `depth`.
* Both windings are drawn unless culling is asked for. Counterclockwise on the screen is the front.
* Geometry is float32, or float64 for verification; attributes and images may be float16 or bfloat16. Ops accept tensors
  of any strides.
* No op waits for the device (building a `Topology` does), nothing is global, and an op computes only the gradients that
  are asked for. Backward passes are deterministic on the CPU, and on CUDA under
  ``torch.use_deterministic_algorithms(True)``. Derivatives are first order: a second raises.

Files:

* `rasterize`, `interpolate`, `normals`, `shading`, `edges`: one op each.
* `fused`: `render_face`, the ops above in one pass.
* `topology`: what can be computed once per face list.
* `camera`, `lighting`, `texture`, `color`: plain torch around the ops.
* `reference`: every op again in slow, plain torch: the specification and the tests' oracle.
* `meshes`, `__main__`: mesh files, and the command ``python -m facerender``. They need imageio and pillow.
* `_autograd`, `_checks`, `_load`: what the ops share.
"""

from ._load import build_info, has_cuda_kernels, installed_version, load

load()

from . import camera, color, lighting, texture  # noqa: E402  # load() goes first: it explains a failure in one sentence
from .camera import in_view  # noqa: E402  # likewise
from .edges import edge_gradients  # noqa: E402  # likewise
from .fused import render_face  # noqa: E402  # likewise
from .interpolate import interpolate  # noqa: E402  # likewise
from .normals import vertex_normals  # noqa: E402  # likewise
from .rasterize import Fragments, bary_derivatives, rasterize  # noqa: E402  # likewise
from .shading import sh_shade  # noqa: E402  # likewise
from .texture import bake_texture, sample_texture  # noqa: E402  # likewise
from .topology import Faces, Topology, locality_order  # noqa: E402  # likewise

__version__ = installed_version()
__all__ = [
    "Faces",
    "Fragments",
    "Topology",
    "bake_texture",
    "bary_derivatives",
    "build_info",
    "camera",
    "color",
    "edge_gradients",
    "has_cuda_kernels",
    "in_view",
    "interpolate",
    "lighting",
    "locality_order",
    "rasterize",
    "render_face",
    "sample_texture",
    "sh_shade",
    "texture",
    "vertex_normals",
]
