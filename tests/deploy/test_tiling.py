"""Tiles against the whole image: equal where the network allows it, blended and resumable elsewhere."""

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlefcn.backbones import VGG
from paddlefcn.data.scenes import ArrayScene
from paddlefcn.deploy.reach import _tile_error, find_tiling
from paddlefcn.deploy.tiling import Tiling, label_bands
from paddlefcn.label_maps import label_map
from paddlefcn.models import FCN8s
from paddlefcn.models.published_fcn import PublishedFCN32s


def tiny(model=FCN8s, **arguments):
    paddle.seed(0)
    same = model is not PublishedFCN32s
    options = {} if same else {"padding": "reference", "batch_norm": False}
    backbone = VGG(arch=[1, 1, 1, 1, 1], width=4, **options)
    arguments = {**({"fc6_kernel": 3} if same else {}), **arguments}
    net = model(backbone, num_classes=3, fc_channels=8, **arguments)
    for name, parameter in net.named_parameters():
        if name.startswith("score"):  # they start from zero, and zero equals zero too easily
            parameter.set_value(paddle.randn(parameter.shape))
    net.eval()
    with paddle.no_grad():  # the classes are brought to one level, or one of them would win everywhere
        level = net(paddle.randn([1, 3, 64, 64]))[0].mean([0, 2, 3])
    net.score_fr.bias.set_value(net.score_fr.bias - level)
    return net


class Pyramid(nn.Layer):
    """Every output sees the mean of the whole image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 3, 1)

    def forward(self, image):
        scores = self.conv(image)
        return [scores + nn.functional.adaptive_avg_pool2d(scores, 1)]


def runner(net):
    def run(batch):
        with paddle.no_grad():
            return net(paddle.to_tensor(batch))[0].numpy()

    return run


def prepare(image):
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def picture(height, width):
    return np.random.default_rng(height).normal(size=(height, width, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("model", "arguments", "halo"),
    [(FCN8s, {}, 96), (PublishedFCN32s, {}, 192), (FCN8s, {"upsample": "transposed"}, 96)],
)
def test_the_halo_found_is_enough_and_a_stride_less_is_not(model, arguments, halo):
    net = tiny(model, **arguments)
    before = {name: value.numpy() for name, value in net.state_dict().items()}
    tiling = find_tiling(net, 3)
    assert tiling == Tiling(32, halo, True, tiling.largest_logit_error)
    assert tiling.largest_logit_error < 1e-5
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    assert _tile_error(net, 3, 32, halo) < 1e-5
    assert _tile_error(net, 3, 32, halo - 64) > 1e-5


def test_a_network_that_sees_the_whole_image_has_no_exact_tiles():
    assert not find_tiling(Pyramid(), 3).exact
    assert not find_tiling(tiny(align_corners=True), 3).exact  # its grid depends on the image's size


def test_tiles_of_odd_scenes_decide_as_the_whole_image_does_and_go_on_from_any_row():
    net = tiny()
    tiling = find_tiling(net, 3)
    for height, width in ((200, 131), (7, 300), (65, 64)):
        image = picture(height, width)
        whole = label_map(runner(net)(prepare(image)[None])[0])
        assert height < 200 or len(np.unique(whole)) > 1
        bands = list(label_bands(ArrayScene(image), runner(net), prepare, tiling, 50))
        assert [len(band) for band in bands[:-1]] == [64] * (len(bands) - 1)
        assert (np.concatenate(bands) != whole).sum() <= 2
    again = list(label_bands(ArrayScene(picture(200, 131)), runner(net), prepare, tiling, 50, start=128))
    first = list(label_bands(ArrayScene(picture(200, 131)), runner(net), prepare, tiling, 50))
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(first)[128:])


def test_a_programs_own_label_maps_are_tiled_as_well():
    net = tiny()
    image, tiling = picture(140, 150), find_tiling(net, 3)
    scores = label_bands(ArrayScene(image), runner(net), prepare, tiling, 64)
    labels = label_bands(
        ArrayScene(image), lambda batch: label_map(runner(net)(batch)[0])[None], prepare, tiling, 64
    )
    np.testing.assert_array_equal(np.concatenate(list(labels)), np.concatenate(list(scores)))


def test_windows_of_a_global_network_are_blended_without_seams_and_resume_to_the_same():
    net = Pyramid()
    image = picture(150, 170)
    image += np.linspace(-1, 1, 170, dtype=np.float32)[None, :, None]
    tiling = Tiling(1, 0, False)
    calls = []
    bands = list(
        label_bands(ArrayScene(image), runner(net), prepare, tiling, 40, on_tile=lambda: calls.append(1))
    )
    whole = np.concatenate(bands)
    assert whole.shape == (150, 170)
    assert len(calls) == 4 * 5
    ends = np.cumsum([len(band) for band in bands])
    for start in ends[:-1].tolist():
        rest = label_bands(ArrayScene(image), runner(net), prepare, tiling, 40, start=start)
        np.testing.assert_array_equal(np.concatenate(list(rest)), whole[start:])


def test_a_pointwise_network_in_blended_windows_gives_the_whole_image():
    net = nn.Conv2D(3, 3, 1)
    run = runner(lambda image: [net(image)])
    image = picture(90, 77)
    bands = label_bands(ArrayScene(image), run, prepare, Tiling(1, 0, False), 32)
    whole = label_map(run(prepare(image)[None])[0])
    assert (np.concatenate(list(bands)) != whole).mean() < 0.001
