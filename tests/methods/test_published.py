"""Published networks of 62 parameters: made-up files in their layout give the numbers of the published formulas."""

import pickle

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import nn

from facemodels import InputError, load_method, load_model
from facemodels.core.landmarks import eighteen_points
from facemodels.methods.dasl import landmark_channel
from facemodels.methods.published import load_published, main, read_whitening
from facemodels.networks import MobileNet, resnet50

SIDE = 12
V = SIDE * SIDE


@pytest.fixture(scope="module")
def basel(tmp_path_factory):
    """A made-up Model_Shape.mat and Model_Exp.mat: the path, and the arrays in micrometres."""
    folder, random = tmp_path_factory.mktemp("basel"), np.random.default_rng(1)
    x, y = np.meshgrid(np.linspace(-80, 80, SIDE), np.linspace(90, -90, SIDE))
    mean = np.stack([x, y, 100 - (x * x + y * y) / 160], -1).reshape(-1, 1) * 1e3
    corner = np.arange(V).reshape(SIDE, SIDE)
    a, b, c, d = (corner[i, j].ravel() for i, j in (np.s_[:-1, :-1], np.s_[1:, :-1], np.s_[1:, 1:], np.s_[:-1, 1:]))
    w, w_exp = random.normal(size=(3 * V, 199)), random.normal(size=(3 * V, 29)) * 1e3
    shape = {
        "mu_shape": mean * 0.99,
        "w": w / np.linalg.norm(w, axis=0),
        "sigma": np.linspace(9e4, 4e3, 199)[:, None],
        "tri": np.concatenate([np.stack([a, c, b]), np.stack([a, d, c])], 1) + 1,
        "keypoints": random.permutation(V)[:68][None] + 1,
    }
    expression = {"mu_exp": mean * 0.01, "w_exp": w_exp, "sigma_exp": np.linspace(1.5, 0.2, 29)[:, None]}
    savemat(folder / "Model_Shape.mat", shape)
    savemat(folder / "Model_Exp.mat", expression)
    return folder / "Model_Shape.mat", shape | expression


@pytest.fixture(scope="module")
def whitening(tmp_path_factory):
    """param_whitening.pkl with the published means and deviations of the camera; the path, and both arrays."""
    mean, std = np.zeros(62), np.ones(62)
    mean[:12] = (3.16e-4, -1.8e-6, -1.8e-6, 60.68, 2.6e-6, 4.35e-4, -3.4e-5, 69.36, 2.3e-6, 4.9e-5, 4.04e-4, -76.65)
    std[:12] = (1.86e-4, 3.04e-4, 3.22e-4, 19.85, 2.53e-4, 1.88e-4, 2.03e-4, 14.68, 3.64e-4, 1.08e-4, 1.46e-4, 18.30)
    std[12:52] = np.linspace(5.9e4, 1e4, 40)
    path = tmp_path_factory.mktemp("whitening") / "param_whitening.pkl"
    path.write_bytes(pickle.dumps({"param_mean": mean.astype(np.float32), "param_std": std.astype(np.float32)}, 2))
    return path, mean, std


def trained(net):
    """Batch statistics and outputs as after a training: outputs of the order of one."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.05)
            elif name.endswith("running_var"):
                value.uniform_(0.8, 1.2)
            elif ".conv_dw." in name:
                value.normal_(0, 0.4)
        net.fc.weight.normal_(0, 0.05)
        net.fc.bias.zero_()
        net.fc.weight /= net.eval()(torch.rand(4, net.conv1.in_channels, 120, 120)).outputs.std()
    return net


def write(path, net, key):
    torch.save({"epoch": 50, key: {"module." + name: value for name, value in net.state_dict().items()}}, path)
    return path


def landmarks_as_published(q, mean, std, m):
    """[68,2] of whitened parameters: the projects' formula, in micrometres, rows counted as they do."""
    p = q.astype(np.float64) * std + mean
    affine = p[:12].reshape(3, 4)
    vertices = m["mu_shape"] + m["mu_exp"] + m["w"][:, :40] @ p[12:52, None] + m["w_exp"][:, :10] @ p[52:, None]
    x, y, _ = affine[:, :3] @ vertices.reshape(-1, 3).T + affine[:, 3:]
    return (
        np.stack([x, 121 - y], -1)[m["keypoints"][0] - 1] - 0.5
    )  # MATLAB's first pixel has its middle at 1, ours at 0.5


@pytest.mark.parametrize(
    "kind, key", [("resnet50", "res_state_dict"), ("mobilenet", "state_dict"), ("mobilenet_05", "state_dict")]
)
def test_the_published_layout_gives_the_landmarks_of_the_published_formula(kind, key, basel, whitening, tmp_path):
    net = trained(
        resnet50(4, 62, last_stride=1, pool=7)
        if kind == "resnet50"
        else MobileNet(3, 62, 0.5 if kind.endswith("05") else 1.0)
    )
    path = write(tmp_path / "phase1.pth.tar", net, key)
    if kind == "mobilenet_05":  # 3DDFA_V2 has a second output, and another name for the first
        content = {name.replace("fc.", "fc_param."): value for name, value in torch.load(path)[key].items()}
        torch.save(
            {key: content | {"module.fc_lm.weight": torch.rand(136, 512), "module.fc_lm.bias": torch.rand(136)}}, path
        )
    method = load_published(path, basel[0], whitening[0])
    assert not method.training and method.config.trunk == kind
    image = torch.rand(2, 3, 120, 120)
    inputs = (image.flip(1) * 255 - 127.5) / 128
    given = torch.rand(2, 68, 2) * 120
    if kind == "resnet50":
        inputs = torch.cat([inputs, landmark_channel(eighteen_points(given), torch.ones(2, 18, dtype=torch.bool))], 1)
    with torch.no_grad():
        q = net(inputs).outputs.numpy()
    assert np.abs(q).max() < 20, "numbers of the order that networks give"
    found = method.predict(image, given).parameters
    for k in range(2):
        expected = landmarks_as_published(q[k], *whitening[1:], basel[1])
        np.testing.assert_allclose(
            found.landmarks[k, :, :2].numpy(), expected, atol=0.02 + 1e-4 * np.abs(expected).max()
        )


def test_the_coefficients_are_those_of_the_first_modes_in_deviations_and_the_camera_is_per_millimetre(
    basel, whitening, tmp_path
):
    net = trained(MobileNet(3, 62))
    with torch.no_grad():
        net.fc.weight.zero_()
        net.fc.bias.zero_()
        net.fc.bias[12], net.fc.bias[52] = 1.0, -1.0  # one deviation of the whitening
    method = load_published(write(tmp_path / "a.pth.tar", net, "state_dict"), basel[0], whitening[0])
    r = method.predict(torch.rand(1, 3, 120, 120)).parameters
    assert r.identity.shape == (1, 199) and r.expression.shape == (1, 29)
    assert r.identity[0, 0] == pytest.approx(5.9e4 / 9e4, rel=1e-5) and r.expression[0, 0] == pytest.approx(
        -1 / 1.5, rel=1e-5
    )
    assert not r.identity[0, 1:].any() and not r.expression[0, 1:].any()
    rows = np.linalg.norm([[3.16e-4, -1.8e-6, -1.8e-6], [2.6e-6, 4.35e-4, -3.4e-5]], axis=1)
    assert r.scale[0] == pytest.approx(1e3 * rows.mean(), rel=1e-5)
    np.testing.assert_allclose(r.translation[0].numpy(), [60.18, 120 - 68.86], rtol=1e-5)
    again = r.identity @ method.to_shape
    np.testing.assert_allclose(again[0, :2].numpy(), [5.9e4, 0], rtol=1e-5)


def test_a_network_without_a_landmark_channel_does_not_see_it(basel, whitening, tmp_path):
    method = load_published(
        write(tmp_path / "a.pth.tar", trained(MobileNet(3, 62)), "state_dict"), basel[0], whitening[0]
    )
    image = torch.rand(1, 3, 120, 120)
    assert torch.equal(method.predict(image, torch.rand(1, 68, 2) * 120).raw, method.predict(image).raw)


def test_a_checkpoint_made_of_it_comes_back_the_same(basel, whitening, tmp_path, capsys):
    path = write(tmp_path / "a.pth.tar", trained(MobileNet(3, 62)), "state_dict")
    assert (
        main([str(path), "--model", str(basel[0]), "--whitening", str(whitening[0]), "-o", str(tmp_path / "run")]) == 0
    )
    loaded = load_method(capsys.readouterr().out.strip())
    image = torch.rand(1, 3, 120, 120)
    for a, b in zip(loaded.reconstruct(image), load_published(path, basel[0], whitening[0]).reconstruct(image)):
        assert a is b is None or torch.equal(a, b)


def test_whitening_is_read_from_a_pickle_or_an_npz_under_either_name(whitening, tmp_path):
    _, mean, std = whitening
    np.savez(tmp_path / "a.npz", param_mean=mean, param_std=std)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"mean": mean, "std": std}))
    for path in (whitening[0], tmp_path / "a.npz", tmp_path / "b.pkl"):
        for found, expected in zip(read_whitening(path), (mean, std)):
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


class Malice:
    def __reduce__(self):
        return print, ("this must not run",)


def test_what_does_not_fit_is_one_sentence_that_names_the_file(basel, whitening, tmp_path, capsys):
    net = trained(MobileNet(3, 62))
    good = write(tmp_path / "good.pth.tar", net, "state_dict")
    other = write(tmp_path / "other.pth.tar", nn.Sequential(nn.Linear(2, 2)), "state_dict")
    less = tmp_path / "less.pth.tar"
    torch.save({"state_dict": {k: v for k, v in net.state_dict().items() if k != "fc.bias"}}, less)
    two = tmp_path / "two.pth.tar"
    torch.save({"res_state_dict": net.state_dict(), "critic_state_dict": net.state_dict()}, two)
    malice, short, zero = tmp_path / "malice.pkl", tmp_path / "short.npz", tmp_path / "zero.npz"
    malice.write_bytes(pickle.dumps({"param_mean": Malice()}))
    np.savez(short, param_mean=np.zeros(61), param_std=np.ones(61))
    np.savez(zero, param_mean=np.zeros(62), param_std=np.zeros(62))
    mat, pkl = basel[0], whitening[0]
    for arguments, words in (
        ((tmp_path / "missing.tar", mat, pkl), "missing.tar"),
        (
            (other, mat, pkl),
            "other.pth.tar: expected the weights of 2DASL's ResNet-50 or of a MobileNet-V1 of 3DDFA or 3DDFA_V2",
        ),
        ((less, mat, pkl), "less.pth.tar: .*without fc.bias"),
        ((two, mat, pkl), "two.pth.tar: .*res_state_dict, critic_state_dict"),
        ((good, tmp_path / "Model_Shape.mat", pkl), "Model_Shape.mat"),
        ((good, mat, malice), "malice.pkl"),
        ((good, mat, short), r"short.npz: .*\[62\]"),
        ((good, mat, zero), "zero.npz: .*positive deviations"),
        ((good, mat, tmp_path / "missing.pkl"), "missing.pkl"),
    ):
        with pytest.raises(InputError, match=words) as error:
            load_published(*arguments)
        assert "\n" not in str(error.value)
    assert "must not run" not in capsys.readouterr().out
    assert load_published(two, mat, pkl, "res_state_dict").config.trunk == "mobilenet"
    assert main([str(other), "--model", str(mat), "--whitening", str(pkl), "-o", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_model_is_the_one_that_was_given(basel, whitening, tmp_path):
    method = load_published(
        write(tmp_path / "a.pth.tar", trained(MobileNet(3, 62)), "state_dict"), basel[0], whitening[0]
    )
    assert torch.equal(method.model.mean, load_model(basel[0]).mean)
