"""Networks on the kernels and off them again."""

from __future__ import annotations

import copy

import numpy as np
import paddle
import pytest
from networks import build_model, noise, woken
from paddle import nn

from paddlefcn import VGG, FCN8s
from paddlefcn.errors import UserError
from paddlefcn.layers import ConvBNReLU, Upsample
from paddlefcn.models import MODELS


def _network(**options):
    paddle.seed(3)
    backbone = VGG([1, 1, 2, 1, 1], width=8, **options)
    return FCN8s(backbone, num_classes=5, fc_channels=32, fc6_kernel=3, dropout=0.0)


def _step(network, image):
    """Output, loss gradient and running statistics after one pass in training mode."""
    network.train()
    output = network(image)[0]
    (output**2).mean().backward()
    gradients = {
        name: value.grad.numpy() for name, value in network.named_parameters() if value.grad is not None
    }
    network.clear_gradients()
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    return output.numpy(), gradients, state


@pytest.fixture
def image():
    return paddle.to_tensor(np.random.default_rng(0).standard_normal((2, 3, 45, 37)).astype("float32"))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_network_computes_the_same_on_the_kernels(kernels, image, batch_norm):
    from paddlefcn.accelerator.patching import put_under

    plain, fast = _network(batch_norm=batch_norm), _network(batch_norm=batch_norm)
    names = list(fast.state_dict())
    assert put_under(fast, kernels) == 11
    assert list(fast.state_dict()) == names
    wanted, found = _step(plain, image), _step(fast, image)
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-4)
    for right, values in zip(wanted[1:], found[1:]):
        assert set(values) == set(right)
        for name, value in right.items():
            np.testing.assert_allclose(
                values[name], value, atol=1e-4 * max(1, abs(value).max()), err_msg=name
            )
    plain.eval(), fast.eval()
    with paddle.no_grad():
        np.testing.assert_allclose(fast(image)[0].numpy(), plain(image)[0].numpy(), atol=1e-4)


def test_off_again_it_has_the_bits_of_before(kernels, image):
    from paddlefcn.accelerator.patching import put_under, take_out

    plain, fast = _network(), _network()
    put_under(fast, kernels)
    take_out(fast)
    for right, found in zip(_step(plain, image), _step(fast, image)):
        np.testing.assert_equal(found, right)


def test_a_deep_copy_runs_on_its_own_parameters(kernels, image):
    from paddlefcn.accelerator.patching import put_under

    network = _network()
    put_under(network, kernels)
    network.eval()
    twin = copy.deepcopy(network)
    before = network(image)[0].numpy()
    for value in twin.parameters():
        value.set_value(paddle.zeros_like(value))
    np.testing.assert_array_equal(network(image)[0].numpy(), before)
    assert not twin(image)[0].numpy().any()


def test_layers_that_the_kernels_do_not_cover_run_as_ever(kernels):
    from paddlefcn.accelerator.patching import put_under

    odd = [
        nn.Conv2D(4, 4, 3, padding="SAME"),
        nn.Conv2D(4, 4, 3, padding_mode="reflect", padding=1),
        nn.Conv2D(4, 4, 3, padding=1, data_format="NHWC"),
        nn.Conv2DTranspose(4, 4, 3, padding="SAME"),
    ]
    assert [put_under(layer, kernels) for layer in odd] == [0, 0, 0, 0]
    block = ConvBNReLU(4, 4)
    assert put_under(block, kernels) == 1
    doubled = paddle.randn([1, 4, 8, 8], dtype="float64")
    with pytest.raises(Exception, match=r"(?s)float64|double|dtype"):
        block(doubled)  # Paddle's own complaint, as without


def test_paddings_of_each_side_are_kept_apart(kernels):
    from paddlefcn.accelerator.patching import put_under

    layer = nn.Conv2D(3, 4, (3, 5), padding=[1, 0, 3, 2], stride=(2, 1))
    x = paddle.randn([1, 3, 12, 11])
    wanted = layer(x).numpy()
    assert put_under(layer, kernels) == 1
    np.testing.assert_allclose(layer(x).numpy(), wanted, atol=1e-5)


def test_transposed_convolutions_are_covered(kernels):
    from paddlefcn.accelerator.patching import put_under

    x = paddle.randn([2, 6, 7, 9])
    for layer in (
        nn.Conv2DTranspose(6, 4, (3, 2), stride=(2, 1), padding=[1, 0], output_padding=[1, 0]),
        Upsample(6, 4, mode="transposed"),
        Upsample(6, 2, mode="transposed", dense=True, padded=False),
    ):
        wanted = layer(x).numpy()
        assert put_under(layer, kernels) == 1
        np.testing.assert_allclose(layer(x).numpy(), wanted, atol=1e-5)


def test_a_window_of_an_upsampled_map_comes_from_the_kernels_too(kernels, monkeypatch):
    from paddlefcn.accelerator.patching import put_under

    x, like = paddle.randn([1, 6, 7, 9]), paddle.zeros([1, 3, 27, 33])
    layer = Upsample(6, 4, mode="transposed")
    wanted = layer(x, like).numpy()
    put_under(layer, kernels)
    monkeypatch.setattr(Upsample, "forward", None)  # not asked
    found = layer(x, like)
    assert found.shape == [1, 6, 27, 33]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


def test_a_size_asked_of_a_transposed_convolution_is_given(kernels):
    from paddlefcn.accelerator.patching import put_under

    layer, x = nn.Conv2DTranspose(3, 3, 2, stride=2), paddle.randn([1, 3, 4, 4])
    put_under(layer, kernels)
    assert layer(x, output_size=[9, 9]).shape == [1, 3, 9, 9]


def test_a_network_trains_to_the_same_loss(kernels, image):
    from paddlefcn.accelerator.patching import put_under

    losses = []
    for fast in (False, True):
        network = _network()
        if fast:
            put_under(network, kernels)
        optimizer = paddle.optimizer.Momentum(0.05, parameters=network.parameters())
        network.train()
        label = (image[:, 0] > 0).astype("int64")
        for _ in range(4):
            loss = nn.functional.cross_entropy(network(image)[0], label, axis=1)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
        losses.append(float(loss))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


QUICK = ("FCN8s", "PublishedFCN8s", "UNet", "DeepLabV3Plus", "SegNet")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_every_model_has_the_same_results_and_gradients(kernels, name):
    from paddlefcn.accelerator.patching import put_under

    def run(fast):
        model = woken(build_model(name))
        for layer in model.sublayers():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        if fast:
            assert put_under(model, kernels) > 5
        model.train()
        outputs = model(noise(2, 3, 53, 70))
        sum((x * noise(*x.shape, seed=1)).sum() for x in outputs).backward()
        gradients = {key: p.grad.numpy() for key, p in model.named_parameters() if not p.stop_gradient}
        state = {key: value.numpy() for key, value in model.state_dict().items()}
        return {str(i): x.numpy() for i, x in enumerate(outputs)} | state, gradients

    (wanted, slopes), (found, fast_slopes) = run(False), run(True)
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, atol=1e-4 * max(1, abs(value).max()), err_msg=key)
    # some are zero but for rounding (a shift before BatchNorm): small is what is small beside the others
    usual = np.median([abs(value).max() for value in slopes.values()])
    for key, value in slopes.items():
        tolerance = 2e-4 * max(usual, abs(value).max())
        np.testing.assert_allclose(fast_slopes[key], value, rtol=0, atol=tolerance, err_msg=key)


def test_batch_norm_over_a_single_value_is_refused_as_without(kernels):
    from paddlefcn.accelerator.patching import put_under

    block = ConvBNReLU(3, 4)
    put_under(block, kernels)
    with pytest.raises(UserError, match="a single value a channel"):
        block(noise(1, 3, 1, 1))


@pytest.mark.parametrize("use_global_stats", [None, True, False])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_decides_on_its_statistics_as_paddle_does(kernels, use_global_stats, training):
    from paddlefcn.accelerator.patching import put_under

    results = []
    for fast in (False, True):
        paddle.seed(1)
        layer = nn.Sequential(nn.Conv2D(3, 4, 3, bias_attr=False), nn.BatchNorm2D(4))
        layer[1]._use_global_stats = use_global_stats
        if fast:
            assert put_under(layer, kernels) == 1
        layer.train() if training else layer.eval()
        results.append([layer(noise(2, 3, 8, 8)), layer[1]._mean, layer[1]._variance])
    for wanted, found in zip(*results):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), atol=1e-5)
