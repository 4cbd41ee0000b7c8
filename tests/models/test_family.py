"""The family across backbones: exports through Paddle Inference, and networks that learn images by heart."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from networks import build_model, noise, woken
from paddle.static import InputSpec

from paddlefcn.layers import use_export_form
from paddlefcn.models import MODELS

SIX_ODD = [(1, 1), (17, 5), (37, 45), (6, 6), (33, 64), (95, 70)]
RESNET, MOBILE = {"type": "ResNet18", "width": 8}, {"type": "MobileNetV3Small", "width_factor": 0.25}
LEARNERS = [
    ("FCN8s", RESNET, {"fc_channels": 32, "fc6_kernel": 1, "dropout": 0.0}),
    ("FCN8s", MOBILE, {"fc_channels": 32, "fc6_kernel": 1, "dropout": 0.0}),
    ("FCNHead", RESNET, {"dropout": 0.0}),
    ("LRASPP", MOBILE, {"channels": 16}),
    ("DDRNet", {"type": "DDRNet23Slim", "width": 8}, {"pyramid_channels": 16, "channels": 16}),
    ("DeepLabV1", {"type": "DeepLabVGG16", "width": 8}, {"fc_channels": 32, "dropout": 0.0}),
    ("DeepLabV2", RESNET, {}),
    ("RefineNet", RESNET, {"channels": 16, "deep_channels": 24, "dropout": 0.0}),
    ("LightRefineNet", RESNET, {"channels": 16, "deep_channels": 24, "dropout": 0.0}),
    ("BackboneUNet", RESNET, {"channels": [32, 24, 16, 12, 8]}),
    ("BackboneUNetPlusPlus", RESNET, {"channels": [32, 24, 16, 12, 8]}),
]


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
    for x, logits in zip(inputs, expected):
        got = predictor.run([x])[0].numpy()
        assert got.shape == logits.shape
        assert np.abs(got - logits).max() / np.abs(logits).max() < 1e-5


def pictures():
    """Eight images of a bright rectangle each, 64x64, class 1 or 2 by its colour."""
    rng = np.random.default_rng(3)
    images = rng.standard_normal((8, 3, 64, 64)).astype("float32") * 0.1
    labels = np.zeros((8, 64, 64), "int64")
    for index in range(8):
        top, left = rng.integers(0, 32, 2)
        window = (slice(top, top + 28), slice(left, left + 28))
        images[index, index % 2, window[0], window[1]] += 2
        labels[index][window] = 1 + index % 2
    return paddle.to_tensor(images), paddle.to_tensor(labels)


def mean_iou(predicted, labels):
    scores = []
    for number in range(3):
        hit, there = predicted == number, labels == number
        scores.append((hit & there).sum() / (hit | there).sum())
    return float(np.mean(scores))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backbone", "arguments"), LEARNERS)
def test_eight_images_are_learned_by_heart(name, backbone, arguments):
    model = build_model(name, num_classes=3, backbone=backbone, **arguments)
    images, labels = pictures()
    optimizer = paddle.optimizer.AdamW(0.005, parameters=model.parameters(), weight_decay=0.0)
    for step in range(1, 301):
        outputs = model(images)
        loss = sum(
            weight * paddle.nn.functional.cross_entropy(logits, labels, axis=1)
            for weight, logits in zip(model.output_weights, outputs)
        )
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        optimizer.set_lr(0.005 * (1 - step / 301) ** 0.9)
    model.eval()
    with paddle.no_grad():
        predicted = model(images)[0].argmax(1).numpy()
    assert mean_iou(predicted, labels.numpy()) > 0.95
