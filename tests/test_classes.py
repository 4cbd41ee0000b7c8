"""Classes and preprocessing as values: what they hold, what they refuse, there and back as YAML."""

import pytest

from paddlefcn.classes import Classes
from paddlefcn.data.images import Normalize, Resize
from paddlefcn.preprocess import Preprocess


def test_classes_without_colours_have_vocs():
    assert Classes(("a", "b")).palette == ((0, 0, 0), (128, 0, 0))


def test_an_id_is_called_by_its_class_or_void_or_its_number():
    classes = Classes(("sky", "road"))
    assert [classes.name(index) for index in (1, 255, 7)] == ["road", "void", "class 7"]


def test_classes_and_preprocessing_are_equal_again_after_yaml():
    classes = Classes(("a", "背景"), ((1, 2, 3), (4, 5, 6)), 99)
    assert Classes.from_dict(classes.to_dict()) == classes
    steps = Preprocess((Resize(short=48), Resize(multiple_of=8)), Normalize(255, (0.5,), (0.2,)))
    assert Preprocess.from_dict(steps.to_dict()) == steps
    assert steps.output_size(100, 50) == (96, 48)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((),), "got none"),
        ((("a", "b"), ((0, 0, 0),)), "1 colours for 2 classes"),
        ((("a",), ((0, 0, 256),)), "0 to 255"),
    ],
)
def test_classes_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Classes(*arguments)
