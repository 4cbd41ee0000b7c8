"""The options of a training: each does what it says, and a resumed run ends in the same bits."""

from __future__ import annotations

import shutil

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlefcn import build
from paddlefcn.commands import main
from paddlefcn.config import load_config
from paddlefcn.data.growth import Growth, Phase
from paddlefcn.data.loader import Batch
from paddlefcn.engine.averaging import StochasticAverage
from paddlefcn.engine.batch_norm import statistics_apart, synchronise, take_statistics_of_first
from paddlefcn.engine.freezing import freeze, training_mode
from paddlefcn.engine.history import ends_early
from paddlefcn.engine.ranks import ALONE, Ranks
from paddlefcn.engine.recompute import recompute_blocks
from paddlefcn.engine.step import TrainStep
from paddlefcn.losses import CrossEntropy, LossEntry, WeightedLosses
from paddlefcn.optim import OPTIMIZERS, Groups


def _net():
    paddle.seed(3)
    return nn.Sequential(
        nn.Conv2D(3, 4, 3, padding=1), nn.BatchNorm2D(4), nn.ReLU(), nn.Dropout(0.0), nn.Conv2D(4, 5, 1)
    )


class _Outputs(nn.Layer):
    """A network as the library has them: a list of logits, on a backbone."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, image):
        return [self.backbone(image)]


def _batch(n=4, void=None, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 5, (n, 8, 8))
    for index in range(n if void else 0):
        label[index, : void[index]] = 255
    return Batch(rng.standard_normal((n, 3, 8, 8)).astype("float32"), label, [f"{i}" for i in range(n)])


def _part(batch, where):
    return Batch(batch.image[where], batch.label[where], batch.names[where])


def _stepped(batches, *, accumulate=1, clip=None, entries=None, rate=0.1):
    model = _Outputs(_net())
    freeze(model, batch_norm=True)  # statistics of four images are not those of two
    training_mode(model)
    optimizer = OPTIMIZERS["SGD"](model, Groups(), clip_norm=clip)
    losses = WeightedLosses(entries or [LossEntry(CrossEntropy(class_weights=[1.0, 2.0, 0.5, 1.0, 3.0]))])
    result = TrainStep(model, losses, optimizer, accumulate=accumulate)(batches, rate)
    return result.loss, {name: value.numpy() for name, value in model.state_dict().items()}


def test_accumulated_parts_with_uneven_void_take_the_step_of_one_batch():
    batch = _batch(void=[0, 8, 7, 3])  # the second image is void alone
    loss, weights = _stepped([batch])
    for parts in ([slice(0, 2), slice(2, 4)], [slice(0, 1), slice(1, 2), slice(2, 4)]):
        parted_loss, parted = _stepped([_part(batch, part) for part in parts], accumulate=len(parts))
        assert parted_loss == pytest.approx(loss, rel=1e-5)
        for name, value in weights.items():
            np.testing.assert_allclose(parted[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_gradients_are_clipped_by_their_common_norm():
    before = {name: value.numpy() for name, value in _Outputs(_net()).state_dict().items()}
    moved = []
    for clip in (None, 0.01):
        _, after = _stepped([_batch()], clip=clip, rate=1.0)
        moved.append(np.sqrt(sum(((after[name] - before[name]) ** 2).sum() for name in before)))
    assert moved[0] > 0.05
    assert moved[1] == pytest.approx(0.01, rel=1e-3)


def test_frozen_layers_and_batch_norms_stay_as_they_are():
    model = _Outputs(_net())
    assert freeze(model, ["backbone.0"], batch_norm=True) == 4 * 3 * 9 + 4 + 8
    training_mode(model)
    assert model.training
    assert not model.backbone[1].training
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    optimizer = OPTIMIZERS["Momentum"](model, Groups())
    TrainStep(model, WeightedLosses([LossEntry(CrossEntropy())]), optimizer)([_batch()], 0.1)
    changed = {name for name, value in model.state_dict().items() if (value.numpy() != before[name]).any()}
    assert changed == {"backbone.4.weight", "backbone.4.bias"}


def test_freezing_takes_names_with_stars_and_refuses_those_that_fit_nothing():
    assert freeze(_Outputs(_net()), ["*.bias"]) == 4 + 4 + 5
    with pytest.raises(
        ValueError, match=r"freeze: no layer or parameter 'backbon.0'; did you mean 'backbone.0'"
    ):
        freeze(_Outputs(_net()), ["backbon.0"])
    with pytest.raises(ValueError, match="leaves nothing to train"):
        freeze(_Outputs(_net()), ["backbone"])


def test_recomputation_changes_no_bit():
    ends = []
    for again in (False, True):
        paddle.seed(5)
        blocks = [
            nn.Sequential(nn.Conv2D(c, 4, 3, padding=1), nn.BatchNorm2D(4), nn.ReLU()) for c in (3, 4, 4)
        ]
        backbone = nn.Sequential(*[_Block(block) for block in blocks], nn.Conv2D(4, 5, 1))
        model = _Outputs(backbone)
        assert not again or recompute_blocks(backbone) == 4
        optimizer = OPTIMIZERS["Momentum"](model, Groups())
        step = TrainStep(model, WeightedLosses([LossEntry(CrossEntropy())]), optimizer)
        for seed in range(3):
            paddle.seed(seed)
            step([_batch(seed=seed)], 0.1)
        ends.append(model.state_dict())
        if again:
            assert backbone[1].calls > 3  # it did compute again
    for name, value in ends[0].items():
        np.testing.assert_array_equal(value.numpy(), ends[1][name].numpy(), err_msg=name)


class _Block(nn.Layer):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.dropout, self.calls = inner, nn.Dropout(0.3), 0

    def forward(self, x):
        self.calls += 1
        return self.dropout(self.inner(x))


def test_stochastic_averaging_is_the_mean_of_the_weights_with_measured_statistics():
    model, batches = _Outputs(_net()), [_batch(seed=1), _batch(seed=2)]
    average = StochasticAverage(model, 2, 2, lambda: (batch for batch in batches), len(batches))
    weights = []
    for step in range(1, 7):
        for value in model.parameters():
            if not value.stop_gradient:
                value.set_value(value + step)
        weights.append(model.backbone[0].weight.numpy())
        average.update(step)
        assert (average.arrays() is None) == (step < 2)
    raw = {name: value.numpy() for name, value in model.state_dict().items()}
    arrays = average.arrays()
    np.testing.assert_allclose(arrays["backbone.0.weight"], np.mean(weights[1::2], axis=0), rtol=1e-5)
    with average.applied():
        inside = [model.backbone[0](paddle.to_tensor(batch.image)).numpy() for batch in batches]
        np.testing.assert_allclose(
            arrays["backbone.1._mean"], np.mean([x.mean((0, 2, 3)) for x in inside], axis=0), rtol=1e-4
        )
        np.testing.assert_allclose(
            arrays["backbone.1._variance"], np.mean([x.var((0, 2, 3)) for x in inside], axis=0), rtol=1e-4
        )
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), raw[name])


def test_a_run_ends_early_when_the_scores_stand_still():
    scores = [(i, value) for i, value in enumerate([0.1, 0.3, 0.2, None, 0.3])]
    assert ends_early(scores, 3)
    assert not ends_early(scores, 4)
    assert not ends_early(scores[:4], 3)
    assert not ends_early([(0, None), (1, 0.1)], 1)
    assert not ends_early(scores, None)


def test_growth_counts_every_sample_once():
    growth = Growth(4, (Phase(2, 0.5), Phase(3, 0.8, batch_size=5)), accumulate=2, start=1)
    batches = [growth(number) for number in range(12)]
    assert [size for _, size, _ in batches] == [4, 4, 16, 16, 16, 16, 5, 5, 4, 4, 4, 4]
    assert [scale for *_, scale in batches] == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.8, 0.8, 1, 1, 1, 1]
    firsts = np.cumsum([0, *(size for _, size, _ in batches)])
    assert [first for first, *_ in batches] == firsts[:-1].tolist()
    assert growth.full_size_from == 8


def test_batches_grow_as_planned(tiny):
    options = tiny()[3:]
    config = load_config(
        tiny()[1], [*options, "train.sizes=[{until: 1, scale: 0.5}, {until: 2, scale: 0.75}]"]
    )
    dataset = build.build_dataset(config, "train")
    batches = build.build_loader(config, dataset).batches()
    shapes = [next(batches) for _ in range(3)]
    assert [batch.image.shape for batch in shapes] == [(8, 3, 16, 16), (4, 3, 24, 24), (2, 3, 32, 32)]
    assert [batch.label.shape for batch in shapes] == [(8, 16, 16), (4, 24, 24), (2, 32, 32)]
    assert set(np.unique(shapes[0].label)) <= {*range(6), 255}
    assert len({*shapes[0].names}) == 8
    batches.close()


EVERYTHING = (
    "loss=[{type: CrossEntropy, label_smoothing: 0.1, class_weights: {from: data, rule: log}}, "
    "{type: Dice, weights: [0.5]}, {type: Lovasz, weights: [0.5]}]",
    "optimizer={type: Momentum, weight_decay: 1e-4, clip_norm: 1.0}",
    "schedule={type: ReduceOnPlateau, learning_rate: 0.05, patience: 0, warmup_iters: 2}",
    "train.accumulate=2",
    "train.precision=bf16",
    "train.recompute=true",
    "train.early_stop=20",
    "train.freeze=[backbone.conv1_1]",
    "train.sizes=[{until: 3, scale: 0.5, batch_size: 3}]",
    "train.eval_iters=2",
    "train.save_iters=1",
)


def test_an_average_that_never_begins_is_said(tiny, capsys):
    assert main(["train", *tiny("train.iters=1", "train.swa_start=9")]) == 0
    assert "note: train.swa_start 9 is never reached in 1 iterations: nothing" in capsys.readouterr().out


@pytest.mark.parametrize("average", ["train.ema_decay=0.9", "train.swa_start=3"])
def test_a_run_with_everything_on_resumes_to_the_same_bits(tiny, tmp_path, average, capsys):
    options = tiny(*EVERYTHING, average, "train.keep=9", f"train.save_dir={tmp_path / 'whole'}")
    assert main(["train", *options]) == 0
    assert "train.precision: bf16 is for GPUs; a CPU computes in fp32 here" in capsys.readouterr().out
    for killed in (2, 5):
        parted = tmp_path / f"parted{killed}"
        shutil.copytree(tmp_path / "whole", parted)
        for iteration in range(killed + 1, 9):
            shutil.rmtree(parted / "checkpoints" / f"iter_{iteration}")
        assert main(["train", *options, "--resume", str(parted)]) == 0
        for file in ("metrics.jsonl", "checkpoints/iter_8/model.safetensors", "best/model.safetensors"):
            assert (parted / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_a_run_that_ended_early_is_finished(tiny, tmp_path, capsys):
    options = tiny(
        "schedule={type: Constant, learning_rate: 1e-9}", "train.early_stop=1", "train.eval_iters=2"
    )
    assert main(["train", *options]) == 0
    told = capsys.readouterr().out
    assert "stopped early after iteration 4 of 8: no better mean_iou in 1 evaluations" in told
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert main(["train", *options, "--resume"]) == 0
    assert "is finished (4 of 8 iterations)" in capsys.readouterr().out
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "train.freeze=[backbon]",
            "train: freeze: no layer or parameter 'backbon'; did you mean 'backbone'?",
        ),
        (
            "train.freeze=[nothing]",
            "train: freeze: no layer or parameter 'nothing'; known: backbone, fc6, fc7, dropout, score_fr, ",
        ),
        ("train.sizes=[{until: 3}]", "train.sizes.0: a phase needs 'scale'"),
        ("train.sizes=3", "train.sizes: expected a list, got an integer 3"),
        (
            "train.sizes=[{until: 3, scale: 2.0}]",
            "train.sizes.0: scale 2.0: expected a number above 0, up to 1",
        ),
        ("train.sizes=[3]", "train.sizes.0: expected {until: …, scale: …}, got an integer 3"),
        (
            "train.sizes=[{until: 3, scale: 0.5}, {until: 2, scale: 0.7}]",
            "train.sizes: until [3, 2]: expected rising iterations",
        ),
        ("train.early_stop=0", "train.early_stop: expected 1 to"),
        ("train.precision=fp8", "train.precision: 'fp8' is none of fp32, bf16, fp16"),
        ("train.swa_start=[1]", "train.swa_start: expected an integer or null"),
        ("optimizer.clip_norm=-1", "optimizer: clip_norm -1: expected a number above 0"),
        ("train={iters: 8, ema_decay: 0.9, swa_start: 2}", "ema_decay and swa_start are both given"),
    ],
)
def test_wrong_values_are_one_line_before_anything_is_written(tiny, tmp_path, capsys, option, message):
    assert main(["train", *tiny(option)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_batch_norm_over_ranks_keeps_names_weights_and_what_is_trained(tmp_path, monkeypatch):
    """What a CPU can show: paddle has no kernel for it there, so no step is taken."""
    plain, model = _Outputs(_net()), _Outputs(_net())
    freeze(model, ["backbone.1.bias"])
    before, parameters = model.state_dict(), list(model.parameters())
    assert not statistics_apart(model, ALONE)
    assert statistics_apart(model, Ranks(0, 2))
    synchronise(model, Ranks(0, 2))  # on a CPU nothing changes
    assert isinstance(model.backbone[1], nn.BatchNorm2D)
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    synchronise(model, ALONE)
    assert isinstance(model.backbone[1], nn.BatchNorm2D)
    synchronise(model, Ranks(0, 2))
    assert isinstance(model.backbone[1], nn.SyncBatchNorm)
    assert not statistics_apart(model, Ranks(0, 2))
    after = model.state_dict()
    assert list(after) == list(before)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name].numpy(), value.numpy())
    # the same tensors, so that an optimizer and what is frozen go on with them
    assert {id(value) for value in model.parameters()} == {id(value) for value in parameters}
    assert model.backbone[1].bias.stop_gradient
    assert not model.backbone[1].weight.stop_gradient
    training_mode(model)
    assert model.backbone[1].training
    for value in after.values():
        value.set_value(value + 0.25)
    assert plain.set_state_dict({name: paddle.to_tensor(v.numpy()) for name, v in after.items()}) == ([], [])
    plain.eval()
    image = paddle.to_tensor(_batch().image)
    assert np.isfinite(plain(image)[0].numpy()).all()
    np.testing.assert_array_equal(plain.backbone[1]._mean.numpy(), before["backbone.1._mean"].numpy())


def test_ranks_that_score_together_score_the_network_of_the_first(monkeypatch):
    model = nn.Sequential(nn.Conv2D(2, 3, 1), nn.BatchNorm2D(3))
    weight = model[0].weight.numpy()
    monkeypatch.setattr(Ranks, "gather", lambda self, value: [[one + 2 for one in value], value])
    take_statistics_of_first(model, ALONE)
    np.testing.assert_array_equal(model[1]._mean.numpy(), np.zeros(3))
    take_statistics_of_first(model, Ranks(1, 2))
    np.testing.assert_array_equal(model[1]._mean.numpy(), np.full(3, 2))
    np.testing.assert_array_equal(model[1]._variance.numpy(), np.full(3, 3))
    np.testing.assert_array_equal(model[0].weight.numpy(), weight)
