"""Evaluation: at the label's own size, modes put back, loss, workers."""

import dataclasses

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlefcn.data.datasets import Sample, SegmentationDataset
from paddlefcn.data.images import Normalize, Resize
from paddlefcn.data.labels import LabelReader
from paddlefcn.engine.evaluate import evaluate, predict_label_map
from paddlefcn.errors import DataError
from paddlefcn.inference import MultiScale, SlidingWindow, WholeImage
from paddlefcn.preprocess import Preprocess

NORMALIZE = Normalize(1.0, (0.0,), (1.0,))
PLAIN = Preprocess((), NORMALIZE)


@dataclasses.dataclass
class Given:
    """A data set of arrays: image values are the class ids, so that a network can read them off."""

    pairs: list

    def __post_init__(self):
        self.samples = [Sample(str(index), None, None) for index in range(len(self.pairs))]

    def read_raw(self, index, channels, labels):
        return self.pairs[index]


class ValueNet(nn.Layer):
    """Logits that are highest where the class id equals the pixel's value."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.ids = paddle.arange(num_classes, dtype="float32").reshape([1, num_classes, 1, 1])
        self.norm = nn.BatchNorm2D(1)
        self.norm.eval()  # frozen while the rest trains
        self.drop = nn.Dropout(0.5)

    def forward(self, image):
        assert not self.training
        return [-5 * (image - self.ids) ** 2, image]


def dataset(sizes=((6, 8), (5, 5), (9, 4)), void=True):
    rng = np.random.default_rng(0)
    pairs = []
    for height, width in sizes:
        label = rng.integers(0, 3, (height, width)).astype(np.uint8)
        image = label[:, :, None].copy()
        if void:
            label[0] = 255
        pairs.append((image, label))
    return SegmentationDataset(Given(pairs), LabelReader(3), 1)


def test_a_network_that_reads_the_truth_off_the_image_scores_one():
    result = evaluate(ValueNet(), dataset(), preprocess=PLAIN, class_names=["a", "b", "c"])
    assert result.scores.mean_iou == 1
    assert result.scores.images == 3
    assert result.matrix.matrix.sum() == 5 * 8 + 4 * 5 + 8 * 4
    assert result.scores.per_class[2].name == "c"
    assert result.loss is None


def test_every_layers_own_mode_is_put_back_even_after_an_error():
    model = ValueNet()
    model.train()
    model.norm.eval()
    evaluate(model, dataset(), preprocess=PLAIN)
    assert model.training
    assert model.drop.training
    assert not model.norm.training

    def fail(result):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        evaluate(model, dataset(), preprocess=PLAIN, on_image=fail)
    assert model.training


def test_a_resized_image_is_scored_at_the_size_of_its_label():
    label = np.zeros((40, 60), np.uint8)
    label[:, 30:] = 2
    data = SegmentationDataset(Given([(label[:, :, None], label)]), LabelReader(3), 1)
    seen = []
    result = evaluate(
        ValueNet(),
        data,
        preprocess=Preprocess((Resize(short=20),), NORMALIZE),
        loss=lambda logits, label: nn.functional.cross_entropy(logits, label, axis=1),
        on_image=seen.append,
    )
    assert seen[0].pred.shape == (40, 60)
    assert result.matrix.matrix.sum() == 40 * 60
    assert result.scores.pixel_accuracy > 0.95


def test_the_loss_is_the_mean_over_images_whatever_the_inference():
    def loss(logits, label):
        assert logits.shape[2:] == label.shape[1:]
        return nn.functional.cross_entropy(logits, label, axis=1, ignore_index=255)

    data = dataset()
    each = []
    for index in range(3):
        image, label = data.read(index)
        model = ValueNet()
        model.eval()
        logits = model(paddle.to_tensor(NORMALIZE(image)[None]))[0]
        each.append(float(loss(logits, paddle.to_tensor(label[None].astype("int64")))))
    for inference in (WholeImage(), SlidingWindow(4, 3), MultiScale()):
        result = evaluate(ValueNet(), data, preprocess=PLAIN, loss=loss, inference=inference)
        assert result.loss == pytest.approx(sum(each) / 3, rel=1e-4)


def test_progress_and_results_come_in_the_order_of_the_data_set():
    steps, indices = [], []
    evaluate(
        ValueNet(),
        dataset(),
        preprocess=PLAIN,
        progress=lambda done, total: steps.append((done, total)),
        on_image=lambda result: indices.append((result.index, result.sample.name)),
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert indices == [(0, "0"), (1, "1"), (2, "2")]


def test_an_unusable_pair_stops_the_evaluation_or_is_noted_and_left_out():
    data = dataset()
    data.source.pairs[1][1][2, 2] = 77
    with pytest.raises(DataError, match="77"):
        evaluate(ValueNet(), data, preprocess=PLAIN)
    bad = {}
    result = evaluate(ValueNet(), data, preprocess=PLAIN, bad=bad)
    assert list(bad) == ["1"]
    assert result.scores.images == 2


def test_a_label_map_at_another_size_is_decided_after_resizing_the_scores():
    model = ValueNet()
    model.eval()
    image = paddle.to_tensor(np.array([[[[0.0, 2.0]]]], np.float32))
    labels = predict_label_map(model, image, WholeImage(), (2, 8))
    assert labels.tolist() == [[0, 0, 0, 1, 1, 2, 2, 2]] * 2
