"""Every model of the table, in every format, through the gate."""

import pytest
from networks import build_model, woken

from paddlefcn.classes import Classes
from paddlefcn.data.images import Normalize
from paddlefcn.deploy.deployment import Deployment
from paddlefcn.deploy.predictor import Predictor
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
