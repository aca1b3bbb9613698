import pytest
import torch

import facerender as fr

QUAD = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)


def test_neighbours_across_each_edge():
    assert fr.Topology(QUAD, 4).neighbours.tolist() == [[-1, 1, -1], [-1, -1, 0]]


def test_an_edge_of_three_faces_is_a_border():
    fin = torch.cat([QUAD, torch.tensor([[0, 2, 4]], dtype=torch.int32)])
    assert (fr.Topology(fin, 5).neighbours == -1).all()


def test_a_face_that_names_a_vertex_twice_is_no_neighbour_of_itself():
    assert (fr.Topology(torch.tensor([[0, 0, 1], [1, 1, 1]], dtype=torch.int32), 2).neighbours == -1).all()


def test_corners_of_each_vertex():
    t = fr.Topology(QUAD, 5)
    corners = [t.corners[a:b].tolist() for a, b in zip(t.offsets[:-1], t.offsets[1:], strict=True)]
    assert corners == [[0, 3], [1], [2, 4], [5], []]


def test_closed_meshes_have_neighbours_everywhere_and_both_ways():
    from benchmarks.meshes import head

    v, f, _ = head(12)
    n = fr.Topology(torch.from_numpy(f), len(v)).neighbours
    assert (n >= 0).all()
    assert ((n[n.long()] == torch.arange(len(f))[:, None, None]).sum(-1) == 1).all()


def test_bad_faces_are_named():
    for faces, error, message in (
        (QUAD.long(), TypeError, r"faces must be int32 \[F,3\], got int64 \[2, 3\]"),
        (QUAD[:, :2], ValueError, r"faces must be \[F,3\]"),
        (QUAD + 1, ValueError, r"faces must hold indices in 0..3 for 4 vertices, got 1..4"),
        (QUAD - 1, ValueError, r"got -1..2"),
    ):
        with pytest.raises(error, match=message):
            fr.Topology(faces, 4)


def test_locality_order_is_the_same_mesh_with_shorter_jumps():
    from benchmarks.meshes import head

    v, f, _ = head(20)
    v, f = torch.from_numpy(v), torch.from_numpy(f)
    shuffle = torch.randperm(len(v))
    v, f = v[shuffle], shuffle.argsort().int()[f.long()][torch.randperm(len(f))]
    vertex_order, face_order, faces = fr.locality_order(v, f)
    assert torch.equal(v[vertex_order][faces.long()], v[f.long()][face_order])
    jump = lambda faces: (faces[:, 0] - faces[:, 1]).abs().float().mean()  # noqa: E731
    assert jump(faces) < 0.1 * jump(f)
    clip = fr.camera.orthographic(torch.stack([v, v[vertex_order]]), 1.5)
    a = fr.rasterize(clip[:1], f, (64, 64)).face_id
    b = fr.rasterize(clip[1:], faces, (64, 64)).face_id
    assert torch.equal(a, torch.where(b >= 0, face_order[b.clamp(min=0).long()].int(), b))


def test_to_a_device_keeps_the_mesh(cuda):
    t = fr.Topology(QUAD, 4).to(cuda)
    assert t.device.type == "cuda" and t.neighbours.is_cuda and t.to(cuda) is t
