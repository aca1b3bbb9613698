"""Trunks: layers as published, outputs, gradients; weights from files, and error messages for files that do not fit."""

import numpy as np
import pytest
import safetensors.torch
import scipy.io
import torch

from facemodels import InputError
from facemodels.networks import (
    Features,
    LightNet,
    MobileNet,
    Trunk,
    VGGFace,
    fit_linear,
    load_weights,
    resnet18,
    resnet50,
)
from facemodels.networks.matconvnet import read_matconvnet

TRUNKS = {"resnet18": resnet18, "resnet50": resnet50, "vgg": VGGFace, "mobilenet": MobileNet, "light": LightNet}


def dasl_trunk():
    return resnet50(in_channels=4, outputs=62, last_stride=1, pool=7)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


# ---------------------------------------------------------- layers as published


def resnet50_table(in_channels, outputs):
    """Names and shapes of ResNet-50's weights, in the order of the published file."""
    table = [("conv1.weight", (64, in_channels, 7, 7)), *norm("bn1", 64)]
    channels = 64
    for stage, (count, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 1):
        for k in range(count):
            at = f"layer{stage}.{k}."
            for j, (out, into, side) in enumerate(((width, channels, 1), (width, width, 3), (4 * width, width, 1)), 1):
                table += [(f"{at}conv{j}.weight", (out, into, side, side)), *norm(f"{at}bn{j}", out)]
            if k == 0:
                table += [
                    (f"{at}downsample.0.weight", (4 * width, channels, 1, 1)),
                    *norm(f"{at}downsample.1", 4 * width),
                ]
            channels = 4 * width
    return table + [("fc.weight", (outputs, 2048)), ("fc.bias", (outputs,))]


def norm(name, channels):
    return [(f"{name}.{part}", (channels,)) for part in ("weight", "bias", "running_mean", "running_var")] + [
        (f"{name}.num_batches_tracked", ())
    ]


@pytest.mark.parametrize("in_channels, outputs, count", [(3, 1000, 25_557_032), (4, 62, 23_638_206)])
def test_resnet50_has_the_layers_and_parameters_of_its_imagenet_and_2dasl_forms(in_channels, outputs, count):
    net = resnet50(in_channels, outputs)
    assert [(name, tuple(value.shape)) for name, value in net.state_dict().items()] == resnet50_table(
        in_channels, outputs
    )
    assert len(net.state_dict()) == 320 and parameters(net) == count
    assert count == 23_508_032 + (in_channels - 3) * 64 * 7 * 7 + 2048 * outputs + outputs


def test_resnet18_has_as_many_layers_and_parameters_as_its_imagenet_form():
    net = resnet18(outputs=1000)
    assert len(net.state_dict()) == 122 and parameters(net) == 11_689_512
    assert {name: tuple(value.shape) for name, value in net.state_dict().items()}.items() >= {
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.conv1.weight": (128, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer4.1.bn2.running_var": (512,),
        "fc.weight": (1000, 512),
    }.items()


def test_vggface_has_the_published_layers():
    convolutions = [
        (1, 1, 3, 64),
        (1, 2, 64, 64),
        (2, 1, 64, 128),
        (2, 2, 128, 128),
        (3, 1, 128, 256),
        (3, 2, 256, 256),
        (3, 3, 256, 256),
    ]
    convolutions += [
        (4, 1, 256, 512),
        (4, 2, 512, 512),
        (4, 3, 512, 512),
        (5, 1, 512, 512),
        (5, 2, 512, 512),
        (5, 3, 512, 512),
    ]
    table = [
        row
        for b, k, i, o in convolutions
        for row in ((f"conv{b}_{k}.weight", (o, i, 3, 3)), (f"conv{b}_{k}.bias", (o,)))
    ]
    net = VGGFace()
    assert [(name, tuple(value.shape)) for name, value in net.state_dict().items()] == table
    assert parameters(net) == 14_714_688


def test_mobilenet_has_3ddfas_layers_and_as_many_parameters():
    widths = {
        "dw2_1": (32, 64),
        "dw2_2": (64, 128),
        "dw3_1": (128, 128),
        "dw3_2": (128, 256),
        "dw4_1": (256, 256),
        "dw4_2": (256, 512),
    }
    widths |= {f"dw5_{k}": (512, 512) for k in range(1, 6)} | {"dw5_6": (512, 1024), "dw6": (1024, 1024)}
    table = [("conv1.weight", (32, 3, 3, 3)), *norm("bn1", 32)]
    for name, (into, out) in widths.items():
        table += [
            (f"{name}.conv_dw.weight", (into, 1, 3, 3)),
            *norm(f"{name}.bn_dw", into),
            (f"{name}.conv_sep.weight", (out, into, 1, 1)),
            *norm(f"{name}.bn_sep", out),
        ]
    net = MobileNet(outputs=62)
    assert [(name, tuple(value.shape)) for name, value in net.state_dict().items()] == table + [
        ("fc.weight", (62, 1024)),
        ("fc.bias", (62,)),
    ]
    assert parameters(net) == 3_206_976 + 1024 * 62 + 62
    with torch.no_grad():
        assert [m.shape[1:] for m in net.eval()(torch.randn(1, 3, 120, 120)).maps] == [
            (128, 30, 30),
            (256, 15, 15),
            (512, 8, 8),
            (1024, 4, 4),
        ]


def test_the_light_trunk_has_about_a_million_parameters():
    assert 0.5e6 < parameters(LightNet()) < 1.5e6


# ---------------------------------------------------------------- the interface


@pytest.mark.parametrize("name", TRUNKS)
def test_a_trunk_gives_the_maps_that_its_channels_and_strides_announce(name):
    net = TRUNKS[name](in_channels=5, outputs=7).eval()
    assert isinstance(net, Trunk) and net.strides == (4, 8, 16, 32)
    with torch.no_grad():
        features = net(torch.randn(2, 5, 64, 96))
    assert isinstance(features, Features)
    assert [tuple(m.shape) for m in features.maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(net.channels, net.strides)
    ]
    assert features.outputs.shape == (2, 7)
    torch.testing.assert_close(features.pooled, features.maps[-1].mean((2, 3)))
    torch.testing.assert_close(features.outputs, features.pooled @ net.fc.weight.T + net.fc.bias)


@pytest.mark.parametrize("name", TRUNKS)
def test_without_outputs_there_is_no_linear_layer(name):
    net = TRUNKS[name]()
    assert net.fc is None and not [n for n in net.state_dict() if n.startswith("fc")]
    assert net(torch.randn(2, 3, 32, 32)).outputs is None


def test_2dasls_regressor_does_not_halve_the_last_stage_and_averages_seven_of_its_eight_rows():
    net = dasl_trunk().eval()
    assert parameters(net) == 23_638_206 and net.strides == (4, 8, 16, 16)
    with torch.no_grad():
        features = net(torch.randn(2, 4, 120, 120))
    assert [m.shape[2:] for m in features.maps] == [(30, 30), (15, 15), (8, 8), (8, 8)]
    torch.testing.assert_close(features.pooled, torch.nn.functional.avg_pool2d(features.maps[-1], 7, 2).flatten(1))
    assert features.outputs.shape == (2, 62)


def test_vggface_at_180_pixels_gives_the_maps_that_uh_e2far_fuses():
    with torch.no_grad():
        maps = VGGFace()(torch.randn(1, 3, 180, 180)).maps
    assert [tuple(m.shape[1:]) for m in maps[-2:]] == [(512, 11, 11), (512, 5, 5)]


def test_vggface_equals_its_layers_applied_one_by_one():
    net, x = VGGFace().eval(), torch.randn(1, 3, 32, 32)
    y = x
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        for k in range(1, count + 1):
            y = torch.relu(
                torch.conv2d(
                    y, getattr(net, f"conv{block}_{k}").weight, getattr(net, f"conv{block}_{k}").bias, padding=1
                )
            )
        y = torch.max_pool2d(y, 2)
    torch.testing.assert_close(net(x).maps[-1], y)


@pytest.mark.parametrize("name", TRUNKS)
def test_every_parameter_gets_a_gradient(name, device):
    net = TRUNKS[name](in_channels=4, outputs=6).to(device).train()
    features = net(torch.randn(2, 4, 64, 64, device=device))
    features.outputs.square().sum().backward()
    silent = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize("name", TRUNKS)
def test_inside_autocast_pooled_and_outputs_are_float32_and_near_those_without(name, device):
    net = TRUNKS[name](outputs=6).to(device, memory_format=torch.channels_last).eval()
    x = torch.randn(2, 3, 64, 64, device=device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        want = net(x)
        with torch.autocast(device.type, torch.bfloat16):
            got = net(x)
    assert got.maps[-1].dtype == torch.bfloat16 and got.pooled.dtype == got.outputs.dtype == torch.float32
    torch.testing.assert_close(got.pooled, want.pooled, rtol=0.1, atol=0.05 * want.pooled.abs().max().item())


def test_a_trunk_in_half_precision_throughout_runs():
    net = LightNet(outputs=3).bfloat16().eval()
    assert net(torch.randn(1, 3, 32, 32).bfloat16()).outputs.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["light", "vgg"])
def test_a_trunk_compiles_to_one_graph(name):
    torch._dynamo.reset()
    net, x = TRUNKS[name](outputs=3).eval(), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="aot_eager")(x).outputs, net(x).outputs)


def test_a_trunk_in_training_starts_with_activations_of_moderate_size():
    """He et al.'s start keeps the size of signals from layer to layer, without batch normalization too."""
    for make in (VGGFace, LightNet):
        with torch.no_grad():
            last = make()(torch.randn(2, 3, 64, 64)).maps[-1]
        assert 0.05 < last.std() < 20


# ---------------------------------------------------------------------- weights


def randomized(module):
    """Batch statistics too, so that a round trip that forgot them would show."""
    with torch.no_grad():
        for value in module.state_dict().values():
            value.copy_(torch.randint(1, 9, value.shape)) if not value.is_floating_point() else value.uniform_(0.1, 1)
    return module


def assert_same(module, other, but=()):
    for (name, a), (_, b) in zip(module.state_dict().items(), other.state_dict().items()):
        assert name.startswith(tuple(but)) or torch.equal(a, b), name


@pytest.mark.parametrize("ending", ["safetensors", "pth", "pt", "pth.tar"])
def test_weights_come_back_from_every_kind_of_file(ending, tmp_path):
    source, path = randomized(LightNet(4, 6)), tmp_path / f"weights.{ending}"
    safetensors.torch.save_file(source.state_dict(), path) if ending == "safetensors" else torch.save(
        source.state_dict(), path
    )
    target = LightNet(4, 6)
    load_weights(target, path)
    assert_same(target, source)


def test_names_of_dataparallel_checkpoints_and_old_files_without_counts_are_understood(tmp_path):
    source, path = randomized(LightNet(4, 6)), tmp_path / "2dasl.pth.tar"
    weights = {"module." + name: value for name, value in source.state_dict().items() if "num_batches" not in name}
    torch.save({"epoch": 7, "res_state_dict": weights}, path, _use_new_zipfile_serialization=False)
    target = LightNet(4, 6)
    load_weights(target, path)
    for (name, a), b in zip(target.state_dict().items(), source.state_dict().values()):
        assert torch.equal(a, b) or "num_batches" in name and a == 0


def test_of_several_sets_of_weights_the_entry_names_one(tmp_path):
    source, path = randomized(LightNet(outputs=6)), tmp_path / "all.pt"
    torch.save({"res_state_dict": source.state_dict(), "critic": {"fc.weight": torch.ones(1)}}, path)
    target = LightNet(outputs=6)
    with pytest.raises(
        InputError,
        match="all.pt: expected one set of weights, found res_state_dict, critic; name the one to load as entry",
    ):
        load_weights(target, path)
    with pytest.raises(InputError, match="an entry 'best' of weights, found entries res_state_dict, critic"):
        load_weights(target, path, entry="best")
    load_weights(target, path, entry="res_state_dict")
    assert_same(target, source)


def test_a_fourth_channel_that_the_file_lacks_starts_at_zero_so_that_the_network_is_the_files(tmp_path):
    source, path = randomized(LightNet(3, 6)).eval(), tmp_path / "rgb.safetensors"
    safetensors.torch.save_file(source.state_dict(), path)
    target = LightNet(4, 6).eval()
    load_weights(target, path)
    assert not target.conv1.weight[:, 3].any()
    x = torch.rand(2, 4, 64, 64)
    torch.testing.assert_close(target(x).outputs, source(x[:, :3]).outputs)
    target(x).outputs.sum().backward()
    assert target.conv1.weight.grad[:, 3].any(), "it must be able to learn"
    with pytest.raises(InputError, match=r"conv1.weight \[24, 3, 3, 3\] for \[24, 2, 3, 3\]"):
        load_weights(LightNet(2, 6), path)


@pytest.mark.parametrize("make", [resnet18, resnet50, dasl_trunk])
def test_imagenet_weights_of_torchvision_load_with_any_number_of_channels_and_outputs(make, tmp_path):
    """Their names and shapes are those that the tests above hold the trunks to, with 3 channels and 1000 outputs."""
    source, path = randomized((resnet18 if make is resnet18 else resnet50)(outputs=1000)), tmp_path / "resnet.pth"
    torch.save(source.state_dict(), path)
    target = make()
    load_weights(target, path, skip=("fc",))
    assert_same(target, source, but=("fc", "conv1"))
    assert torch.equal(target.conv1.weight[:, :3], source.conv1.weight) and not target.conv1.weight[:, 3:].any()


def torchvision_vgg16():
    """Its layers by their names: convolutions, ReLUs and pools numbered through, then the classifier."""
    layers, channels = [], 3
    for width in (64, 64, None, 128, 128, None, 256, 256, 256, None, 512, 512, 512, None, 512, 512, 512, None):
        layers += (
            [torch.nn.MaxPool2d(2)]
            if width is None
            else [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
        )
        channels = width or channels
    net = torch.nn.ModuleDict(
        {"features": torch.nn.Sequential(*layers), "classifier": torch.nn.Sequential(torch.nn.Linear(4, 4))}
    )
    assert [k for k, m in enumerate(layers) if isinstance(m, torch.nn.Conv2d)] == [
        0,
        2,
        5,
        7,
        10,
        12,
        14,
        17,
        19,
        21,
        24,
        26,
        28,
    ]
    return net


def test_vgg16_of_torchvision_loads_into_vggface_and_sees_the_same_picture(tmp_path):
    source, path = torchvision_vgg16(), tmp_path / "vgg16.pth"
    torch.save(source.state_dict(), path)
    target = VGGFace()
    load_weights(target, path)
    picture = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    of = lambda values: torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)  # noqa: E731
    theirs = (picture - of((0.485, 0.456, 0.406))) / of((0.229, 0.224, 0.225))
    ours = 255 * picture - of((129.1863, 104.7624, 93.5940))
    first = source["features"].double()[0](theirs)
    torch.testing.assert_close(
        target.double().conv1_1(ours)[..., 1:-1, 1:-1], first[..., 1:-1, 1:-1], rtol=1e-5, atol=1e-6
    )
    assert torch.equal(target.conv5_3.weight, source["features"][28].weight)
    weights = source.state_dict()
    del weights["features.28.weight"], weights["features.28.bias"]
    torch.save(weights, path)
    with pytest.raises(InputError, match="vgg16.pth: expected VGG-16, of 13 convolutions .*found 12"):
        load_weights(VGGFace(), path)


def test_skipped_weights_keep_their_values(tmp_path):
    source, path = randomized(LightNet(outputs=1000)), tmp_path / "imagenet.pth"
    torch.save(source.state_dict(), path)
    target = LightNet(outputs=62)
    before = target.fc.weight.clone()
    with pytest.raises(
        InputError,
        match=r"imagenet.pth: .*fc.weight \[1000, 256\] for \[62, 256\], fc.bias \[1000\] for \[62\]; skip=",
    ):
        load_weights(target, path)
    load_weights(target, path, skip=("fc",))
    assert_same(target, source, but=("fc",))
    assert torch.equal(target.fc.weight, before)
    bare = LightNet()
    load_weights(bare, path, skip=("fc",))
    assert_same(bare, source)


def test_a_file_that_does_not_fit_is_reported_and_changes_nothing(tmp_path):
    target = LightNet(outputs=6)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    good = randomized(LightNet(outputs=6)).state_dict()

    def refused(match, **changes):
        weights = {name: value for name, value in {**good, **changes}.items() if value is not None}
        torch.save(weights, tmp_path / "w.pt")
        with pytest.raises(InputError, match=match) as error:
            load_weights(target, tmp_path / "w.pt")
        assert str(tmp_path / "w.pt") in str(error.value) and "\n" not in str(error.value)
        assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())

    refused(
        "expected the 80 weights of LightNet, found a file without layer1.bn2.weight; ", **{"layer1.bn2.weight": None}
    )
    refused("found a file with head.weight, which it does not have; ", **{"head.weight": torch.ones(2)})
    refused("without fc.bias and with head.weight", **{"head.weight": torch.ones(2), "fc.bias": None})
    refused(r"fc.weight \[6, 255\] for \[6, 256\]", **{"fc.weight": torch.ones(6, 255)})
    refused(
        "NaN or infinite numbers in layer2.conv1.weight",
        **{"layer2.conv1.weight": good["layer2.conv1.weight"] * torch.nan},
    )
    many = {name: None for name in good if name.startswith("layer") and "num_batches" not in name}
    refused(rf"and {len(many) - 4} more; ", **many)


@pytest.mark.parametrize(
    "name, content, match",
    [
        ("absent.pth", None, "there is no such file; expected weights as .safetensors"),
        ("empty.pth", b"", "found an empty file"),
        ("noise.pth", b"\x80\x02not a pickle" * 9, "torch.load does not read"),
        ("noise.safetensors", b"\xff" * 100, "does not read as safetensors"),
        ("noise.mat", b"\x00" * 300, "expected the layers of MatConvNet's VGG-Face, found a file that is not MATLAB's"),
        ("weights.onnx", b"12345", "found a file named .onnx"),
        ("weights", b"12345", "found a file named without an ending"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(name, content, match, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match) as error:
        load_weights(LightNet(), tmp_path / name)
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


class Command:
    def __reduce__(self):
        return print, ("run",)


def test_a_checkpoint_with_code_in_it_is_refused_and_nothing_runs(tmp_path, capsys):
    torch.save({"state_dict": LightNet().state_dict(), "args": Command()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="evil.pth: .* holds more than tensors"):
        load_weights(LightNet(), tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


def test_a_list_of_tensors_is_not_accepted_as_weights(tmp_path):
    torch.save([torch.ones(3)], tmp_path / "list.pt")
    with pytest.raises(InputError, match="expected named tensors, found none"):
        load_weights(LightNet(), tmp_path / "list.pt")


# -------------------------------------------------------- MatConvNet's VGG-Face


def cell_array(items):
    cells = np.empty((1, len(items)), object)
    for k, item in enumerate(items):
        cells[0, k] = item
    return cells


def matconvnet(net, old=False):
    """The layers of a MatConvNet file with a trunk's convolutions: filters [H,W,in,out], ReLUs, a classifier."""
    layers = []
    for name in [n.removesuffix(".weight") for n in net.state_dict() if n.endswith(".weight")]:
        module = getattr(net, name)
        filters, biases = (
            module.weight.detach().numpy().transpose(2, 3, 1, 0),
            module.bias.detach().numpy().reshape(1, -1),
        )
        pair = {"filters": filters, "biases": biases} if old else {"weights": cell_array([filters, biases])}
        layers.append({"name": name, "type": "conv", **pair, "pad": 1.0, "stride": 1.0})
        layers.append({"name": "relu" + name[4:], "type": "relu"})
    layers.append({"name": "fc6", "type": "conv", "weights": cell_array([np.ones((1, 1, 2, 3)), np.ones((1, 3))])})
    layers.append({"name": "prob", "type": "softmax", "weights": np.zeros((0, 0))})
    return cell_array(layers)


class Tiny(torch.nn.Module):
    """Two layers with VGG-Face's names; the second has one output, which MATLAB does not write as a dimension."""

    def __init__(self, in_channels=3):
        super().__init__()
        self.conv1_1 = torch.nn.Conv2d(in_channels, 4, 3)
        self.conv1_2 = torch.nn.Conv2d(4, 1, 3)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("form", ["layers", "net", "old"])
def test_vgg_face_loads_from_matconvnets_files(form, compressed, tmp_path):
    source, path = randomized(Tiny()), tmp_path / "vgg_face.mat"
    cells = matconvnet(source, old=form == "old")
    content = (
        {"net": {"layers": cells, "normalization": {"averageImage": np.ones(3)}}}
        if form == "net"
        else {"meta": {"classes": "a"}, "layers": cells}
    )
    scipy.io.savemat(path, content, do_compression=compressed)
    target = Tiny()
    load_weights(target, path, skip=("fc",))
    assert_same(target, source)
    with pytest.raises(InputError, match="with fc6.weight, fc6.bias, which it does not have"):
        load_weights(target, path)
    four = Tiny(4)
    load_weights(four, path, skip=("fc",))
    assert torch.equal(four.conv1_1.weight[:, :3], source.conv1_1.weight) and not four.conv1_1.weight[:, 3].any()


def test_a_mat_file_of_something_else_is_one_sentence(tmp_path):
    for content in (
        {"x": np.ones(3)},
        {"layers": np.ones((2, 2))},
        {"net": {"layers": np.ones(2)}},
        {"layers": matconvnet(Tiny())[:, -1:]},
    ):
        scipy.io.savemat(tmp_path / "other.mat", content)
        with pytest.raises(InputError, match="other.mat: expected the layers of MatConvNet's VGG-Face, found"):
            read_matconvnet(tmp_path / "other.mat")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_mat_files_give_weights_or_an_input_error_never_anything_else(compressed, tmp_path):
    path, rng = tmp_path / "v.mat", np.random.default_rng(0)
    scipy.io.savemat(path, {"layers": matconvnet(Tiny())}, do_compression=compressed)
    whole, refused = path.read_bytes(), 0
    for k in range(400):
        raw = bytearray(whole[: rng.integers(1, len(whole))] if k % 4 == 0 else whole)
        for at in rng.integers(len(raw), size=3):
            raw[at] = rng.integers(256)
        path.write_bytes(raw)
        try:
            read_matconvnet(path)
        except InputError:
            refused += 1
    assert refused > 100


def test_a_linear_layer_is_fitted_to_what_features_say():
    torch.manual_seed(0)
    true, layer = torch.nn.Linear(6, 3), torch.nn.Linear(6, 3)
    features = 5 + torch.randn(400, 6) * torch.tensor([1.0, 1, 1, 1, 2, 0])  # the last one says nothing
    with torch.no_grad():
        fit_linear(layer, features, true(features))
        assert (layer(features) - true(features)).abs().max() < 0.02
    assert layer.weight[:, 5].abs().max() < 1e-6
