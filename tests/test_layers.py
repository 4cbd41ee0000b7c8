"""Upsampling, pooling, crops and their arithmetic."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.static import InputSpec

from paddlefcn.layers import (
    CeilMaxPool,
    ConvBNReLU,
    Upsample,
    bilinear_kernel,
    crop_like,
    use_export_form,
)

SIZES = [(1, 1), (1, 7), (3, 2), (5, 6)]


def noise(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).standard_normal(shape).astype("float32"))


def relative_error(got, expected):
    return float((got - expected).abs().max() / expected.abs().max())


def test_bilinear_kernels_equal_the_hand_computed_ones():
    even = np.array([0.25, 0.75, 0.75, 0.25])
    odd = np.array([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(bilinear_kernel(4), np.outer(even, even), rtol=1e-6)
    np.testing.assert_allclose(bilinear_kernel(5), np.outer(odd, odd), rtol=1e-6)


def test_bilinear_by_two_equals_the_hand_computed_row():
    row = paddle.to_tensor([[[[0.0, 4.0, 8.0]]]])
    centred = Upsample(1, 2)(row)[0, 0, 0].tolist()
    cornered = Upsample(1, 2, align_corners=True)(row)[0, 0, 0].tolist()
    assert centred == [0, 1, 3, 5, 7, 8]
    assert cornered == pytest.approx([0, 1.6, 3.2, 4.8, 6.4, 8], rel=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 8, 16, 32])
@pytest.mark.parametrize("size", SIZES)
def test_both_export_forms_equal_interpolation_borders_included(factor, size):
    layer = Upsample(5, factor)
    x = noise(2, 5, *size)
    expected = layer(x)
    like = noise(2, 1, size[0] * factor - 1, max(1, (size[1] - 1) * factor))
    for form in ("paddle", "onnx"):
        use_export_form(layer, form)
        window = layer(x, like)
        assert window.shape == [2, 5, *like.shape[2:]]
        assert relative_error(window, expected[:, :, : like.shape[2], : like.shape[3]]) < 1e-6
        got = layer(x)
        assert got.shape == [2, 5, size[0] * factor, size[1] * factor]
        assert relative_error(got, expected) < 1e-6
    use_export_form(layer, None)
    assert not layer.export_form


def test_export_form_leaves_no_trace_in_the_state_dict():
    layer = Upsample(5, 2)
    use_export_form(layer)
    assert list(layer.state_dict()) == []


def test_export_form_leaves_align_corners_and_transposed_alone():
    for layer in (Upsample(2, 2, align_corners=True), Upsample(2, 2, mode="transposed")):
        x = noise(1, 2, 4, 5)
        expected = layer(x)
        use_export_form(layer)
        assert (layer(x) == expected).all()


@pytest.mark.parametrize("form", [None, "paddle", "onnx"])
def test_export_at_any_size_gives_the_same_numbers(tmp_path, form):
    layer = Upsample(3, 8)
    use_export_form(layer, form)
    inputs = [noise(1, 3, *size) for size in SIZES]
    expected = [layer(x) for x in inputs]
    spec = InputSpec([None, 3, None, None], "float32", name="x")
    paddle.jit.save(layer, str(tmp_path / "layer"), input_spec=[spec])
    loaded = paddle.jit.load(str(tmp_path / "layer"))
    for x, y in zip(inputs, expected):
        assert relative_error(loaded(x), y) < 1e-6


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("factor", [2, 8, 32])
def test_transposed_starts_as_bilinear_away_from_the_border(factor, dense):
    x = noise(1, 4, 5, 6)
    transposed = Upsample(4, factor, mode="transposed", dense=dense)
    inner = slice(factor, -factor)
    got, expected = transposed(x), Upsample(4, factor)(x)
    assert got.shape == expected.shape
    assert relative_error(got[:, :, inner, inner], expected[:, :, inner, inner]) < 1e-6
    assert list(transposed.weight.shape[:2]) == [4, 4 if dense else 1]


@pytest.mark.parametrize("learn", [False, True])
def test_transposed_kernel_learns_or_is_frozen(learn):
    layer = Upsample(2, 2, mode="transposed", learn=learn)
    assert layer.weight.stop_gradient is not learn
    x = noise(1, 2, 3, 3)
    x.stop_gradient = False
    layer(x).square().sum().backward()
    assert (layer.weight.grad is not None) is learn
    assert float(x.grad.abs().sum()) > 0


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_upsampling_multiplies_the_size_exactly(factor):
    for mode in ("bilinear", "transposed"):
        layer = Upsample(1, factor, mode=mode)
        for size in (1, 2, 7):
            got = layer(noise(1, 1, size, 3)).shape
            assert got == [1, 1, size * factor, 3 * factor]


def test_published_deconvolution_is_unpadded():
    layer = Upsample(2, 32, mode="transposed", dense=True, kernel=63, padded=False)
    assert layer(noise(1, 2, 3, 4)).shape == [1, 2, 2 * 32 + 63, 3 * 32 + 63]


def test_upsample_refuses_what_does_not_exist():
    with pytest.raises(ValueError, match="'nearest', expected one of bilinear, transposed"):
        Upsample(2, 2, mode="nearest")
    with pytest.raises(ValueError, match="align_corners: true has no transposed"):
        Upsample(2, 2, mode="transposed", align_corners=True)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2)])
def test_pooling_rounds_up(kernel, stride):
    pool = CeilMaxPool(kernel, stride)
    for size in range(1, 12):
        x = noise(1, 1, size, 9)
        pooled = pool(x)
        assert pooled.shape[2] == max(0, math.ceil((size - kernel) / stride)) + 1
        # no pixel is dropped
        assert float(pooled.max()) == float(x.max())


def test_block_without_batch_norm_has_weight_and_bias_alone():
    assert list(ConvBNReLU(1, 2, batch_norm=False).state_dict()) == ["conv.weight", "conv.bias"]
    assert isinstance(ConvBNReLU(1, 2).bn, nn.BatchNorm2D)


def test_crop_takes_the_window_at_the_offset():
    x = paddle.arange(20, dtype="float32").reshape([1, 1, 4, 5])
    window = crop_like(x, paddle.zeros([1, 3, 2, 3]), 1)
    assert window[0, 0].tolist() == [[6, 7, 8], [11, 12, 13]]
    assert crop_like(x, x) is x
