"""Every target passes the gate as it is, and none with a fault planted between writing and proving."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest
import yaml
from paddle import nn

import paddlefcn.deploy.writer as writer_module
from paddlefcn.backbones import VGG
from paddlefcn.classes import Classes
from paddlefcn.data.images import Normalize, Resize
from paddlefcn.deploy.deployment import Deployment, load_deployment
from paddlefcn.deploy.operators import _paddle_protobuf
from paddlefcn.deploy.predictor import Predictor
from paddlefcn.deploy.targets import Target
from paddlefcn.deploy.writer import Examples, write_export
from paddlefcn.errors import ConfigError, DataError, RunError
from paddlefcn.files import checksum
from paddlefcn.label_maps import label_map
from paddlefcn.layers import CeilMaxPool
from paddlefcn.models import FCN8s
from paddlefcn.preprocess import Preprocess

NORMALIZE = Normalize(255, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "BGR")
ABOUT = Deployment("FCN8s", Preprocess((), NORMALIZE), Classes(("ground", "road", "car")))


def tiny(seed=0):
    paddle.seed(seed)
    backbone = VGG(arch=[1, 1, 1, 1, 1], width=8)
    net = FCN8s(backbone, num_classes=3, fc_channels=16, fc6_kernel=3)
    for name, parameter in net.named_parameters():
        if name.startswith("score"):  # they start from zero, and zero equals zero too easily
            parameter.set_value(paddle.randn(parameter.shape))
    net.eval()
    with paddle.no_grad():  # the classes are brought to one level, or one of them would win everywhere
        level = net(paddle.randn([1, 3, 64, 64]))[0].mean([0, 2, 3])
    net.score_fr.bias.set_value(net.score_fr.bias - level)
    return net


def images(count=4):
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (count, 12, 14, 3)).astype(np.uint8)
    return [image.repeat(16, axis=0).repeat(16, axis=1) for image in coarse]


def examples(net, max_loss=0.5):
    """The network's own label maps are the truth: before quantisation its mean IoU is 1."""
    shown = images()

    def pairs():
        for image in shown:
            with paddle.no_grad():
                logits = net(paddle.to_tensor(NORMALIZE(image)[None]))[0].numpy()[0]
            yield image, label_map(logits)

    return Examples(shown, pairs, len(shown), "val", max_loss)


TARGETS = [
    ("paddle", "fp32", "labels"),
    pytest.param(("paddle", "bf16", "logits"), marks=pytest.mark.slow),
    ("paddle", "int8", "labels"),
    ("onnx", "fp32", "logits"),
    pytest.param(("onnx", "int8", "labels"), marks=pytest.mark.slow),
    pytest.param(("openvino", "fp32", "labels"), marks=pytest.mark.slow),
    ("openvino", "bf16", "logits"),
    pytest.param(("openvino", "int8", "logits"), marks=pytest.mark.slow),
]
NEEDED = {"onnx": ("paddle2onnx", "onnxruntime"), "openvino": ("paddle2onnx", "onnxruntime", "openvino")}


@pytest.mark.parametrize("wanted", TARGETS, ids=" ".join)
def test_every_target_runs_by_the_same_call_and_from_eight_threads(wanted, tmp_path):
    for module in NEEDED.get(wanted[0], ()):
        pytest.importorskip(module)
    net, target = tiny(), Target(*wanted)
    given = None if target.precision == "fp32" else examples(net, max_loss=20)
    tree = write_export(net, ABOUT, tmp_path / "net", target=target, examples=given)
    assert (tree["runtime"], tree["precision"], tree["outputs"]) == wanted
    assert tree["format_version"] == 2
    assert (tree["scores"] is None) == (target.precision == "fp32")
    assert [entry["engine"] for entry in tree["parity"]["engines"]] == list(target.engines)
    predictor = Predictor(tmp_path / "net", threads=1)
    image = images()[0][:133, :171]
    with paddle.no_grad():
        live = net(paddle.to_tensor(NORMALIZE(image)[None]))[0].numpy()[0]
    labels = predictor.predict(image)
    assert (labels.dtype, labels.shape) == (np.uint8, (133, 171))
    assert len(np.unique(labels)) > 1
    assert (labels != label_map(live)).mean() <= {"fp32": 0, "bf16": 0.03, "int8": 0.15}[target.precision]
    shown = [image[: 100 + k, : 120 - k] for k in range(8)]
    alone = [predictor.predict(one) for one in shown]
    with ThreadPoolExecutor(8) as pool:
        for index, labels in enumerate(pool.map(predictor.predict, shown * 4)):
            np.testing.assert_array_equal(labels, alone[index % 8])
    assert threading.active_count() < 50
    if target.format == "openvino":  # it may crash of an image of one row
        with pytest.raises(DataError, match="OpenVINO takes 17 a side and more"):
            predictor.predict(image[:16])
    if target.outputs == "labels":
        with pytest.raises(ConfigError, match="class ids alone"):
            predictor.logits(image)


# ---- faults between writing and proving --------------------------------------------------------------


def in_deploy_yaml(change):
    def plant(folder):
        file = folder / "deploy.yaml"
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        change(tree)
        file.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
        (folder / "deploy.yaml.sha256").unlink()

    return plant


def flip_a_bit(folder, *, hidden_from_checksums=False):
    file = folder / "model.pdiparams"
    content = bytearray(file.read_bytes())
    content[-4001] ^= 0x40  # a high bit of a weight
    file.write_bytes(content)
    if hidden_from_checksums:
        entry = {"sha256": checksum(file)}
        in_deploy_yaml(lambda tree: tree["files"]["params"].update(entry))(folder)


def change_opset(folder):
    import onnx

    model = onnx.load(str(folder / "model.onnx"))
    model.opset_import[0].version = 9  # there, slices take their bounds as attributes
    onnx.save(model, str(folder / "model.onnx"))
    entry = {
        "bytes": (folder / "model.onnx").stat().st_size,
        "sha256": checksum(folder / "model.onnx"),
    }
    in_deploy_yaml(lambda tree: tree["files"]["model"].update(entry))(folder)


REFUSED = r"failed its parity check, nothing was written|cannot run the program"
FILE_FAULTS = {
    "swapped channel order": in_deploy_yaml(lambda t: t["preprocess"]["normalize"].update(order="RGB")),
    "wrong mean": in_deploy_yaml(lambda t: t["preprocess"]["normalize"].update(mean=[0.4, 0.5, 0.5])),
    "wrong scale": in_deploy_yaml(lambda t: t["preprocess"]["normalize"].update(scale=256.0)),
    "flipped bit": flip_a_bit,
    "flipped bit with its checksum": lambda folder: flip_a_bit(folder, hidden_from_checksums=True),
    "forgotten resize": in_deploy_yaml(lambda t: t["preprocess"].update(resize=[])),
    "another opset": change_opset,
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_fault_in_the_files_is_refused_and_nothing_is_left(fault, tmp_path, monkeypatch):
    about, target = ABOUT, Target()
    if fault == "forgotten resize":
        about = dataclasses.replace(ABOUT, preprocess=Preprocess((Resize(short=100),), NORMALIZE))
    if fault == "another opset":
        pytest.importorskip("paddle2onnx")
        pytest.importorskip("onnxruntime")
        target = Target("onnx")
    real = writer_module.prove

    def prove(model, deployment, folder, *more):
        FILE_FAULTS[fault](folder)
        return real(model, deployment, folder, *more)

    monkeypatch.setattr(writer_module, "prove", prove)
    with pytest.raises(RunError, match=REFUSED):
        write_export(tiny(), about, tmp_path / "net", target=target)
    assert list(tmp_path.iterdir()) == []


def drop_a_layer(net):
    net.fc7 = nn.Identity()
    return net


class FloorMaxPool(CeilMaxPool):
    """Drops the last row and column of odd sizes."""

    def forward(self, x):
        return nn.functional.max_pool2d(x, 2, 2)


def round_pooling_down(net):
    for layer in net.sublayers():
        if type(layer) is CeilMaxPool:
            layer.__class__ = FloorMaxPool
    return net


def swap_two_classes(net):
    for layer in (net.score_fr, net.score_pool4, net.score_pool3):
        for value in (layer.weight, layer.bias):
            value.set_value(paddle.to_tensor(value.numpy()[[1, 0, 2]]))
    return net


def forget_statistics(net):
    for name, value in net.state_dict().items():
        if name.endswith("_mean"):
            value.set_value(paddle.zeros_like(value) + 0.01)
    return net


NETWORK_FAULTS = {
    "dropped layer": drop_a_layer,
    "floor pooling": round_pooling_down,
    "swapped classes": swap_two_classes,
    "statistics of another run": forget_statistics,
    "weights of another run": lambda net: tiny(seed=1),
}


@pytest.mark.parametrize("outputs", ["logits", pytest.param("labels", marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", NETWORK_FAULTS)
def test_a_fault_in_the_program_is_refused_and_nothing_is_left(fault, outputs, tmp_path, monkeypatch):
    if fault == "statistics of another run" and outputs == "labels":
        pytest.skip("too small a change for class ids")
    real = writer_module.write_program

    def write(model, *more):
        return real(NETWORK_FAULTS[fault](tiny()), *more)

    monkeypatch.setattr(writer_module, "write_program", write)
    with pytest.raises(RunError, match=REFUSED):
        write_export(tiny(), ABOUT, tmp_path / "net", target=Target(outputs=outputs))
    assert list(tmp_path.iterdir()) == []


def test_int8_on_paddle_leaves_what_sees_the_image_in_fp32(tmp_path):
    net = tiny()
    given = examples(net, max_loss=100)
    write_export(net, ABOUT, tmp_path / "net", target=Target(precision="int8"), examples=given)
    names = list(_paddle_protobuf(tmp_path / "net" / "model.pdmodel"))
    quantised = names.count("quantize_linear") / 2  # inputs and weights
    assert quantised == names.count("conv2d") - 1 > 0


def test_low_precision_that_loses_more_than_allowed_is_refused(tmp_path):
    net = tiny()
    with pytest.raises(RunError, match=r"points lost, more than --max-loss 1e-06"):
        write_export(
            net,
            ABOUT,
            tmp_path / "net",
            target=Target(precision="int8"),
            examples=examples(net, max_loss=1e-6),
        )
    assert list(tmp_path.iterdir()) == []


def test_wishes_that_cannot_be_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no onnx with bf16; there is paddle fp32, bf16, int8; onnx fp32"):
        Target("onnx", "bf16")
    with pytest.raises(ConfigError, match="logits or labels"):
        Target(outputs="ids")
    with pytest.raises(ConfigError, match="int8 needs the data set"):
        write_export(tiny(), ABOUT, tmp_path / "net", target=Target(precision="int8"))
    resized = dataclasses.replace(ABOUT, preprocess=Preprocess((Resize(short=48),), NORMALIZE))
    with pytest.raises(ConfigError, match="without Resize"):
        write_export(tiny(), resized, tmp_path / "net", target=Target(outputs="labels"))
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    write_export(tiny(), ABOUT, tmp_path / "net")
    deployment = dataclasses.replace(
        load_deployment(tmp_path / "net"), target=Target("openvino"), engines=("openvino",)
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"runs with openvino: pip install 'paddlefcn\[openvino\]'"):
        Predictor(deployment)


def test_a_changed_deploy_yaml_is_refused_and_one_of_before_still_loads(tmp_path):
    write_export(tiny(), ABOUT, tmp_path / "net")
    file = tmp_path / "net" / "deploy.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("road", "lane"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"is not the file that deploy\.yaml\.sha256 was written for"):
        load_deployment(tmp_path / "net")
    (tmp_path / "net" / "deploy.yaml.sha256").unlink()
    assert load_deployment(tmp_path / "net").classes.names[1] == "lane"
    newer = file.read_text(encoding="utf-8").replace("format_version: 2", "format_version: 3")
    file.write_text(newer, encoding="utf-8")
    with pytest.raises(ConfigError, match="format_version 3"):
        load_deployment(tmp_path / "net")


def test_a_strangers_export_with_an_operator_that_writes_is_refused_before_paddle_sees_it(
    tmp_path, monkeypatch
):
    if not hasattr(paddle, "pir_utils"):
        pytest.skip("Paddle 2 writes no JSON; its format is tested in test_operators.py")
    write_export(tiny(), ABOUT, tmp_path / "net")
    program = tmp_path / "net" / "model.json"
    if not program.exists():
        pytest.skip("Paddle 2 writes model.pdmodel; tests/deploy/test_allowed_operators.py has those")
    text = program.read_text(encoding="utf-8").replace('"1.relu"', '"1.save_combine"', 1)
    program.write_text(text, encoding="utf-8")
    entry = {"bytes": program.stat().st_size, "sha256": checksum(program)}
    in_deploy_yaml(lambda tree: tree["files"]["model"].update(entry))(tmp_path / "net")
    monkeypatch.setattr("paddlefcn.deploy.engines.PaddleEngine", None)
    with pytest.raises(ConfigError, match=r"holds the operator 'save_combine', which no network needs"):
        Predictor(tmp_path / "net")
