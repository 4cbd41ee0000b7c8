"""The kernels against Paddle's operators and against finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from paddlefcn.accelerator import checks


def _random(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape).astype("float32")
    return paddle.to_tensor(values, stop_gradient=False)


def _block(kernels, out, kernel, *, norm=None, relu=True, bf16=False, **options):
    from paddlefcn.accelerator.operators import Block, Geometry

    given = {"stride": 1, "padding": kernel // 2, "dilation": 1, "groups": 1, **options}
    pair = lambda name: (given[name],) * 2  # noqa: E731
    pads = (given["padding"],) * 4
    geometry = Geometry(out, (kernel, kernel), pair("stride"), pads, pair("dilation"), given["groups"], bf16)
    return Block(kernels, geometry, norm, relu)


@pytest.mark.parametrize("numbers", checks.CONVOLUTIONS, ids=str)
def test_convolutions_and_their_gradients_are_paddles(kernels, numbers):
    rng = np.random.default_rng(1)
    for kind in ("plain", "bias", "norm"):
        assert checks.convolution_error(kernels, numbers, kind, False, rng) < checks.TOLERANCE


@pytest.mark.parametrize("numbers", checks.TRANSPOSED, ids=str)
def test_transposed_convolutions_and_their_gradients_are_paddles(kernels, numbers):
    rng = np.random.default_rng(1)
    for has_bias in (False, True):
        assert checks.transposed_error(kernels, numbers, has_bias, rng) < checks.TOLERANCE


@pytest.mark.parametrize("pool", checks.POOLS, ids=str)
@pytest.mark.parametrize("size", [(13, 17), (3, 3), (12, 16)], ids=str)
def test_pooling_and_its_gradient_are_paddles(kernels, pool, size):
    assert checks.pool_error(kernels, pool, np.random.default_rng(1), size) == pytest.approx(0, abs=1e-6)


def test_the_check_names_an_operator_that_is_wrong(kernels):
    class Wrong:
        """The real kernels, but for a convolution that forgets its input."""

        def __getattr__(self, name):
            return getattr(kernels, name)

        def call(self, name, *arguments):
            kernels.call(name, *arguments)
            if name == "fcn_add_bias":
                kernels.call(name, *arguments[:4], arguments[4], arguments[5], arguments[6])
                kernels.call("fcn_add_bias", 1, arguments[6], *arguments[2:])

    assert any("bias" in fault for fault in itertools.islice(checks.faults(Wrong()), 1))


def test_a_kernel_that_gives_nan_is_a_fault():
    nan = paddle.to_tensor([float("nan")])
    assert checks._deviation(nan, paddle.to_tensor([1.0])) == float("inf")


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}], ids=str
)
def test_gradients_are_finite_differences(kernels, options):
    from paddlefcn.accelerator.operators import convolve

    groups = options.get("groups", 1)
    x, weight, bias = _random(1, 4, 6, 7), _random(6, 4 // groups, 3, 3, seed=1), _random(6, seed=2)
    block = _block(kernels, 6, 3, relu=False, **options)
    share = _random(*convolve(block, x, weight, bias, None, None).shape, seed=3).detach()

    def loss(*tensors):
        return (convolve(block, *tensors, None, None) * share).sum()

    gradients = paddle.grad(loss(x, weight, bias), [x, weight, bias])
    for index, gradient in enumerate(gradients):
        direction = _random(*gradient.shape, seed=4).detach()
        moved = [[x, weight, bias], [x, weight, bias]]
        for tensors, sign in zip(moved, (0.5, -0.5)):
            tensors[index] = tensors[index].detach() + direction * sign
        # linear in each of them, so that the step's size costs no accuracy
        difference = float(loss(*moved[0])) - float(loss(*moved[1]))
        assert difference == pytest.approx(float((gradient * direction).sum()), rel=1e-4, abs=1e-3)


def test_transposed_gradients_are_finite_differences(kernels):
    from paddlefcn.accelerator.operators import Geometry
    from paddlefcn.accelerator.transposed import Transposed, can_transpose, transposed_convolve

    layer = Transposed(Geometry(4, (4, 4), (2, 2), (1, 1, 1, 1), (1, 1), 4), 4, (0, 0))
    assert can_transpose(kernels, layer, (1, 4, 5, 6))
    given = [_random(1, 4, 5, 6), _random(4, 1, 4, 4, seed=1), _random(4, seed=2)]
    share = _random(1, 4, 10, 12, seed=3).detach()

    def loss(tensors):
        return (transposed_convolve(kernels, layer, *tensors) * share).sum()

    for index, gradient in enumerate(paddle.grad(loss(given), given)):
        direction = _random(*gradient.shape, seed=4).detach()
        moved = [[*given], [*given]]
        for tensors, sign in zip(moved, (0.5, -0.5)):
            tensors[index] = tensors[index].detach() + direction * sign
        difference = float(loss(moved[0])) - float(loss(moved[1]))
        assert difference == pytest.approx(float((gradient * direction).sum()), rel=1e-4, abs=1e-3)


# (images, in, out, kernel, padding, height, width): many tiles and few, cut ones, blocks of channels that
# are not whole, more padding than the kernel has
MINIMAL = (
    (2, 64, 48, 3, 1, 33, 21),
    (1, 16, 32, 3, 0, 24, 23),
    (3, 32, 40, 3, 1, 14, 12),
    (2, 20, 64, 3, 3, 17, 9),
    (1, 96, 80, 3, 1, 24, 24),
    (2, 32, 144, 7, 3, 10, 7),
    (1, 80, 32, 7, 2, 21, 20),
    (3, 16, 16, 7, 8, 5, 3),
)


@pytest.mark.parametrize("numbers", MINIMAL, ids=str)
def test_fewer_multiplications_give_float32_results(kernels, numbers):
    """Forward and both gradients against float64, each as a share of its largest value."""
    from paddlefcn.accelerator import operators

    images, channels, out, kernel, padding, height, width = numbers
    x, weight = _random(images, channels, height, width), _random(out, channels, kernel, kernel, seed=1)
    block = _block(kernels, out, kernel, relu=False, padding=padding)
    assert operators._method(block.geometry, tuple(x.shape)) == operators._MINIMAL
    result = operators.convolve(block, x, weight, None, None, None)
    share = _random(*result.shape, seed=2).detach()
    precise = [value.detach().astype("float64") for value in (x, weight)]
    for value in precise:
        value.stop_gradient = False
    wanted = F.conv2d(*precise, padding=padding)
    found = [result, *paddle.grad((result * share).sum(), [x, weight])]
    right = [wanted, *paddle.grad((wanted * share.astype("float64")).sum(), precise)]
    for one, other in zip(found, right):
        error = float((one.astype("float64") - other).abs().max()) / float(other.abs().max())
        assert error < (1e-5 if kernel == 3 else 2e-5)


def test_a_map_of_one_pixel_keeps_the_usual_kernel(kernels):
    from paddlefcn.accelerator import operators

    block = _block(kernels, 32, 3)
    assert operators._method(block.geometry, (2, 32, 1, 1)) != operators._MINIMAL
    dilated = _block(kernels, 32, 3, dilation=2, padding=2)
    assert operators._method(dilated.geometry, (2, 32, 64, 64)) != operators._MINIMAL


def test_batch_norm_gradient_is_a_finite_difference(kernels):
    from paddlefcn.accelerator.operators import Norm, convolve

    norm = Norm(paddle.zeros([5]), paddle.ones([5]), 1e-5, 0.9, True)
    block = _block(kernels, 5, 3, norm=norm)
    x, weight, gamma, beta = (
        _random(2, 3, 8, 8),
        _random(5, 3, 3, 3, seed=1),
        _random(5, seed=2),
        paddle.ones([5]) * 4,
    )
    share = _random(2, 5, 8, 8, seed=3).detach()
    weight.stop_gradient = True
    gamma = (gamma.abs() * 0.1 + 0.5).detach()  # well above zero: no value crosses ReLU's corner
    loss = lambda image: (convolve(block, image, weight, None, gamma, beta) * share).sum()  # noqa: E731
    gradient = paddle.grad(loss(x), x)[0]
    direction = _random(*x.shape, seed=4).detach() * 1e-2
    difference = float(loss(x.detach() + direction)) - float(loss(x.detach() - direction))
    assert difference == pytest.approx(2 * float((gradient * direction).sum()), rel=2e-2)


@pytest.mark.parametrize("relu", [True, False])
def test_frozen_batch_norm_has_paddles_gradient(kernels, relu):
    from paddlefcn.accelerator.operators import Norm, convolve

    mean, variance = _random(6, seed=5).detach(), _random(6, seed=6).detach().abs() + 0.5
    block = _block(kernels, 6, 3, norm=Norm(mean, variance, 1e-5, 0.9, False), relu=relu)
    x, weight, gamma, beta = (
        _random(2, 3, 9, 8),
        _random(6, 3, 3, 3, seed=1),
        _random(6, seed=2),
        _random(6, seed=3),
    )
    before = mean.numpy().copy()
    result = convolve(block, x, weight, None, gamma, beta)
    wanted = F.batch_norm(F.conv2d(x, weight, padding=1), mean, variance, gamma, beta, training=False)
    wanted = F.relu(wanted) if relu else wanted
    share = _random(*wanted.shape, seed=4).detach()
    for found, right in zip(
        paddle.grad((result * share).sum(), [x, weight, gamma, beta]),
        paddle.grad((wanted * share).sum(), [x, weight, gamma, beta]),
    ):
        np.testing.assert_allclose(found.numpy(), right.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(mean.numpy(), before)


def test_joined_maps_and_their_gradients_are_paddles(kernels):
    from paddlefcn.accelerator.joining import join

    maps = [_random(2, count, 5, 7, seed=count) for count in (3, 16, 1)]
    last = maps[1].transpose([0, 2, 3, 1]).contiguous().transpose([0, 3, 1, 2])
    found, wanted = join(kernels, [maps[0], last, maps[2]]), paddle.concat(maps, axis=1)
    np.testing.assert_array_equal(found.numpy(), wanted.numpy())
    share = _random(*wanted.shape, seed=9).detach()
    for one, other in zip(
        paddle.grad((found * share).sum(), maps), paddle.grad((wanted * share).sum(), maps)
    ):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_the_layout_of_the_image_changes_nothing(kernels):
    from paddlefcn.accelerator.operators import convolve

    x, weight = _random(2, 6, 9, 8), _random(4, 6, 3, 3, seed=1)
    stored = paddle.transpose(x.detach(), [0, 2, 3, 1]).contiguous().transpose([0, 3, 1, 2])
    block = _block(kernels, 4, 3)
    plain, last = [convolve(block, image, weight, None, None, None) for image in (x, stored)]
    np.testing.assert_array_equal(plain.numpy(), last.numpy())
    window = paddle.concat([x, x], axis=2)[:, :, 3:12]  # a view with strides of its own
    np.testing.assert_allclose(
        convolve(block, window, weight, None, None, None).numpy(),
        F.relu(F.conv2d(window, weight, padding=1)).numpy(), rtol=1e-4, atol=1e-5,
    )  # fmt: skip


def test_what_needs_no_gradient_gets_none(kernels):
    from paddlefcn.accelerator.operators import convolve

    x, weight, bias = _random(1, 3, 8, 8), _random(4, 3, 3, 3, seed=1), _random(4, seed=2)
    weight.stop_gradient = True
    convolve(_block(kernels, 4, 3), x, weight, bias, None, None).sum().backward()
    assert weight.grad is None
    assert x.grad is not None
    assert bias.grad is not None
    x.stop_gradient = bias.stop_gradient = True
    assert convolve(_block(kernels, 4, 3), x, weight, bias, None, None).stop_gradient


def test_nan_stays_nan_through_relu_and_norm(kernels):
    from paddlefcn.accelerator.operators import Norm, convolve

    x = paddle.full([1, 3, 8, 8], float("nan"))
    weight = _random(4, 3, 3, 3)
    assert bool(paddle.isnan(convolve(_block(kernels, 4, 3), x, weight, None, None, None)).all())
    norm = Norm(paddle.zeros([4]), paddle.ones([4]), 1e-5, 0.9, True)
    one = paddle.ones([4])
    assert bool(paddle.isnan(convolve(_block(kernels, 4, 3, norm=norm), x, weight, None, one, one)).all())


def test_two_runs_have_the_same_bits(kernels):
    from paddlefcn.accelerator.operators import Norm, convolve

    def once(channels, kernel, size):
        norm = Norm(paddle.zeros([32]), paddle.ones([32]), 1e-5, 0.9, True)
        x, weight = _random(2, channels, size, size), _random(32, channels, kernel, kernel, seed=1)
        one = paddle.ones([32])
        result = convolve(_block(kernels, 32, kernel, norm=norm), x, weight, None, one, one)
        return [value.numpy().tobytes() for value in (result, *paddle.grad((result**2).sum(), [x, weight]))]

    for numbers in ((3, 3, 20), (16, 3, 40), (16, 7, 20)):
        assert once(*numbers) == once(*numbers)


def test_bfloat16_stays_near_float32(kernels):
    if not kernels.says("fcn_bfloat_is_fast"):
        pytest.skip("this processor has no bfloat16 arithmetic")
    rng = np.random.default_rng(1)
    for numbers in [(16, 32, 3, 1, 1, 1, 1), (64, 64, 7, 1, 3, 1, 1), (1024, 1030, 1, 1, 0, 1, 1)]:
        for kind in ("plain", "bias", "norm"):
            error = checks.convolution_error(kernels, numbers, kind, True, rng)
            assert 1e-5 < error < checks.TOLERANCE_BF16  # it is not float32 either
