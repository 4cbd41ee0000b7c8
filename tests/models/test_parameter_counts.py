"""Parameters of the full networks against the published counts; every difference explained."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlefcn.backbones import BACKBONES
from paddlefcn.models import MODELS, resolve

SHARED = {"channels": 256, "head_convolution": True, "auxiliary": True}
UNET = {"upsample": "resize", "score_kernel": 3, "channels": [256, 128, 64, 64]}
# model, its arguments, backbone, its arguments, published trained parameters with 21 classes; whether those
# count biases under BatchNorm, which BatchNorm takes away again and our convolutions leave out
PUBLISHED = [
    # torchvision
    ("FCNHead", {}, "ResNet50", {}, 35_322_218, 0),
    ("FCNHead", {}, "ResNet101", {}, 54_314_346, 0),
    ("DeepLabV3", SHARED, "ResNet50", {}, 42_004_074, 0),
    ("DeepLabV3", SHARED, "ResNet101", {}, 60_996_202, 0),
    ("DeepLabV3", SHARED, "MobileNetV3Large", {}, 11_029_328, 0),
    ("LRASPP", {}, "MobileNetV3Large", {}, 3_221_538, 0),
    # PaddleSeg
    ("UNet", UNET, "UNetEncoder", {"widths": [64, 128, 256, 512, 512]}, 13_407_381, "biases"),
    ("UNetPlusPlus", {"upsample": "bilinear"}, "UNetEncoder", {}, 8_364_084, "biases"),
    ("SegNet", {"decoder": [3, 3, 3, 3, 2]}, "VGG16", {}, 29_602_965, "biases"),
    ("PSPNet", {"channels": 1024}, "ResNet50_vd", {}, 67_866_506, "biases"),
    ("DeepLabV3", {}, "ResNet50_vd", {}, 39_069_045, "biases"),
    ("DeepLabV3Plus", {"low_level": "layer1"}, "ResNet50_vd", {}, 26_723_909, "biases"),
    ("DeepLabV3Plus", {"low_level": "blocks0"}, "Xception65", {}, 41_057_813, "biases"),
    # the authors' 20.5 million, counted from their prototxt
    ("DeepLabV1", {"batch_norm": False}, "DeepLabVGG16", {"batch_norm": False}, 20_505_429, 0),
    # kazuto1011/deeplab-pytorch, DrSleep/refinenet-pytorch and light-weight-refinenet
    ("DeepLabV2", {}, "ResNet101", {}, 44_048_532, 0),
    ("RefineNet", {}, "ResNet101", {}, 118_052_437, 0),
    ("LightRefineNet", {}, "ResNet50", {}, 27_357_525, 0),
    ("LightRefineNet", {}, "ResNet101", {}, 46_349_653, 0),
]


def biases_left_out(model):
    """Output channels of every convolution outside a ResNet or Xception backbone that BatchNorm follows."""
    state = {key: tensor.shape for key, tensor in model.state_dict().items()}
    own = "backbone." if not type(model.backbone).__name__.startswith(("ResNet", "Xception")) else "\0"
    pooled = "image_pool."  # PaddleSeg's image pooling has bias_attr=False
    means = [
        key
        for key in state
        if key.endswith("._mean") and (not key.startswith("backbone.") or key.startswith(own))
    ]
    return sum(state[key][0] for key in means if pooled not in key)


@pytest.mark.parametrize(("name", "arguments", "kind", "backbone", "published", "left_out"), PUBLISHED)
def test_counts_are_the_published_ones(name, arguments, kind, backbone, published, left_out):
    name, arguments, backbone = resolve(name, arguments, kind, backbone)
    with paddle.LazyGuard():  # 68 million values need not be drawn to be counted
        model = MODELS[name](BACKBONES[kind](**backbone), num_classes=21, **arguments)
    trained = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
    assert published - trained == (biases_left_out(model) if left_out else 0)


# of the classifiers' feature extractors: torchvision's published counts less their last layers
BACKBONE_COUNTS = {
    "ResNet18": 11_689_512 - 513_000,
    "ResNet34": 21_797_672 - 513_000,
    "ResNet50": 25_557_032 - 2_049_000,
    "ResNet101": 44_549_160 - 2_049_000,
    "MobileNetV2": 3_504_872 - 1_281_000,
    "MobileNetV3Small": 2_542_856 - (577 * 1024 + 1025 * 1000),
    "MobileNetV3Large": 5_483_032 - (961 * 1280 + 1281 * 1000),
}


@pytest.mark.parametrize("name", BACKBONE_COUNTS)
def test_backbones_have_the_published_number_of_parameters(name):
    with paddle.LazyGuard():
        backbone = BACKBONES[name]()
    trained = sum(int(np.prod(p.shape)) for p in backbone.parameters() if not p.stop_gradient)
    assert trained == BACKBONE_COUNTS[name]


def test_ddrnet_has_the_authors_parameters_but_for_the_stems_biases_under_batch_norm():
    with paddle.LazyGuard():
        model = MODELS["DDRNet"](BACKBONES["DDRNet23Slim"](), num_classes=19)
    trained = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
    assert trained == 5_734_342 - 2 * 32
