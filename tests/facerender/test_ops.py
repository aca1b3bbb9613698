"""What every op must hold, from the table in ops.py."""

import warnings

import pytest
import torch
from torch.autograd import gradcheck

import facerender as fr
from tests.ops import OPS, SIZE, random, scene

F64 = torch.float64
each = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


def flat(out):
    return out if isinstance(out, tuple) else (out,)


def leaves(tensors):
    return tuple(t.detach().clone().requires_grad_() for t in tensors)


def weighted(out):
    return sum((o * random(o.shape, o.dtype, o.device, 9 + k)).sum() for k, o in enumerate(flat(out)))


@each
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_equals_the_reference(op, dtype, device):
    case, tensors = op.tensors(dtype, device)
    expected_case, expected = op.tensors(F64 if dtype == F64 else torch.float32, torch.device("cpu"))
    for got, want in zip(flat(op.public(case, *tensors)), flat(op.reference(expected_case, *expected)), strict=True):
        torch.testing.assert_close(
            got.cpu(),
            want,
            rtol=2e-4 if dtype == torch.float32 else 1e-9,
            atol=2e-4 if dtype == torch.float32 else 1e-9,
        )


@each
def test_gradients_equal_those_of_the_reference(op, device):
    case, tensors = op.tensors(F64, device)
    expected_case, expected = op.tensors(F64, torch.device("cpu"))
    tensors, expected = leaves(tensors), leaves(expected)
    got = torch.autograd.grad(weighted(op.public(case, *tensors)), tensors, allow_unused=True)
    want = torch.autograd.grad(weighted(op.reference(expected_case, *expected)), expected, allow_unused=True)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.cpu(), torch.zeros_like(g.cpu()) if w is None else w, rtol=1e-7, atol=1e-7)


@each
def test_gradcheck_in_float64(op, device):
    if op.name == "edge_gradients":
        pytest.skip("its gradient is that of an averaged image, not of its own output: see test_edges.py")
    case, tensors = op.tensors(F64, device)
    assert gradcheck(lambda *t: op.public(case, *t), leaves(tensors), nondet_tol=1e-9 if device.type == "cuda" else 0.0)


@each
def test_a_second_derivative_raises(op, device):
    case, tensors = op.tensors(F64, device)
    tensors = leaves(tensors)
    grads = torch.autograd.grad(weighted(op.public(case, *tensors)).square(), tensors, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.autograd.grad(sum(g.sum() for g in grads), tensors, retain_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        sum(g.sum() for g in grads).backward()
    inner = torch.func.grad(lambda *t: weighted(op.public(case, *t)).square())
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        torch.func.grad(lambda *t: inner(*t).sum())(*(t.detach() for t in tensors))


@each
def test_each_subset_of_gradients_has_the_values_of_all(op, device):
    case, tensors = op.tensors(F64, device)
    everything = leaves(tensors)
    want = torch.autograd.grad(weighted(op.public(case, *everything)), everything)
    for k in range(len(tensors)):
        some = list(t.detach() for t in tensors)
        some[k] = some[k].clone().requires_grad_()
        (got,) = torch.autograd.grad(weighted(op.public(case, *some)), some[k])
        torch.testing.assert_close(got, want[k], rtol=1e-12, atol=1e-12)


@each
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_into_one_graph_forward_and_backward(op, dynamic, device):
    case, tensors = op.tensors(torch.float32, device)
    torch._dynamo.reset()
    compiled = torch.compile(lambda *t: op.public(case, *t), fullgraph=True, dynamic=dynamic, backend="aot_eager")
    a, b = leaves(tensors), leaves(tensors)
    got, want = compiled(*a), op.public(case, *b)
    for g, w in zip(flat(got), flat(want), strict=True):
        torch.testing.assert_close(g, w)
    for g, w in zip(torch.autograd.grad(weighted(got), a), torch.autograd.grad(weighted(want), b), strict=True):
        torch.testing.assert_close(g, w)


@each
def test_exports(op):
    case, tensors = op.tensors(torch.float32, torch.device("cpu"))

    class Module(torch.nn.Module):
        def forward(self, *t):
            return op.public(case, *t)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Module(), tensors).run_decompositions()
    for g, w in zip(flat(program.module()(*tensors)), flat(op.public(case, *tensors)), strict=True):
        torch.testing.assert_close(g, w)


@each
def test_func_transforms(op):
    case, tensors = op.tensors(F64, torch.device("cpu"))
    last = len(tensors) - 1

    def loss(*t):
        return weighted(op.public(case, *t))

    everything = leaves(tensors)
    want = torch.autograd.grad(loss(*everything), everything)
    for k, got in enumerate(torch.func.grad(loss, argnums=tuple(range(len(tensors))))(*tensors)):
        torch.testing.assert_close(got, want[k])
    jacobian = torch.func.jacrev(lambda t: loss(*tensors[:last], t).reshape(1), chunk_size=1)(tensors[last])
    torch.testing.assert_close(jacobian[0], want[last])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vmap says that it loops
        stacked = tuple(torch.stack([t, t * 0.9]) for t in tensors)
        mapped = torch.func.vmap(lambda *t: flat(op.public(case, *t)))(*stacked)
    for k in range(2):
        for got, w in zip(mapped, flat(op.public(case, *(t[k] for t in stacked))), strict=True):
            torch.testing.assert_close(got[k], w)


@each
def test_autocast_leaves_geometry_in_float32(op, device):
    case, tensors = op.tensors(torch.float32, device)
    half = leaves(t.bfloat16() for t in tensors)
    with torch.autocast(device.type, torch.bfloat16):
        got = op.public(case, *half)
    want = op.public(case, *(t.detach().float() for t in half))
    for g, w in zip(flat(got), flat(want), strict=True):
        assert g.dtype == torch.float32
        torch.testing.assert_close(g, w)
    for g in torch.autograd.grad(weighted(got), half):
        assert g.dtype == torch.bfloat16


@each
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attributes_of_16_bits(op, dtype, device):
    if not op.attributes:
        pytest.skip("has no attributes")
    case, tensors = op.tensors(torch.float32, device)
    mixed = leaves(t.to(dtype) if k in op.attributes else t for k, t in enumerate(tensors))
    rounded = leaves(t.detach().float() for t in mixed)
    got, want = op.public(case, *mixed), op.public(case, *rounded)
    assert got.dtype == dtype
    torch.testing.assert_close(got, want.to(dtype))
    weight = random(want.shape, torch.float32, device, 9).to(dtype)
    for g, w, t in zip(
        torch.autograd.grad((got * weight).sum(), mixed),
        torch.autograd.grad((want * weight.float()).sum(), rounded),
        mixed,
        strict=True,
    ):
        assert g.dtype == t.dtype
        torch.testing.assert_close(g.float(), w, rtol=2e-2, atol=5e-2 * float(w.abs().max()))


@each
def test_strides_do_not_matter(op, device):
    case, tensors = op.tensors(F64, device)
    want_in = leaves(tensors)
    want = op.public(case, *want_in)
    transposed = leaves(tensors)
    got = op.public(case, *(t.transpose(0, -1).contiguous().transpose(0, -1) for t in transposed))
    for g, w in zip(flat(got), flat(want), strict=True):
        torch.testing.assert_close(g, w)
    offset = [torch.cat([torch.full_like(t[:1], torch.nan), t])[1:] for t in tensors]
    for g, w in zip(flat(op.public(case, *offset)), flat(want), strict=True):
        torch.testing.assert_close(g, w)
    # sum() hands down a gradient of stride zero
    for g, w in zip(
        torch.autograd.grad(sum(o.sum() for o in flat(got)), transposed),
        torch.autograd.grad(sum((o * torch.ones_like(o)).sum() for o in flat(want)), want_in),
        strict=True,
    ):
        torch.testing.assert_close(g, w)


def test_attributes_of_no_vertices_are_an_error_not_a_crash():
    fragments = fr.rasterize(
        torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]]),
        torch.tensor([[0, 1, 2]], dtype=torch.int32),
        (4, 40),
    )
    for channels in (3, 4):
        with pytest.raises(RuntimeError, match="there are 0 vertices"):
            fr.interpolate(torch.zeros(1, 0, channels), torch.tensor([[0, 1, 2]], dtype=torch.int32), fragments)


@each
@pytest.mark.parametrize(
    "sizes", [dict(batch=0), dict(faces=0), dict(batch=0, vertices=0, faces=0), dict(vertices=0, faces=0)], ids=str
)
def test_empty_inputs(op, sizes, device):
    case, tensors = op.tensors(torch.float32, device, **sizes)
    tensors = leaves(tensors)
    torch.use_deterministic_algorithms(True)  # fills fresh memory with NaN
    try:
        out = op.public(case, *tensors)
        grads = torch.autograd.grad(sum(o.sum() for o in flat(out)), tensors, allow_unused=True)
    finally:
        torch.use_deterministic_algorithms(False)
    for o in flat(out):
        assert o.shape[0] == sizes.get("batch", 2) and torch.isfinite(o).all()
    for t, g in zip(tensors, grads, strict=True):
        assert g is None or (g.shape == t.shape and torch.isfinite(g).all())


@each
def test_wrong_arguments_are_named(op):
    for index, spoil, error, message in op.spoil:
        case, tensors = op.tensors(torch.float32, torch.device("cpu"))
        tensors = list(tensors)
        tensors[index] = spoil(tensors[index])
        with pytest.raises(error, match=message):
            op.public(case, *tensors)


@each
@pytest.mark.parametrize("batch", [1, 3])
def test_results_do_not_depend_on_the_number_of_threads(op, batch):
    case, tensors = op.tensors(torch.float32, torch.device("cpu"), batch=batch, vertices=300, faces=5000)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            a = leaves(tensors)
            out = op.public(case, *a)
            results.append((*flat(out), *torch.autograd.grad(weighted(out), a)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@each
def test_runs_are_equal_under_deterministic_algorithms(op, device):
    case, tensors = op.tensors(torch.float32, device, vertices=10, faces=200)
    torch.use_deterministic_algorithms(True)  # also fills fresh memory with NaN
    try:
        results = []
        for _ in range(10 if device.type == "cuda" else 3):
            a = leaves(tensors)
            out = op.public(case, *a)
            results.append((*flat(out), *torch.autograd.grad(sum(o.square().sum() for o in flat(out)), a)))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.isfinite(r).all() for r in results[0])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@each
def test_inference_mode_and_no_grad(op, device):
    case, tensors = op.tensors(torch.float32, device)
    want = op.public(case, *leaves(tensors))
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            for g, w in zip(flat(op.public(case, *tensors)), flat(want), strict=True):
                assert not g.requires_grad
                torch.testing.assert_close(g, w.detach())


@each
def test_cuda_equals_cpu(op, cuda):
    case, tensors = op.tensors(torch.float32, cuda, vertices=200, faces=4000)
    cpu_case, cpu_tensors = op.tensors(torch.float32, torch.device("cpu"), vertices=200, faces=4000)
    a, b = leaves(tensors), leaves(cpu_tensors)
    got, want = op.public(case, *a), op.public(cpu_case, *b)
    for g, w in zip(flat(got), flat(want), strict=True):
        assert torch.equal(g.cpu(), w)
    for g, w in zip(torch.autograd.grad(weighted(got), a), torch.autograd.grad(weighted(want), b), strict=True):
        torch.testing.assert_close(g.cpu(), w, rtol=1e-3, atol=1e-4 * max(1.0, float(w.abs().max())))


@each
def test_cuda_graph_replay_with_synchronisation_forbidden(op, cuda):
    case, tensors = op.tensors(torch.float32, cuda)
    a = leaves(tensors)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            torch.autograd.grad(weighted_on_device(op.public(case, *a)), a)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that this mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            out = op.public(case, *a)
            grads = torch.autograd.grad(weighted_on_device(out), a)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    with torch.no_grad():
        for t in a:
            t.mul_(0.97)
    graph.replay()
    torch.cuda.synchronize()
    b = leaves(a)
    want = op.public(case, *b)
    for g, w in zip(flat(out), flat(want), strict=True):
        assert torch.equal(g, w)
    for g, w in zip(grads, torch.autograd.grad(weighted_on_device(want), b), strict=True):
        torch.testing.assert_close(g, w, rtol=1e-3, atol=1e-4 * max(1.0, float(w.abs().max())))


def weighted_on_device(out):
    return sum(
        (o * torch.linspace(-1, 1, o.numel(), device=o.device, dtype=o.dtype).reshape(o.shape)).sum() for o in flat(out)
    )


@each
def test_the_current_stream_is_used(op, cuda):
    case, tensors = op.tensors(torch.float32, cuda)
    want = op.public(case, *tensors)
    late = [torch.zeros_like(t) for t in tensors]
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(200_000_000)
        for l, t in zip(late, tensors, strict=True):
            l.copy_(t)
        got = op.public(case, *late)
    torch.cuda.synchronize()
    for g, w in zip(flat(got), flat(want), strict=True):
        torch.testing.assert_close(g, w)


@each
def test_no_memory_is_kept(op, cuda):
    case, tensors = op.tensors(torch.float32, cuda)
    a = leaves(tensors)
    for _ in range(5):
        torch.autograd.grad(weighted_on_device(op.public(case, *a)), a)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(200):
        torch.autograd.grad(weighted_on_device(op.public(case, *a)), a)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before


def raw_calls(device, dtype=torch.float32):
    """(name, arguments) of every op that C++ registers, as the public functions call it."""
    clip, topology = scene(dtype, device)
    n, v = clip.shape[:2]
    h, w = SIZE
    ops = torch.ops.facerender
    face_id, bary, depth = ops.rasterize(clip, topology.faces, h, w, 0, 2)
    single, single_bary = face_id[..., 0].contiguous(), bary[..., 0, :].contiguous()
    attributes, image = random((n, v, 5), dtype, device, 1), random((n, h, w, 3), dtype, device, 2)
    normals, albedo, light = (
        random((n, v, 3), dtype, device, 3),
        random((1, v, 3), dtype, device, 4),
        random((n, 9, 3), dtype, device, 5),
    )
    mesh = (topology.faces, topology.offsets, topology.corners)
    host = [  # these run on the CPU alone
        ("vertex_corners", (topology.faces, v)),
        ("face_neighbours", (topology.faces,)),
        ("morton_order", (random((v, 3), torch.float64, device, 8),)),
    ]
    return [
        *(host if device.type == "cpu" else ()),
        ("rasterize", (clip, topology.faces, h, w, 1, 2)),
        ("rasterize_backward", (bary, depth, clip, topology.faces, face_id, False)),
        ("rasterize_backward", (None, depth, clip, topology.faces, face_id, True)),
        ("interpolate", (attributes, topology.faces, single, single_bary, random((5,), dtype, device, 6))),
        ("interpolate", (attributes, topology.faces, face_id, bary, None)),
        (
            "interpolate_backward",
            (random((n, h, w, 5), dtype, device, 7), attributes, topology.faces, single, single_bary, True, True, True),
        ),
        (
            "interpolate_backward",
            (
                random((n, h, w, 5), dtype, device, 7),
                attributes,
                topology.faces,
                single,
                single_bary,
                False,
                True,
                False,
            ),
        ),
        ("vertex_normals", (normals, *mesh)),
        ("vertex_normals_backward", (normals, normals, *mesh)),
        ("sh_shade", (albedo, normals, light, 1)),
        ("sh_shade_backward", (normals, albedo, normals, light, 1, True, False, True)),
        ("render_face", (clip, normals, albedo, light, topology.faces, image, h, w, 0, 1)),
        ("render_face", (clip, None, albedo, None, topology.faces, None, h, w, 0, 0)),
        (
            "render_face_backward",
            (image, clip, normals, albedo, light, topology.faces, single, 1, True, True, True, True, True),
        ),
        (
            "render_face_backward",
            (image, clip, None, albedo, None, topology.faces, single, 1, True, False, False, False, False),
        ),
        ("edge_gradients_backward", (image, image, clip, topology.faces, topology.neighbours, single, False)),
    ]


def test_raw_ops_pass_opcheck(device):
    """Honest schemas, fake kernels with the real shapes, inputs left alone."""
    for name, arguments in raw_calls(device):
        torch.library.opcheck(
            getattr(torch.ops.facerender, name).default,
            arguments,
            test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
        )


def test_every_registered_op_is_in_the_raw_table():
    registered = {
        name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("facerender::")
    }
    assert registered == {name for name, _ in raw_calls(torch.device("cpu"))} | {"cpu_level"}  # which takes no tensor


def test_more_than_2_to_the_31_elements(cuda):
    if torch.cuda.get_device_properties(cuda).total_memory < 40 << 30:
        pytest.skip("needs 40 GiB of GPU memory")
    clip, topology = scene(device=cuda, batch=1)
    n, size = 12, (8192, 8192)  # 8e8 pixels, 2.4e9 barycentrics
    face_id = torch.ops.facerender.rasterize(clip.expand(n, -1, -1), topology.faces, *size, 0, 1)[0]
    assert torch.equal(face_id[0], face_id[-1]) and face_id.amax() >= 0
