"""Whole image, windows, scales and mirroring agree with each other and with plain arithmetic."""

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlefcn.inference import MultiScale, SlidingWindow, WholeImage
from paddlefcn.label_maps import label_map


class PixelNet(nn.Layer):
    """A 1x1 convolution: every window of it equals the whole image. Records the sizes it saw."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.conv = nn.Conv2D(2, num_classes, 1)
        self.seen = []

    def forward(self, image):
        self.seen.append(tuple(image.shape[2:]))
        return [self.conv(image)]


@pytest.fixture
def net():
    paddle.seed(0)
    model = PixelNet()
    model.eval()
    return model


def picture(height, width, n=1):
    values = np.random.default_rng(height * width).normal(size=(n, 2, height, width))
    return paddle.to_tensor(values.astype(np.float32))


def test_whole_image_is_the_networks_first_output(net):
    image = picture(5, 7)
    scores = WholeImage()(net, image)
    np.testing.assert_array_equal(scores.numpy(), net(image)[0].numpy())
    assert scores.stop_gradient


@pytest.mark.parametrize(
    ("size", "stride"), [(8, 8), (8, 5), ((6, 9), (4, 3)), (4, 1), (8, None), ((30, 4), 4)]
)
def test_windows_of_a_pointwise_network_give_the_whole_image(net, size, stride):
    image = picture(19, 23, n=2)
    scores = SlidingWindow(size, stride)(net, image)
    np.testing.assert_allclose(scores.numpy(), net(image)[0].numpy(), atol=1e-5)


def test_windows_end_at_the_border_and_never_exceed_their_size(net):
    SlidingWindow(8, 5)(net, picture(19, 8))
    assert net.seen == [(8, 8)] * 4  # rows start at 0, 5, 10, 11


def test_an_image_smaller_than_the_window_is_seen_whole(net):
    SlidingWindow(64)(net, picture(1, 5))
    assert net.seen == [(1, 5)]


def test_overlapping_windows_are_averaged():
    class Counting(nn.Layer):
        calls = 0

        def forward(self, image):
            self.calls += 1
            return [paddle.full([1, 2, *image.shape[2:]], float(self.calls))]

    scores = SlidingWindow((2, 4), (1, 4))(Counting(), paddle.zeros([1, 1, 3, 4])).numpy()
    assert scores[0, 0, :, 0].tolist() == [1.0, 1.5, 2.0]


def test_bands_hold_only_the_rows_of_one_row_of_windows(net):
    bands = list(SlidingWindow((8, 8), (4, 8)).bands(net, picture(40, 16)))
    assert [band.shape[2] for band in bands] == [4] * 8 + [8]


def test_a_label_map_by_bands_equals_the_argmax_of_the_scores(net):
    image = picture(21, 17, n=2)
    for inference in (WholeImage(), SlidingWindow(8, 5), MultiScale((0.5, 1.0), flip=True)):
        expected = inference(net, image).numpy().argmax(1)
        got = inference.label_map(net, image)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, expected)


def test_one_scale_without_mirroring_is_the_softmax(net):
    image = picture(9, 6)
    expected = paddle.nn.functional.softmax(net(image)[0], axis=1).numpy()
    np.testing.assert_allclose(MultiScale()(net, image).numpy(), expected, atol=1e-6)


def test_mirroring_averages_the_probabilities_of_both_views():
    class Ramp(nn.Layer):
        def forward(self, image):
            width = image.shape[3]
            row = paddle.arange(width, dtype="float32").reshape([1, 1, 1, width])
            return [paddle.concat([row, paddle.zeros_like(row)], axis=1)]

    scores = MultiScale(flip=True)(Ramp(), paddle.zeros([1, 1, 1, 4])).numpy()[0, 0, 0]
    one_view = 1 / (1 + np.exp(-np.arange(4.0)))
    np.testing.assert_allclose(scores, (one_view + one_view[::-1]) / 2, atol=1e-6)


def test_scales_are_seen_at_their_sizes_and_come_back_at_the_images(net):
    scores = MultiScale((0.5, 1, 2), flip=True)(net, picture(6, 9))
    assert net.seen == [(3, 4), (3, 4), (6, 9), (6, 9), (12, 18), (12, 18)]
    assert scores.shape == [1, 3, 6, 9]
    np.testing.assert_allclose(scores.numpy().sum(1), 1, atol=1e-5)


def test_a_tiny_scale_of_a_tiny_image_still_has_a_pixel(net):
    assert MultiScale((0.1,))(net, picture(1, 3)).shape == [1, 3, 1, 3]


def test_nesting_averages_probabilities_once_whatever_the_order(net):
    image = picture(13, 11)
    outside = MultiScale(flip=True, inner=SlidingWindow(8, 4))(net, image).numpy()
    inside = SlidingWindow(8, 4, inner=MultiScale(flip=True))(net, image).numpy()
    twice = MultiScale(inner=MultiScale(flip=True))(net, image).numpy()
    plain = MultiScale(flip=True)(net, image).numpy()
    for scores in (outside, inside, twice):
        np.testing.assert_allclose(scores, plain, atol=1e-5)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="larger than the window"):
        SlidingWindow(8, 9)
    with pytest.raises(ValueError, match="one or two integers"):
        SlidingWindow((8, 8, 8))
    with pytest.raises(ValueError, match="one or two integers"):
        SlidingWindow(0)
    with pytest.raises(ValueError, match="must be numbers of"):
        MultiScale([])
    with pytest.raises(ValueError, match="must be numbers of"):
        MultiScale([0.5, -1])


def test_resized_label_maps_equal_bilinear_interpolation_before_the_decision(monkeypatch):
    # a small block, so that the joints between blocks are tested too
    monkeypatch.setattr("paddlefcn.label_maps._BLOCK_VALUES", 300)
    scores = np.random.default_rng(0).normal(size=(4, 7, 9)).astype(np.float32)
    for size in ((7, 9), (23, 31), (3, 5), (2, 3), (7, 20)):
        enlarged = paddle.nn.functional.interpolate(
            paddle.to_tensor(scores[None]), size=list(size), mode="bilinear", align_corners=False
        ).numpy()[0]
        np.testing.assert_array_equal(label_map(scores, size), enlarged.argmax(0))


def test_equal_scores_take_the_lowest_class_and_many_classes_a_wider_type():
    assert label_map(np.zeros((5, 2, 2), np.float32)).tolist() == [[0, 0], [0, 0]]
    scores = np.zeros((300, 1, 1), np.float32)
    scores[280] = 1
    assert label_map(scores).dtype == np.int32
    assert label_map(scores)[0, 0] == 280
