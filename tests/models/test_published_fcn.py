"""The networks as their authors published them."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from networks import build_model, noise

from paddlefcn.backbones import VGG11, VGG16
from paddlefcn.layers import Upsample
from paddlefcn.models import MODELS, FCN8s, PublishedFCN8s, PublishedFCN16s, resolve

NAMES = ["FCN32s", "FCN16s", "FCN8s", "FCN8sAtOnce"]
PUBLISHED = [*(f"Published{name}" for name in NAMES), "FCNAlexNet"]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("FCN32s", 136_152_917),
        ("FCN16s", 134_815_994),
        ("FCN8s", 134_489_759),
        ("FCN8sAtOnce", 134_489_759),
    ],
)
def test_parameter_counts_are_the_published_ones(name, count):
    with paddle.LazyGuard():  # 134 million values need not be drawn to be counted
        backbone = VGG16(padding="reference", batch_norm=False)
        model = MODELS[f"Published{name}"](backbone, num_classes=21)
    assert sum(int(np.prod(p.shape)) for p in model.parameters()) == count


# --- sizes by arithmetic, from the authors' prototxt files ----------------------------------------


def pooled(size, kernel):
    return max(0, -((kernel - size) // 2)) + 1


def vgg_pools(size):
    size, pools = size + 2 * 100 - 2, []
    for _ in range(5):
        size = pooled(size, 2)
        pools.append(size)
    return pools


def cropped(size, like, offset):
    assert offset + like <= size, "the window does not fit"
    return like


def output_length(name, size):
    """The height of the logits for an image of that height."""
    if name == "FCNAlexNet":
        pool5 = pooled(pooled(pooled((size + 2 * 100 - 11) // 4 + 1, 3), 3), 3)
        return cropped((pool5 - 6) * 32 + 63, size, 18)
    pools = vgg_pools(size)
    score = pools[4] - 6
    if name == "PublishedFCN32s":
        return cropped((score - 1) * 32 + 64, size, 19)
    score = (score - 1) * 2 + 4
    cropped(pools[3], score, 5)
    if name == "PublishedFCN16s":
        return cropped((score - 1) * 16 + 32, size, 27)
    score = (score - 1) * 2 + 4
    cropped(pools[2], score, 9)
    return cropped((score - 1) * 8 + 16, size, 31)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_size_up_to_1300_keeps_its_size_by_arithmetic(name):
    # height and width do not meet in any layer, so one of them is enough
    assert [size for size in range(1, 1301) if output_length(name, size) != size] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_arithmetic_is_that_of_the_networks_own_maps(name):
    model = build_model(name)
    model.eval()
    for size in ((1, 70), (130, 33)):
        pool5 = model.backbone(noise(1, 3, *size))[-1]
        alexnet = name == "FCNAlexNet"
        expected = [
            pooled(pooled(pooled((n + 189) // 4 + 1, 3), 3), 3) if alexnet else vgg_pools(n)[4] for n in size
        ]
        assert pool5.shape[2:] == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_sample_of_sizes_is_kept_when_run(name):
    model = build_model(name)
    model.eval()
    for size in [(2, 31), (32, 33), (63, 64), (65, 1), (96, 127), (5, 200)]:
        assert model(noise(1, 3, *size))[0].shape[2:] == list(size)


# --- what trains, and what a recipe means ---------------------------------------------------------


@pytest.mark.parametrize(
    ("learn", "expected"),
    [
        ("none", set()),
        ("intermediate", {"upscore2", "upscore_pool4"}),
        ("all", {"upscore2", "upscore_pool4", "upscore8"}),
    ],
)
def test_learn_upsampling_says_which_deconvolutions_train(learn, expected):
    model = build_model("PublishedFCN8s", learn_upsampling=learn)
    layers = {key: x for key, x in model.named_sublayers() if isinstance(x, Upsample)}
    assert {key for key, x in layers.items() if not x.weight.stop_gradient} == expected
    assert set(layers) == {"upscore2", "upscore_pool4", "upscore8"}
    assert not any(x.padding for x in layers.values())


def test_padding_reference_in_a_recipe_means_the_published_network():
    stated = {"upsample": "transposed", "upsample_dense": True, "fc6_kernel": 7, "align_corners": False}
    name, arguments, backbone = resolve(
        "FCN8s", {"padding": "reference", "fc_channels": 6, **stated}, "VGG16", {}
    )
    assert (name, arguments) == ("PublishedFCN8s", {"fc_channels": 6})
    assert backbone == {"padding": "reference", "batch_norm": False}
    assert resolve("FCN8s", {"padding": "same"}, "VGG16", {})[0] == "FCN8s"


@pytest.mark.parametrize(
    ("arguments", "backbone", "message"),
    [
        ({"padding": "valid"}, {}, "padding: got 'valid', expected same or reference"),
        ({"upsample": "bilinear"}, {}, "upsample: got 'bilinear', but padding: reference"),
        ({"upsample_dense": False}, {}, "upsample_dense: got False, but padding: reference"),
        ({"align_corners": True}, {}, "align_corners: got True, but padding: reference"),
        ({"deep_supervision": True}, {}, "deep_supervision: got True, but padding: reference"),
        ({"fc6_kernel": 5}, {}, "fc6_kernel: got 5, but padding: reference"),
        (
            {},
            {"batch_norm": True},
            "backbone.batch_norm: got True, but PublishedFCN8s stands on one with False",
        ),
    ],
)
def test_what_contradicts_the_published_network_is_refused_in_one_line(arguments, backbone, message):
    with pytest.raises(ValueError, match=message) as error:
        resolve("FCN8s", {"padding": "reference", **arguments}, "VGG16", backbone)
    assert "\n" not in str(error.value)


def test_a_backbone_whose_maps_reach_less_far_is_refused():
    with pytest.raises(ValueError, match=r"do not reach 99 pixels beyond the image.*it goes with VGG16"):
        PublishedFCN8s(VGG11(width=1), num_classes=2)
    with pytest.raises(ValueError, match=r"do not reach 95 pixels.*it goes with AlexNet"):
        MODELS["FCNAlexNet"](VGG11(width=1, padding="reference"), num_classes=2)
    with pytest.raises(ValueError, match="learn_upsampling: got 'some'"):
        PublishedFCN16s(VGG11(width=1, padding="reference"), num_classes=2, learn_upsampling="some")
    assert not issubclass(PublishedFCN8s, FCN8s)
