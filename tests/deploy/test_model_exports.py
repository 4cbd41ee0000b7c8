"""Every model of the table, in every format, through the gate."""

import numpy as np
import paddle
import pytest
from networks import build_model, woken

from paddlefcn.classes import Classes
from paddlefcn.data.images import Normalize
from paddlefcn.deploy.deployment import Deployment
from paddlefcn.deploy.engines import create_engine
from paddlefcn.deploy.operators import _paddle_protobuf
from paddlefcn.deploy.predictor import Predictor
from paddlefcn.deploy.programs import write_program
from paddlefcn.deploy.targets import Target
from paddlefcn.deploy.writer import write_export
from paddlefcn.models import MODELS
from paddlefcn.preprocess import Preprocess

NORMALIZE = Normalize(255, (0.5, 0.45, 0.4), (0.25, 0.2, 0.3))
ABOUT = Deployment("any", Preprocess((), NORMALIZE), Classes(tuple("abcde")))
NEEDED = {
    "paddle": (),
    "onnx": ("paddle2onnx", "onnxruntime"),
    "openvino": ("paddle2onnx", "onnxruntime", "openvino"),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", NEEDED)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_passes_the_gate_in_every_format(name, form, tmp_path):
    for module in NEEDED[form]:
        pytest.importorskip(module)
    net = woken(build_model(name))
    net.eval()
    figures = []
    write_export(net, ABOUT, tmp_path / "net", figures.append, target=Target(form))
    assert [found.engine for found in figures] == list(Target(form).engines)
    for found in figures:
        assert found.passed
        assert found.largest_logit_error is not None
    assert Predictor(tmp_path / "net").runtime in Target(form).engines


# one for each thing that int8 stumbled over: scaled pools, concatenation, a head for training alone, a gate,
# and sizes in whole numbers
FAST_IN_INT8 = ("FCN8sAtOnce", "DeepLabV3Plus", "UNetPlusPlus", "LRASPP", "PSPNet")


@pytest.mark.parametrize(
    "name", [name if name in FAST_IN_INT8 else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_every_model_runs_in_int8_on_paddle(name, tmp_path):
    net = woken(build_model(name))
    net.eval()
    rng = np.random.default_rng(0)
    shown = [rng.normal(size=(1, 3, 4, 5)).repeat(24, 2).repeat(24, 3).astype("float32") for _ in range(3)]
    files = write_program(net, Target(precision="int8"), tmp_path / "net", 3, shown)
    assert list(_paddle_protobuf(files["model"])).count("quantize_linear") >= 4
    found = create_engine("onednn", files, precision="int8", threads=1)(shown[0])
    with paddle.no_grad():
        wanted = net(paddle.to_tensor(shown[0]))[0].numpy()
    # drawn weights are more sensitive to rounding than any that learned: the gate would refuse some
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9
