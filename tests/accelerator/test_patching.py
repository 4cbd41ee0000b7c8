"""Networks on the kernels and off them again."""

from __future__ import annotations

import copy

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlefcn import VGG, FCN8s
from paddlefcn.layers import ConvBNReLU


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
    assert put_under(fast, kernels) == 12
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
        nn.Conv2DTranspose(4, 4, 3),
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
