"""Every model of the table: on every backbone, and exported through Paddle Inference, native and oneDNN."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from networks import build_model, noise, woken
from paddle.static import InputSpec

from paddlefcn.backbones import BACKBONES
from paddlefcn.build import validate
from paddlefcn.config import parse_config
from paddlefcn.errors import ConfigError
from paddlefcn.layers import use_export_form
from paddlefcn.models import MODELS

REST = {
    "data": {"type": "Shapes", "classes": list("abcde")},
    "loss": [{"type": "CrossEntropy"}],
    "optimizer": {"type": "Momentum"},
    "schedule": {"type": "Poly", "learning_rate": 0.1},
    "train": {"iters": 10},
}
SIX_ODD = [(1, 1), (17, 5), (37, 45), (6, 6), (33, 64), (95, 70)]


@pytest.mark.slow
@pytest.mark.parametrize("onednn", [False, True], ids=["native", "onednn"])
@pytest.mark.parametrize("name", MODELS)
def test_an_export_gives_the_live_logits_at_odd_sizes(name, onednn, tmp_path):
    from paddle import inference

    model = woken(build_model(name))
    model.eval()
    inputs = [noise(1, 3, *size) for size in SIX_ODD]
    expected = [model(x)[0].numpy() for x in inputs]
    use_export_form(model)
    spec = InputSpec([None, 3, None, None], "float32", name="image")
    paddle.jit.save(model, str(tmp_path / "model"), input_spec=[spec])
    config = inference.Config(str(tmp_path / "model.json"), str(tmp_path / "model.pdiparams"))
    config.disable_gpu()
    if onednn:
        config.enable_mkldnn()
    else:
        config.disable_mkldnn()
    predictor = inference.create_predictor(config)
    errors = []
    for x, logits in zip(inputs, expected):
        got = predictor.run([x])[0].numpy()
        assert got.shape == logits.shape
        errors.append(np.abs(got - logits).max() / np.abs(logits).max())
    engine = "oneDNN" if onednn else "native"
    print(f"\n{name:<22}{engine:<8}largest relative error {max(errors):.1e}", flush=True)
    assert max(errors) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_backbone_carries_a_model_at_any_size_or_is_refused_in_one_line(name):
    accepted, refusals = [], []
    for kind, backbone in BACKBONES.items():
        section = {**MODELS[name].smallest, "type": name, "backbone": {"type": kind, **backbone.smallest}}
        try:
            validate(parse_config({**REST, "model": section}, "recipe.yml"))
        except ConfigError as error:
            refusals.append(str(error))
            continue
        model = build_model(name, backbone=section["backbone"])
        model.eval()
        for size in SIX_ODD:
            (logits,) = model(noise(1, 3, *size))
            assert logits.shape == [1, 5, *size]
            assert bool(paddle.isfinite(logits).all())
        accepted.append(kind)
    print(f"\n{name:<22}{len(accepted):>3} backbones: {', '.join(accepted)}", flush=True)
    assert MODELS[name].default_backbone in accepted
    assert [refusal for refusal in refusals if "\n" in refusal or "backbone" not in refusal] == []
