"""The export: files, parity with the live network, refusal, and the predictor that reads it."""

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml

from paddlefcn.backbones import VGG
from paddlefcn.build import build_dataset, build_preprocess
from paddlefcn.classes import Classes
from paddlefcn.config import load_config
from paddlefcn.data.images import Normalize, Resize
from paddlefcn.deploy.deployment import Deployment, load_deployment
from paddlefcn.deploy.engines import PaddleEngine
from paddlefcn.deploy.gate import PARITY_SIZES, compare, parity_images
from paddlefcn.deploy.operators import check_operators
from paddlefcn.deploy.predictor import Predictor
from paddlefcn.deploy.tensorrt import trtexec_line
from paddlefcn.deploy.writer import check_target, write_export
from paddlefcn.engine.evaluate import predict_label_map
from paddlefcn.errors import ConfigError, DataError, OutputError, RunError
from paddlefcn.inference import WholeImage
from paddlefcn.models import FCN8s, FCN32s
from paddlefcn.preprocess import Preprocess
from paddlefcn.visualize import write_picture

REPO = Path(__file__).parents[2]
PREPROCESS = Preprocess((Resize(short=48),), Normalize(255, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "BGR"))
CLASSES = Classes(("背景", "road", "car"), ((0, 0, 0), (128, 0, 0), (0, 128, 0)), 255)
ABOUT = Deployment("FCN8s", PREPROCESS, CLASSES, max_pixels=1_000_000)


def tiny(model=FCN8s, seed=0, in_channels=3, **arguments):
    paddle.seed(seed)
    backbone = VGG(arch=[1, 1, 1, 1, 1], width=8, in_channels=in_channels)
    net = model(backbone, num_classes=3, fc_channels=16, fc6_kernel=3, **arguments)
    for name, parameter in net.named_parameters():
        if name.startswith("score"):  # they start from zero, and zero equals zero too easily
            parameter.set_value(paddle.randn(parameter.shape))
    net.eval()  # the classes are brought to one level, or one of them would win everywhere
    with paddle.no_grad():
        level = net(paddle.randn([1, in_channels, 64, 64]))[0].mean([0, 2, 3])
    net.score_fr.bias.set_value(net.score_fr.bias - level)
    net.train()
    return net


def state_of(net):
    return {name: value.numpy().copy() for name, value in net.state_dict().items()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "net"
    net = tiny()
    figures = []
    write_export(net, ABOUT, folder, figures.append)
    net.eval()
    return net, folder, figures


def test_the_export_holds_the_program_its_parameters_and_deploy_yaml(exported):
    _, folder, _ = exported
    program = "model.json" if (folder / "model.json").exists() else "model.pdmodel"
    assert {f.name for f in folder.iterdir()} == {
        *("deploy.yaml", "deploy.yaml.sha256", program, "model.pdiparams"),
    }
    assert [f.name for f in folder.parent.iterdir()] == ["net"]
    tree = yaml.safe_load((folder / "deploy.yaml").read_text(encoding="utf-8"))
    assert tree["classes"] == ["背景", "road", "car"]
    assert tree["preprocess"]["normalize"]["order"] == "BGR"
    assert tree["preprocess"]["resize"] == [{"short": 48}]
    assert tree["files"]["model"]["name"] == program
    assert len(tree["parity"]["sizes"]) == 6
    assert {entry["engine"] for entry in tree["parity"]["engines"]} == {"native", "onednn"}


def test_both_engines_agree_with_the_live_network_at_all_six_sizes(exported):
    _, _, figures = exported
    pixels = sum(height * width for height, width in PARITY_SIZES)
    pixels += 48 * 62  # the last once more, as deployment resizes it
    assert any(min(size) < 32 for size in PARITY_SIZES)
    for found in figures:
        assert found.passed
        assert found.pixels == pixels
        assert 0 < found.largest_logit_error < 1e-4
        assert found.pixels_differing <= pixels * 1e-4


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        (FCN8s, {"align_corners": True}),
        (FCN8s, {"upsample": "transposed", "deep_supervision": True}),
        (FCN32s, {"in_channels": 1}),
    ],
)
def test_every_kind_of_upsampling_passes_its_parity_check(model, arguments, tmp_path):
    channels = arguments.get("in_channels", 3)
    normalize = Normalize(255, (0.5,) * channels, (0.2,) * channels)
    about = dataclasses.replace(ABOUT, preprocess=Preprocess((), normalize))
    figures = []
    write_export(tiny(model, **arguments), about, tmp_path / "net", figures.append)
    assert all(found.passed for found in figures)


def test_only_interpolation_that_has_no_other_form_stays_in_the_program(tmp_path, exported):
    _, folder, _ = exported
    operators = check_operators(load_deployment(folder).files["model"])
    assert not [name for name in operators if name.endswith("_interp")]


def test_no_dropout_parts_the_convolutions_of_the_program_and_the_network_keeps_its_own(exported):
    net, folder, _ = exported
    assert b"dropout" not in load_deployment(folder).files["model"].read_bytes()
    assert type(net.dropout) is paddle.nn.Dropout


def test_the_network_is_left_in_the_mode_and_with_the_values_it_came_with(tmp_path):
    net = tiny(seed=3)
    net.train()
    net.backbone.eval()
    before = state_of(net)
    write_export(net, ABOUT, tmp_path / "net")
    assert net.training
    assert not net.backbone.training
    after = state_of(net)
    assert set(after) == set(before)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_a_program_that_disagrees_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    real = PaddleEngine.__call__
    monkeypatch.setattr(PaddleEngine, "__call__", lambda engine, x: real(engine, x) * 1.001)
    with pytest.raises(RunError, match=r"parity check.*onednn: largest logit error"):
        write_export(tiny(), ABOUT, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_and_an_engine_that_crashes_are_failures_too(tmp_path, monkeypatch):
    def crash(engine, batch):
        raise NotImplementedError("ConvertPirAttribute2RuntimeAttribute\n  at line 7")

    monkeypatch.setattr(PaddleEngine, "__call__", lambda engine, x: np.full([1, 3, *x.shape[2:]], np.nan))
    with pytest.raises(RunError, match="parity check"):
        write_export(tiny(), ABOUT, tmp_path / "net")
    monkeypatch.setattr(PaddleEngine, "__call__", crash)
    with pytest.raises(RunError, match="onednn cannot run the program: ConvertPir"):
        write_export(tiny(), ABOUT, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_one_it_was_to_replace(tmp_path, monkeypatch):
    folder = tmp_path / "net"
    write_export(tiny(), ABOUT, folder)
    before = (folder / "model.pdiparams").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(PaddleEngine, "__call__", lambda engine, x: np.zeros([1, 3, *x.shape[2:]]))
        with pytest.raises(RunError):
            write_export(tiny(seed=5), ABOUT, folder)
    assert (folder / "model.pdiparams").read_bytes() == before
    write_export(tiny(seed=5), ABOUT, folder)
    assert (folder / "model.pdiparams").read_bytes() != before
    assert [f.name for f in tmp_path.iterdir()] == ["net"]


def test_only_an_export_is_overwritten_and_only_on_request(tmp_path):
    check_target(tmp_path / "new", False)
    check_target(tmp_path, False)  # empty
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(OutputError, match="--overwrite"):
        check_target(tmp_path, False)
    with pytest.raises(OutputError, match="no export to overwrite"):
        check_target(tmp_path, True)
    with pytest.raises(OutputError, match="is a file"):
        check_target(tmp_path / "thesis.doc", True)


def test_comparing_counts_errors_against_the_largest_logit_and_leaves_ties_aside():
    live = np.array([[[10.0, 1.0, 5.0]], [[0.0, 1.0005, 2.0]]])
    deployed = live.copy()
    deployed[0, 0, 1] = 1.001  # another class, but closer than 1e-4 of 10
    deployed[0, 0, 2] = 1.0  # another class, by far
    error, spread, apart, ties = compare(live, deployed)
    assert error == pytest.approx(0.4)
    assert (apart, ties) == (1, 1)
    assert spread == pytest.approx(4 / np.sqrt(6) / live.std(), rel=1e-3)
    assert compare(live * 0, live * 0) == (0.0, 0.0, 0, 0)
    assert compare(live, np.array([[0, 0, 1]])) == (None, None, 1, 1)
    assert compare(live * 0, live * 0 + 1e-9)[0] == float("inf")
    with pytest.raises(ValueError, match="returns shape"):
        compare(live, live[:1])
    with pytest.raises(ValueError, match="class ids up to 2"):
        compare(live, np.array([[0, 0, 2]]))


def test_parity_images_fill_the_range_that_the_network_was_trained_on():
    for normalize in (Normalize(255, (0.5,), (0.25,)), Normalize(1, (127.5,), (63.75,))):
        image = normalize(next(iter(parity_images(normalize, [(64, 64)]))))
        assert image.shape == (1, 64, 64)
        assert image.min() == pytest.approx(-2, abs=0.01)
        assert image.max() == pytest.approx(2, abs=0.01)


# ---- the predictor ---------------------------------------------------------------------------


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("size", [(75, 100), (33, 20), (1, 1), (48, 61)])
def test_the_predictor_predicts_what_the_live_network_predicts(exported, onednn, size):
    net, folder, _ = exported
    image = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    predictor = Predictor(folder, onednn=onednn, threads=1)
    prepared = PREPROCESS(image)
    expected = predict_label_map(net, paddle.to_tensor(prepared[None]), WholeImage(), size)
    labels = predictor.predict(image)
    assert labels.shape == size
    assert labels.dtype == np.uint8
    assert (labels != expected).mean() <= 1e-4 or (labels != expected).sum() <= 1
    assert predictor.classes == ("背景", "road", "car")
    assert predictor.logits(image).shape == (3, *prepared.shape[1:])


def test_an_image_with_other_channels_is_refused(exported):
    predictor = Predictor(exported[1], threads=1)
    with pytest.raises(DataError, match="expected HxWx3"):
        predictor.predict(np.zeros((4, 4, 1), np.uint8))


@pytest.fixture
def copy(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported[1], folder)
    (folder / "deploy.yaml.sha256").unlink()  # exports of before have none
    return folder


def test_a_folder_that_is_no_export_is_said_to_be_none(tmp_path):
    with pytest.raises(ConfigError, match=r"no deploy\.yaml"):
        Predictor(tmp_path)


def test_a_missing_or_cut_file_is_named_before_paddle_sees_it(copy):
    params = copy / "model.pdiparams"
    content = params.read_bytes()
    params.write_bytes(content[:-10])
    with pytest.raises(ConfigError, match=rf"model\.pdiparams has {len(content) - 10} bytes"):
        Predictor(copy)
    params.unlink()
    with pytest.raises(ConfigError, match="copy the whole export folder"):
        Predictor(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree.pop("classes"), "classes is missing"),
        (lambda tree: tree["palette"].pop(), "2 colours for 3 classes"),
        (lambda tree: tree["preprocess"]["normalize"].update(std=[1, 1]), "mean has 3 values"),
        (lambda tree: tree["preprocess"]["resize"].append({"shrt": 3}), "shrt"),
        (lambda tree: tree["files"]["model"].update(name="../model.json"), "plain file name"),
        (lambda tree: tree.update(classes="abc"), "expected a list"),
        (lambda tree: tree.update(files=None), r"deploy\.yaml"),
    ],
)
def test_a_changed_deploy_yaml_is_one_readable_line(copy, change, said):
    file = copy / "deploy.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(tree)
    file.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as caught:
        load_deployment(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "!!python/object/apply:os.system ['true']"])
def test_a_deploy_yaml_that_is_no_mapping_or_wants_to_run_code_is_refused(copy, text):
    (copy / "deploy.yaml").write_text(text)
    with pytest.raises(ConfigError, match="deploy"):
        load_deployment(copy)


def test_one_predictor_gives_eight_threads_what_it_gives_one(exported):
    predictor = Predictor(exported[1], threads=1)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (60 + 3 * k, 90 - 4 * k, 3)).astype(np.uint8) for k in range(8)]
    alone = [predictor.predict(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(predictor.predict, images * 15))
    for index, labels in enumerate(together):
        np.testing.assert_array_equal(labels, alone[index % 8])
    assert len(np.unique(alone[0])) > 1
    assert not np.array_equal(alone[0], np.resize(alone[1], alone[0].shape))


@pytest.mark.parametrize(
    ("image", "fix"),
    [
        (np.full((9, 9, 3), 0.7, np.float32), "multiply it by 255"),
        (np.full((9, 9, 3), 4000, np.uint16), "bring it to 8 bits"),
    ],
)
def test_an_image_whose_range_cannot_be_the_training_datas_is_refused_with_the_fix(exported, image, fix):
    predictor = Predictor(exported[1], threads=1)
    with pytest.raises(DataError, match=fix):
        predictor.predict(image)
    predictor.predict(np.zeros((9, 9, 3), np.float32))  # black is black in any range
    predictor.predict(np.full((9, 9, 3), 200, np.uint16))


def test_infer_reads_the_export_once(exported, tmp_path, monkeypatch):
    import paddlefcn.deploy.deployment as deployment_module
    from paddlefcn.deploy.predict import infer

    hashed = []
    real = deployment_module.checksum
    monkeypatch.setattr(deployment_module, "checksum", lambda path: hashed.append(path.name) or real(path))
    write_picture(tmp_path / "in.png", np.zeros((9, 9, 3), np.uint8))
    infer(exported[1], tmp_path / "in.png", tmp_path / "out", device="cpu")
    assert len(hashed) == len(set(hashed)) == 2


def test_the_line_for_tensorrt_has_the_sizes_of_the_data_or_of_the_gate(tmp_path):
    config = load_config(REPO / "configs" / "quickstart.yml")
    preprocess, dataset = build_preprocess(config), build_dataset(config, "val")
    line = trtexec_line(dataset, preprocess, tmp_path / "my net")
    height, width = dataset.read(0)[0].shape[:2]
    for name in ("min", "opt", "max"):
        assert f" --{name}Shapes=image:1x3x{height}x{width} " in line
    assert line.startswith(f"trtexec --onnx='{tmp_path / 'my net' / 'model.onnx'}' ")
    line = trtexec_line(None, preprocess, tmp_path)
    assert "--minShapes=image:1x3x17x23 " in line
    assert "--maxShapes=image:1x3x241x201 " in line


def test_infer_takes_plain_keywords(exported, tmp_path, capsys):
    from paddlefcn.deploy.predict import infer

    write_picture(tmp_path / "in.png", np.zeros((9, 9, 3), np.uint8))
    plain = {"scales": (0.5, 1.0), "flip": True, "runtime": "native", "threads": 1, "overlay": False}
    shares = infer(exported[1], tmp_path / "in.png", tmp_path / "out", device="cpu", **plain)
    assert shares["images"][0]["name"] == "in"
    assert not (tmp_path / "out" / "in_overlay.png").exists()
    assert "runtime native" in capsys.readouterr().out
    with pytest.raises(TypeError, match="takes no 'scale'; known: "):
        infer(exported[1], tmp_path / "in.png", tmp_path / "out", scale=2)
