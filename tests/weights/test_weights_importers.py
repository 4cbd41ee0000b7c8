"""Files of other libraries give, in our networks, the numbers that those libraries compute."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlefcn.errors import WeightsError
from paddlefcn.models import MODELS
from paddlefcn.weights import read_state, save_state
from paddlefcn.weights.fitting import load_foreign, subsample_fc
from paddlefcn.weights.foreign import read_foreign
from paddlefcn.weights.networks import build, describe

FIXTURES = Path(__file__).parent / "fixtures"
SIZES = [(37, 45), (64, 33)]


def image(height, width):
    """The input of make_fixtures.py."""
    values = np.random.RandomState(height * 1000 + width).uniform(-1, 1, (1, 3, height, width))
    return paddle.to_tensor(values.astype("float32"))


def expected(library, name):
    with np.load(FIXTURES / f"{library}_expected.npz") as arrays:
        return arrays[name]


def imported(file, model=None, format="auto", channels=None, kernel=None):
    foreign = read_foreign(FIXTURES / file, format)
    foreign.entries = subsample_fc(foreign.entries, channels, kernel)
    layer = build(describe(foreign, foreign.entries, model))
    report = load_foreign(layer, foreign, what=file)
    layer.eval()
    return layer, report, foreign


def close(ours, theirs):
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max()) < 1e-5


CLASSIFIERS = [
    ("torchvision", "torchvision_vgg11.pth", "vgg11"),
    ("torchvision", "torchvision_vgg11_bn.pth", "vgg11_bn"),
    ("torchvision", "torchvision_vgg13.safetensors", "vgg13"),
    ("torchvision", "torchvision_vgg16.pth", "vgg16"),
    ("torchvision", "torchvision_vgg19_bn.pth", "vgg19_bn"),
    ("timm", "timm_vgg16.pth", "vgg16"),
    ("timm", "timm_vgg11_bn.safetensors", "vgg11_bn"),
    ("caffe", "caffe_vgg16_v1.caffemodel", "vgg16"),
]


@pytest.mark.parametrize(("library", "file", "name"), CLASSIFIERS)
def test_a_classifier_as_a_backbone_computes_its_librarys_features(library, file, name):
    backbone, report, foreign = imported(file)
    assert foreign.format == library
    assert type(backbone).__name__ == name.split("_")[0].upper()
    assert any(".bn." in key for key in backbone.state_dict()) == name.endswith("_bn")
    assert not report.names("missing")
    pool5 = backbone(image(224, 224))[-1].numpy()
    assert close(pool5, expected(library, f"{name}.pool5"))


@pytest.mark.parametrize(("library", "file", "name"), CLASSIFIERS)
def test_fc6_and_fc7_as_convolutions_compute_the_classifiers_values(library, file, name):
    model, report, _ = imported(file, model="FCN8s")
    assert type(model) is MODELS["FCN8s"]
    reshaped = set(report.names("reshaped"))
    normed = name.endswith("_bn")
    assert {"fc6.bn._mean", "fc7.bn._mean"}.issubset(report.names("folded")) == normed
    assert reshaped == (set() if library == "timm" else {"fc6.conv.weight", "fc7.conv.weight"})
    with paddle.no_grad():
        pool5 = model.backbone(image(224, 224))[-1]
        fc7 = model.fc7(model.fc6(pool5)).numpy()
    if normed:  # its BatchNorm layers of fc6 and fc7 are new: they add the bias; but for epsilon no more
        new = {f"fc{n}.bn.{kind}" for n in (6, 7) for kind in ("weight", "bias", "_variance")}
        assert new <= set(report.names("missing"))
        fc7 = fc7 * (1 + 1e-5)
    # the middle of the 7x7 grid sees what the classifier sees of a 224x224 image
    assert close(fc7[:, :, 3, 3], expected(library, f"{name}.fc7"))


PUBLISHED = [
    ("pytorch_fcn", "pytorch_fcn32s.pth", "FCN32s"),
    ("pytorch_fcn", "pytorch_fcn16s.pth", "FCN16s"),
    ("pytorch_fcn", "pytorch_fcn8s.pth", "FCN8s"),
    ("caffe", "caffe_fcn32s.caffemodel", "FCN32s"),
    ("caffe", "caffe_fcn16s.caffemodel", "FCN16s"),
    ("caffe", "caffe_fcn8s.caffemodel", "FCN8s"),
    ("caffe", "caffe_fcn8s_atonce.caffemodel", "FCN8sAtOnce"),
    ("caffe", "caffe_fcn_alexnet.caffemodel", "FCNAlexNet"),
]


@pytest.mark.parametrize(("library", "file", "name"), PUBLISHED)
@pytest.mark.parametrize("size", SIZES)
def test_a_published_network_computes_its_librarys_logits(library, file, name, size):
    model, report, foreign = imported(file, model=name)
    assert foreign.fcn == name
    assert type(model).__name__.removeprefix("Published") == name
    assert not report.names("missing")
    logits = model(image(*size))[0].numpy()
    assert close(logits, expected(library, f"{name}.{size[0]}x{size[1]}"))


def test_paddles_own_vgg_computes_its_features_and_classifier(tmp_path):
    from paddle.vision.models.vgg import VGG, make_layers

    paddle.seed(3)
    plan = [2, 2, "M", 4, 4, "M", 6, 6, 6, "M", 8, 8, 8, "M", 8, 8, 8, "M"]
    theirs = VGG(make_layers(plan, batch_norm=True), num_classes=0)
    theirs.classifier = paddle.nn.Sequential(
        paddle.nn.Linear(8 * 49, 12), paddle.nn.ReLU(), paddle.nn.Dropout(),
        paddle.nn.Linear(12, 12), paddle.nn.ReLU(), paddle.nn.Dropout(), paddle.nn.Linear(12, 3),
    )  # fmt: skip
    theirs.eval()
    paddle.save(theirs.state_dict(), str(tmp_path / "vgg16.pdparams"))
    foreign = read_foreign(tmp_path / "vgg16.pdparams")
    assert foreign.format == "paddle"
    model = build(describe(foreign, foreign.entries, "FCN8s"))
    load_foreign(model, foreign, what="paddle")
    model.eval()
    x = image(224, 224)
    with paddle.no_grad():
        pool5 = theirs.features(x)
        fc7 = theirs.classifier[:5](paddle.flatten(theirs.avgpool(pool5), 1)).numpy()
        ours = model.backbone(x)[-1]
        assert close(ours.numpy(), pool5.numpy())
        assert close(model.fc7(model.fc6(ours)).numpy()[:, :, 3, 3] * (1 + 1e-5), fc7)


def test_at_once_scales_are_constants_and_another_value_is_refused(tmp_path):
    _, report, _ = imported("caffe_fcn8s_atonce.caffemodel")
    assert set(report.names("skipped")) == {"scale_pool4.weight", "scale_pool3.weight"}
    data = (FIXTURES / "caffe_fcn8s_atonce.caffemodel").read_bytes()
    scale = np.full(8, 0.01, "<f4").tobytes()
    assert data.count(scale) == 1
    (tmp_path / "x.caffemodel").write_bytes(data.replace(scale, np.full(8, 0.5, "<f4").tobytes()))
    with pytest.raises(WeightsError, match=r"scale_pool4\.weight is not the constant 0\.01"):
        read_foreign(tmp_path / "x.caffemodel")


def test_the_librarys_images_go_with_its_weights():
    from paddlefcn.commands.import_weights import carried_normalize

    orders = {
        "torchvision_vgg16.pth": ("RGB", 255.0, 0.485),
        "timm_vgg16.pth": ("RGB", 255.0, 0.485),
        "caffe_vgg16_v1.caffemodel": ("BGR", 1.0, 103.939),
        "caffe_fcn8s.caffemodel": ("BGR", 1.0, 104.00699),
        "caffe_fcn_alexnet.caffemodel": ("BGR", 1.0, 104.00699),
        "pytorch_fcn8s.pth": ("BGR", 1.0, 104.00699),
    }
    for file, (order, scale, mean) in orders.items():
        normalize = carried_normalize(read_foreign(FIXTURES / file))
        assert (normalize.order, normalize.scale, normalize.mean[0]) == (order, scale, mean)


def test_fc_layers_are_subsampled_on_request_evenly():
    _, report, foreign = imported("torchvision_vgg16.pth", model="FCN8s", channels=4, kernel=3)
    whole = read_foreign(FIXTURES / "torchvision_vgg16.pth").state
    small = foreign.state
    kept, cells = [0, 3, 6, 9], [0, 3, 6]
    fc6 = whole["fc6.conv.weight"][kept][:, :, cells][:, :, :, cells]
    np.testing.assert_array_equal(small["fc6.conv.weight"], fc6)
    np.testing.assert_array_equal(small["fc7.conv.weight"], whole["fc7.conv.weight"][kept][:, kept])
    np.testing.assert_array_equal(small["fc6.conv.bias"], whole["fc6.conv.bias"][kept])
    assert "subsampled" in report.table()
    assert "[12, 392] -> [12, 8, 7, 7] -> [4, 8, 3, 3]" in report.table()


def test_subsampling_to_more_than_there_is_is_refused():
    with pytest.raises(WeightsError, match="12 channels and kernel 7: 13 and 7"):
        imported("torchvision_vgg16.pth", model="FCN8s", channels=13)


def test_every_tensor_of_the_file_and_of_the_network_is_in_the_table():
    model, report, _ = imported("torchvision_vgg19_bn.pth", model="FCN16s")
    table = report.table()
    assert len(report.names("loaded")) == 16 * 5  # a convolution's weight, four of BatchNorm
    assert len(report.names("folded")) == 16 + 2  # the biases, those of fc6 and fc7 too
    assert "classifier.6.weight" in report.names("skipped")
    assert "features.1.num_batches_tracked" in report.names("skipped")
    assert "score_pool4.weight" in report.names("missing")
    for name in [*model.state_dict(), "features.0.weight", "classifier.3.weight"]:
        assert name in table


def test_a_bias_under_batch_norm_goes_into_the_running_mean():
    backbone, report, foreign = imported("torchvision_vgg11_bn.pth")
    theirs = foreign.state
    mean = theirs["backbone.conv3_2.bn._mean"] - theirs["backbone.conv3_2.conv.bias"]
    np.testing.assert_array_equal(backbone.conv3_2.bn._mean.numpy(), mean)
    assert "conv3_2.conv.bias" not in backbone.state_dict()
    row = next(row for row in report.rows if row.source == "features.11.bias")
    assert (row.action, row.target) == ("folded", "conv3_2.bn._mean")
    assert "8 folded" in report.summary()


def test_a_convolution_that_has_no_bias_under_its_batch_norm_loads_as_it_is(tmp_path):
    state = read_state(FIXTURES / "timm_vgg11_bn.safetensors")
    normed = {name[: -len("running_mean")] for name in state if name.endswith(".running_mean")}
    for name in [name for name in state if name.startswith("features.") and name.endswith(".bias")]:
        if name[: -len("bias")] not in normed:
            del state[name]
    save_state(state, tmp_path / "plain.safetensors")
    foreign = read_foreign(tmp_path / "plain.safetensors")
    backbone = build(describe(foreign, foreign.entries, None))
    report = load_foreign(backbone, foreign, what="plain")
    assert not report.names("missing") + report.names("folded")
    np.testing.assert_array_equal(backbone.conv1_1.bn._mean.numpy(), state["features.1.running_mean"])


@pytest.mark.parametrize(
    ("file", "model", "message"),
    [
        ("torchvision_vgg16.pth", "VGG19", "holds a VGG16, not a VGG19"),
        ("torchvision_vgg16.pth", "FCN8", "did you mean FCN8s"),
        ("torchvision_vgg16.pth", "FCNAlexNet", "holds a VGG16, which is not what FCNAlexNet stands on"),
        ("caffe_fcn_alexnet.caffemodel", "FCN8s", "holds a AlexNet"),
    ],
)
def test_a_model_that_the_file_does_not_hold_is_refused(file, model, message):
    with pytest.raises(WeightsError, match=message):
        imported(file, model=model)


def test_a_wrong_format_is_refused_by_what_the_file_looks_like():
    with pytest.raises(WeightsError, match=r"not a \.caffemodel"):
        read_foreign(FIXTURES / "torchvision_vgg16.pth", "caffe")
    with pytest.raises(WeightsError, match="looks like torchvision, not pytorch-fcn"):
        read_foreign(FIXTURES / "torchvision_vgg16.pth", "pytorch-fcn")


def test_another_network_is_refused_with_its_names(tmp_path):
    save_state({"layer1.0.conv1.weight": np.zeros((3, 3), "float32")}, tmp_path / "resnet.safetensors")
    with pytest.raises(WeightsError, match=r"no network of a known library \(it has layer1"):
        read_foreign(tmp_path / "resnet.safetensors")


@pytest.mark.parametrize(
    "file", ["torchvision_vgg16.pth", "torchvision_vgg11_bn.pth", "caffe_fcn8s.caffemodel"]
)
def test_a_truncated_foreign_file_is_one_line(tmp_path, file):
    data = (FIXTURES / file).read_bytes()
    for length in (0, 1, 40, len(data) // 2, len(data) - 1):
        (tmp_path / file).write_bytes(data[:length])
        with pytest.raises(WeightsError) as caught:
            read_foreign(tmp_path / file)
        assert str(tmp_path / file) in str(caught.value)
        assert "\n" not in str(caught.value)


FOREIGN = [
    "torchvision_vgg16.pth",
    "torchvision_vgg11.pth",
    "torchvision_vgg11_bn.pth",
    "caffe_fcn8s.caffemodel",
]


@pytest.mark.parametrize("file", FOREIGN)
def test_damaged_bytes_end_as_one_line_or_as_tensors(tmp_path, file):
    data, rng, refused = (FIXTURES / file).read_bytes(), random.Random(1), 0
    pieces = [b"\xff\xff\xff\x7f", b"\0" * 8, b"cos\nsystem\n", b"R", b"b", b"\x81", b"(", b"t", b"Q"]
    for _ in range(120):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at, piece = rng.randrange(2000), rng.choice([*pieces, bytes([rng.randrange(256)])])
            damaged[at : at + rng.choice([0, len(piece)])] = piece
        (tmp_path / file).write_bytes(damaged)
        message = ""
        try:
            read_foreign(tmp_path / file)
        except WeightsError as error:  # the one thing it may raise
            message = str(error)
        assert "\n" not in message
        refused += bool(message)
    assert refused > 50


def test_a_pytorch_file_given_as_weights_points_to_the_importer(tmp_path):
    for file in ("torchvision_vgg16.pth", "torchvision_vgg11_bn.pth"):
        shutil.copy(FIXTURES / file, tmp_path / "w.pdparams")
        with pytest.raises(WeightsError, match=r"a PyTorch file; .*import-weights"):
            read_state(tmp_path / "w.pdparams")


def test_data_parallel_names_are_read(tmp_path):
    with np.errstate(all="ignore"):
        state = {f"module.{k}": v for k, v in read_state(FIXTURES / "torchvision_vgg13.safetensors").items()}
    save_state(state, tmp_path / "p.safetensors")
    plain = read_foreign(FIXTURES / "torchvision_vgg13.safetensors").state
    wrapped = read_foreign(tmp_path / "p.safetensors").state
    assert plain.keys() == wrapped.keys()


def test_at_once_weights_in_fcn8s_compute_the_same_logits():
    model, report, _ = imported("caffe_fcn8s_atonce.caffemodel", model="FCN8s")
    assert "scaled by 0.0001" in report.table()
    assert close(model(image(37, 45))[0].numpy(), expected("caffe", "FCN8sAtOnce.37x45"))
