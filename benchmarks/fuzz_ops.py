"""Random meshes at the edge of what numbers hold, drawn by the ops and by the reference, which must agree.

python -m benchmarks.fuzz_ops [--cases 1000] [--seed 0]

Every case has a few triangles in a small image: across the camera plane, with corners opposite each other across the
eye, with coordinates over 30 to 150 decades, near overflow and underflow, on pixel centers, not finite. Checked of
each: face ids are those of the reference; barycentrics are in 0..1 and depth is in -1..1; no gradient is NaN or
infinite. A case that fails is printed with its kind and its seed, from which `mesh` makes it again.
"""

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor

import facerender as fr
from facerender import reference

SIZE = (7, 18)  # wide enough for sixteen lanes and a rest
KINDS = ("across", "opposite", "decades", "decades of w", "huge", "tiny", "on a grid", "not finite", "flat")


def mesh(kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """Return clip positions [1,V,4], float32 or by turns float64, and faces int32 [F,3] of a case."""
    g = torch.Generator().manual_seed(seed)
    double = bool(torch.rand((), generator=g) < 0.5)
    count, faces = 8, 7
    clip = torch.randn(count, 4, generator=g, dtype=torch.float64)
    clip[:, 3] += torch.rand((), generator=g) * 2

    def one_of(*choices: float) -> float:
        return choices[int(torch.randint(len(choices), (), generator=g))]

    def decades(reach: float, *shape: int) -> Tensor:
        return 10 ** ((torch.rand(*shape, generator=g, dtype=torch.float64) * 2 - 1) * reach)

    reach = one_of(15, 50, 75) if double else one_of(8, 15)
    if kind == "opposite":
        if torch.rand((), generator=g) < 0.5:
            clip = (clip * 4).round() / 4
        for i in range(0, count, 2):
            clip[i + 1] = -clip[i] * one_of(1, 1, 2, 3, 0.3)
            if torch.rand((), generator=g) < 0.3:
                clip[i + 1, 2] = torch.randn((), generator=g)  # the height above the plane of x, y and w is free
    elif kind == "decades":
        clip *= decades(reach, count, 1)
    elif kind == "decades of w":
        clip[:, 3] *= decades(reach, count)
    elif kind == "huge":
        clip[:2] *= one_of(1e30, 1e200, 1e300) if double else one_of(1e18, 1e30, 1e38)
        clip[2, int(one_of(0, 1, 2, 3))] = 1.7e308 if double else 3e38
    elif kind == "tiny":
        clip[: int(one_of(1, 4, 8))] *= one_of(1e-160, 1e-300, 1e-310) if double else one_of(1e-20, 1e-38, 1e-42)
    elif kind == "on a grid":
        clip = (clip * 2).round() / 2
    elif kind == "not finite":
        clip[int(one_of(0, 1)), int(one_of(0, 1, 2, 3))] = one_of(float("nan"), float("inf"), -float("inf"))
    elif kind == "flat":
        clip[1] = clip[0] + clip[2]  # in one plane with the eye
        clip[4] = 2 * clip[3] - clip[5]
    limit = 1.7e308 if double else 3e38
    clip = torch.where(clip.isfinite(), clip.clamp(-limit, limit), clip)
    index = torch.randint(0, count, (faces, 3), generator=g, dtype=torch.int32)
    index[:3] = torch.tensor([[0, 1, 2], [2, 3, 0], [4, 5, 3]])
    return clip.to(torch.float64 if double else torch.float32)[None], index


def faults(kind: str, seed: int) -> Iterator[str]:
    """Yield a sentence for everything that is wrong with a case."""
    clip, faces = mesh(kind, seed)
    cull = ("none", "back", "front")[seed % 3]
    positions = clip.clone().requires_grad_()
    found = fr.rasterize(positions, faces, SIZE, cull, layers=2)
    assert found.bary is not None
    wanted = reference.rasterize(clip, faces, SIZE, cull, layers=2)
    differing = int((found.face_id != wanted.face_id).sum())
    if differing:
        yield f"{differing} face ids differ from the reference"
    for name, result in (("", found), ("the reference's ", wanted)):
        assert result.bary is not None
        hit = result.face_id >= 0
        depth, bary = result.depth.detach(), result.bary.detach()[hit]
        if not ((depth >= -1) & (depth <= 1)).all():
            yield f"{name}depth leaves -1..1: {depth[~(depth.abs() <= 1)].unique().tolist()[:3]}"
        if not ((bary >= 0) & (bary <= 1)).all() or not ((bary.sum(-1) - 1).abs() < 1e-5).all():
            yield f"{name}barycentrics leave 0..1, or do not sum to 1"
    g = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(clip.dtype)

    weights = random(*found.bary.shape), random(*found.depth.shape)
    for name, output, weight in (("bary", found.bary, weights[0]), ("depth", found.depth, weights[1])):
        (gradient,) = torch.autograd.grad(output, positions, weight, retain_graph=True)
        yield from _unless_finite(f"d {name} / d clip", gradient)
    normals, albedo, light = (random(1, *s).requires_grad_() for s in ((clip.shape[1], 3), (clip.shape[1], 3), (9, 3)))
    image, ids = fr.render_face(positions, normals, albedo, light, faces, SIZE, cull=cull)
    if not torch.equal(ids, found.face_id[..., 0]):
        yield "render_face has other face ids than rasterize"
    for t, gradient in zip(
        ("clip", "normals", "albedo", "light"),
        torch.autograd.grad(image, (positions, normals, albedo, light), random(*image.shape)),
        strict=True,
    ):
        yield from _unless_finite(f"d render_face / d {t}", gradient)
    single = fr.rasterize(positions, faces, SIZE, cull)
    edges = fr.edge_gradients(random(1, *SIZE, 3), single, positions, faces)
    (gradient,) = torch.autograd.grad(edges, positions, random(1, *SIZE, 3))
    yield from _unless_finite("d edge_gradients / d clip", gradient)


def _unless_finite(name: str, gradient: Tensor) -> Iterator[str]:
    wrong = gradient[~gradient.isfinite()]
    if len(wrong):
        yield f"{name} has {len(wrong)} numbers that are not finite, {wrong[0].item()} first"


def main() -> int:
    """Run the cases, print those that fail, and return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_ops", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="cases of each kind (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first case; the others follow (default: 0)")
    options = parser.parse_args()
    failed = 0
    for kind in KINDS:
        for seed in range(options.seed, options.seed + options.cases):
            wrong = list(faults(kind, seed))
            failed += bool(wrong)
            for sentence in wrong:
                print(f"{kind}, seed {seed}: {sentence}")
    print(f"{len(KINDS) * options.cases} cases, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
