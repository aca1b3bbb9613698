"""Differentiable renderer ops for triangle meshes, made for faces, on CPU and CUDA.

Conventions, kept by every op:

* Clip space is OpenGL's: x right, y up, visible when -w <= x, y, z <= w; smaller z/w is nearer. Orthographic cameras have w = 1.
* Images have row 0 at the top; pixel (i, j) has its centre at (j + 0.5, i + 0.5); x_px = (x/w + 1) W/2, y_px = (1 - y/w) H/2.
* A pixel belongs to a triangle when its centre is inside under the top-left rule, decided exactly on vertices snapped to 1/256 pixel: the
  same ids on CPU and CUDA. At equal depth the lower face index wins.
* Tensors are batch first, channels last: attributes [N,V,C] (or [1,V,C], shared by the batch), images [N,H,W,C]. Faces are int32 [F,3],
  shared by the batch. Background is -1 in `face_id`, 0 in `bary`, 1 in `depth`.
* Both windings are drawn unless culling is asked for. Counter-clockwise on the screen is the front.
* Geometry is float32, or float64 for verification; attributes and images may be float16 or bfloat16.
* No op waits for the device (building a `Topology` does), nothing is global, and an op computes only the gradients that are asked for. Backward passes are
  deterministic on the CPU, and on CUDA under ``torch.use_deterministic_algorithms(True)``. Derivatives are first order: a second raises.
"""

from ._load import build_info, has_cuda_kernels, load

load()

from . import camera, lighting, texture  # noqa: E402
from .edges import edge_gradients  # noqa: E402
from .fused import render_face  # noqa: E402
from .interpolate import interpolate  # noqa: E402
from .normals import vertex_normals  # noqa: E402
from .rasterize import Fragments, bary_derivatives, rasterize  # noqa: E402
from .shading import sh_shade  # noqa: E402
from .texture import bake_texture, sample_texture  # noqa: E402
from .topology import Topology, locality_order  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "Fragments",
    "Topology",
    "bake_texture",
    "bary_derivatives",
    "build_info",
    "camera",
    "edge_gradients",
    "has_cuda_kernels",
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
