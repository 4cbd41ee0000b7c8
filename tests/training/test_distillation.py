"""Distillation: the distances by hand, and runs that learn from a network or from an export."""

from __future__ import annotations

import json

import numpy as np
import paddle
import pytest

import paddlefcn
from paddlefcn.commands import main
from paddlefcn.config import load_config
from paddlefcn.engine.distillation import Distillation

RNG = np.random.default_rng(0)


def test_answers_are_the_divergence_at_the_temperature():
    logits, wanted = RNG.normal(size=(2, 2, 3, 4, 5))
    p, q = (np.exp(x / 2) / np.exp(x / 2).sum(1, keepdims=True) for x in (wanted, logits))
    expected = 4 * (p * np.log(p / q)).sum(1).mean()
    found = Distillation(None, temperature=2.0).answers(paddle.to_tensor(logits), paddle.to_tensor(wanted))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_a_batch_counts_by_its_part_of_the_step():
    image, logits = paddle.zeros([2, 3, 4, 4]), paddle.to_tensor(RNG.normal(size=(2, 3, 4, 4)), "float32")
    guide = Distillation(lambda image: paddle.zeros([2, 3, 4, 4]), weight=0.5)
    alone = guide(paddle.ones([]), image, [logits], 2).item() - 1
    assert guide(paddle.ones([]), image, [logits], 8).item() == pytest.approx(1 + alone / 4, rel=1e-5)
    assert alone == pytest.approx(0.5 * guide.answers(logits, paddle.zeros_like(logits)).item(), rel=1e-5)


class _Maps(paddle.nn.Layer):
    def forward(self, image):
        return [image, image[:, :2, ::2, ::2]]


def test_attention_compares_maps_of_one_size_whatever_their_channels():
    student, teacher = _Maps(), _Maps()
    teacher.eval()
    guide = Distillation(None, features=1.0, student_backbone=student, teacher_backbone=teacher)
    maps = [RNG.normal(size=(2, channels, 4, 4)).astype("float32") for channels in (3, 5)]
    x = paddle.to_tensor(maps[0], stop_gradient=False)
    student(x)
    teacher(paddle.to_tensor(maps[1]))
    values = []
    for select in (lambda m: m, lambda m: m[:, :2, ::2, ::2]):
        a, b = ((select(m) ** 2).mean(1).reshape(2, -1) for m in maps)
        a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
        values.append(((a - b) ** 2).sum(1).mean())
    distance = guide.attention()
    assert distance.item() == pytest.approx(np.mean(values), rel=1e-5)
    distance.backward()
    assert np.abs(x.grad.numpy()).sum() > 0


def _losses(run):
    return [json.loads(line).get("loss") for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_student_learns_from_a_network_and_from_its_export_alike(tiny, tmp_path, capsys):
    teacher, exported = tmp_path / "teacher", tmp_path / "exported"
    base = ("train.iters=4", "model.dropout=0.0")
    assert main(["train", *tiny(*base, f"train.save_dir={teacher}")]) == 0
    command = ["export", "-c", str(teacher / "config.yml"), "--weights", str(teacher)]
    assert main([*command, "--output", str(exported)]) == 0
    by_config = f"{{config: {teacher / 'config.yml'}, weights: {teacher}}}"
    sources = {"network": by_config, "export": f"{{export: {exported}}}", "none": "null"}
    losses = {}
    for name, source in sources.items():
        options = (f"distillation={source}", f"train.save_dir={tmp_path / name}", "train.accumulate=2")
        assert main(["train", *tiny(*base, *options)]) == 0
        losses[name] = _losses(tmp_path / name)
    for a, b in zip(losses["network"], losses["export"]):
        assert a is b is None or a == pytest.approx(b, rel=1e-3)
    assert losses["network"][0] > losses["none"][0]
    capsys.readouterr()
    with_features = f"distillation={by_config[:-1]}, features: 10.0}}"
    options = tiny(*base, with_features, f"train.save_dir={tmp_path / 'features'}")
    assert main(["train", *options]) == 0
    assert f"distillation from {teacher} (" in capsys.readouterr().out
    assert _losses(tmp_path / "features")[0] != losses["network"][0]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{config: x.yml}", "distillation: expected config and weights of a teacher, or its export"),
        ("{export: x, features: 1.0}", "distillation: features needs a teacher by config and weights"),
        ("{export: x, temperature: 0}", "distillation.temperature: expected 0.01 to 1000"),
        ("{export: nowhere}", "nowhere"),
        ("{export: x, teacher: y}", "distillation: unknown key 'teacher'"),
    ],
)
def test_wrong_sections_are_one_line(tiny, tmp_path, capsys, section, message):
    assert main(["train", *tiny(f"distillation={section}")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_narrow_student_gains_by_its_teacher_over_three_seeds(tmp_path):
    def score(name, *options):
        config = load_config("configs/quickstart.yml", [f"train.save_dir={tmp_path / name}", *options])
        return paddlefcn.train(config).scores["mean_iou"]

    assert score("teacher", "runtime.cpu_accelerator=auto") > 0.95
    narrow = "model.backbone={type: VGG, arch: [1, 1, 1, 1, 1], width: 2}"
    student = [narrow, "model.fc_channels=32", "model.dropout=0.0", "train.iters=250", "train.eval_iters=250"]
    taught = f"distillation={{config: {tmp_path}/teacher/config.yml, weights: {tmp_path}/teacher}}"
    alone = [score(f"alone_{seed}", *student, f"train.seed={seed}") for seed in range(3)]
    helped = [score(f"taught_{seed}", *student, taught, f"train.seed={seed}") for seed in range(3)]
    assert np.mean(helped) > np.mean(alone) + 0.05, (alone, helped)
