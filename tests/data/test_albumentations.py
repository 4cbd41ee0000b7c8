"""A saved pipeline of albumentations: one seed gives one sample, and nothing is built but its classes."""

import itertools

import numpy as np
import pytest
import yaml

from paddlefcn.data.datasets import SegmentationDataset
from paddlefcn.data.images import Normalize
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.loader import TrainLoader
from paddlefcn.data.shapes import Shapes
from paddlefcn.data.transforms import Albumentations
from paddlefcn.errors import DataError

A = pytest.importorskip("albumentations")


@pytest.fixture
def save(tmp_path):
    def save(*steps):
        path = tmp_path / "aug.yaml"
        A.save(A.Compose(list(steps)), path, data_format="yaml")
        return str(path)

    return save


def pair(dtype=np.uint8, channels=3):
    label = np.zeros((60, 50), dtype)
    label[10:40, 15:40], label[30:55, 5:20] = 1, 2
    return np.repeat((label * 100).astype(np.uint8)[:, :, None], channels, axis=2), label


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_image_and_mask_move_together_and_the_seed_decides(save, dtype):
    transform = Albumentations(save(A.HorizontalFlip(p=0.5), A.Affine(rotate=(-40, 40), fill_mask=255, p=1)))
    image, label = pair(dtype)
    results = [transform(image, label, np.random.default_rng(seed)) for seed in (1, 2, 1)]
    for out, ids in results:
        assert out.shape == image.shape
        assert ids.dtype == dtype
        known = ids != 255
        assert (np.rint(out[:, :, 0] / 100)[known] == ids[known]).mean() > 0.93
    assert (results[0][1] != results[1][1]).any()
    np.testing.assert_array_equal(results[0][0], results[2][0])
    np.testing.assert_array_equal(results[0][1], results[2][1])


def test_workers_and_start_change_nothing(save):
    file = save(A.RandomCrop(24, 24), A.GaussNoise(p=1), A.OneOf([A.Blur(p=1), A.CLAHE(p=1)], p=0.5))
    dataset = SegmentationDataset(Shapes(size=[32, 32], train_images=5), LabelReader(6), 3)

    def images(num_workers, start, count):
        loader = TrainLoader(
            dataset,
            [Albumentations(file)],
            Normalize(255, (0.5,) * 3, (0.25,) * 3),
            batch_size=2,
            num_workers=num_workers,
        )
        stream = loader.batches(start)
        taken = [batch.image for batch in itertools.islice(stream, count)]
        stream.close()
        return taken

    expected = images(0, 0, 4)
    np.testing.assert_array_equal(images(1, 0, 4), expected)
    np.testing.assert_array_equal(images(0, 2, 2), expected[2:])


def test_a_single_transform_and_grey_pictures_work(tmp_path):
    A.save(A.VerticalFlip(p=1), tmp_path / "one.yaml", data_format="yaml")
    image, label = pair(channels=1)
    out, ids = Albumentations(str(tmp_path / "one.yaml"))(image, label, np.random.default_rng(0))
    np.testing.assert_array_equal(out, image[::-1])
    np.testing.assert_array_equal(ids, label[::-1])


class Stranger(A.ImageOnlyTransform):
    built = 0

    def __init__(self, p=0.5):
        Stranger.built += 1
        super().__init__(p=p)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "not valid YAML"),
        ("[1, 2]", "holds no pipeline"),
        ("transform: {p: 1}", "None is no class of albumentations"),
        ("transform: {__class_fullname__: os.system}", "'os.system' is no class"),
        ("transform: {__class_fullname__: [1]}", "is no class"),
        ("transform: {__class_fullname__: STRANGER, p: 1}", "is no class"),
        (
            "transform: {__class_fullname__: Compose, transforms: [{__class_fullname__: Nothing}]}",
            "'Nothing' is no",
        ),
        ("transform: {__class_fullname__: Compose, transforms: [5]}", "None is no class"),
        ("transform: {__class_fullname__: Compose, transforms: 5}", "None is no class"),
        ("transform: {__class_fullname__: Blur, p: 7}", "less than or equal to 1"),
        ("transform: {__class_fullname__: Blur, p: 1, blur: 3}", "not valid for transform"),
        ("transform: !!python/object/apply:os.system [ls]", "not valid YAML|not usable YAML"),
    ],
)
def test_what_is_wrong_with_the_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "aug.yaml"
    path.write_text(content.replace("STRANGER", f"{Stranger.__module__}.Stranger"))
    with pytest.raises(ValueError, match=message) as caught:
        Albumentations(str(path))
    assert str(caught.value).startswith(f"Albumentations file {path}")
    assert "\n" not in str(caught.value)
    assert Stranger.built == 0


def test_a_missing_file_and_what_a_pipeline_must_not_do(save):
    with pytest.raises(ValueError, match=r"Albumentations file nowhere\.yaml: No such file"):
        Albumentations("nowhere.yaml")
    image, label = pair()
    with pytest.raises(DataError, match="takes 8-bit images, got float32"):
        Albumentations(save(A.HorizontalFlip()))(image.astype(np.float32), label, np.random.default_rng(0))
    with pytest.raises(DataError, match="leave Normalize and ToTensor out"):
        Albumentations(save(A.Normalize()))(image, label, np.random.default_rng(0))


def test_the_file_is_plain_yaml(save):
    with open(save(A.HorizontalFlip()), encoding="utf-8") as file:
        assert yaml.safe_load(file)["transform"]["__class_fullname__"] == "Compose"
