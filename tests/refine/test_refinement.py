"""From scores to class ids: what each option changes, and in which order."""

import struct

import numpy as np
import pytest

from paddlefcn.data.georeference import Georeference
from paddlefcn.data.images import Normalize
from paddlefcn.errors import ConfigError, DataError, UserError
from paddlefcn.label_maps import label_map, softmax
from paddlefcn.refine.crf import DenseCRF
from paddlefcn.refine.map_units import MapTransform
from paddlefcn.refine.refinement import Refinement, softened
from paddlefcn.refine.settings import Area, CrfSettings, RefineOptions, RefineSettings


def scene(seed=0, size=(20, 26), classes=3):
    rng = np.random.default_rng(seed)
    image = np.kron(rng.integers(0, 256, (4, 5, 3)), np.ones((5, 6, 1)))[: size[0], : size[1]].astype(
        np.uint8
    )
    return image, rng.normal(size=(classes, *size)).astype(np.float32) * 2


def test_without_options_the_labels_are_those_of_the_highest_score():
    image, scores = scene()
    refined = Refinement()(image, scores, gives="logits")
    assert (refined.labels == label_map(scores)).all()
    assert refined.probabilities is None
    assert not RefineOptions().active


def test_scores_of_a_smaller_size_are_enlarged_before_anything_is_decided():
    image, scores = scene()
    small = scores[:, ::2, ::2]
    refined = Refinement(options=RefineOptions(confidence=True))(image, small, gives="logits")
    assert (refined.labels == label_map(small, (20, 26))).all()
    assert refined.probabilities.sum(axis=0) == pytest.approx(np.ones((20, 26)), abs=1e-5)


def test_the_crf_runs_on_the_probabilities_at_the_recipes_temperature():
    image, scores = scene()
    settings = RefineSettings(temperature=2.0, crf=CrfSettings(steps=2, bilateral_weight=4))
    refined = Refinement(settings, RefineOptions(crf=True))(image, scores, gives="logits")
    wanted = DenseCRF(settings.crf)(image, softmax(scores / 2))
    assert refined.probabilities == pytest.approx(wanted, abs=1e-5)
    assert (refined.labels == wanted.argmax(axis=0)).all()
    assert (refined.labels != label_map(scores)).any()


def test_temperature_of_probabilities_is_that_of_their_logits():
    _, scores = scene()
    soft = softened(scores, 1.7, gives="logits")
    assert softened(softmax(scores), 1.7, gives="probabilities") == pytest.approx(soft, abs=1e-5)
    assert soft == pytest.approx(softmax(scores / 1.7), abs=1e-6)
    assert softened(softmax(scores), 1.0, gives="probabilities") == pytest.approx(softmax(scores))


def test_unsure_pixels_become_the_ignored_id_and_stay_it_when_small_parts_go():
    image, scores = scene()
    refined = Refinement(options=RefineOptions(min_confidence=0.6))(image, scores, gives="logits")
    unsure = softmax(scores).max(axis=0) < 0.6
    assert ((refined.labels == 255) == unsure).all()
    both = RefineOptions(min_confidence=0.6, min_area=Area(4))
    assert ((Refinement(options=both)(image, scores, gives="logits").labels == 255) == unsure).all()
    wide = Refinement(options=RefineOptions(min_confidence=0.6), ignore_index=999)(
        image, scores, gives="logits"
    )
    assert ((wide.labels == 999) == unsure).all()


def test_labels_of_a_network_that_gives_no_scores_lose_their_small_parts():
    labels = np.zeros((6, 6), np.uint8)
    labels[2, 2] = 1
    image = np.zeros((6, 6, 3), np.uint8)
    assert not Refinement(options=RefineOptions(min_area=Area(2)))(image, labels, gives="labels").labels.any()


def test_an_area_in_map_units_needs_an_image_with_a_place():
    doubles = {33550: (2.0, 5.0, 0.0), 33922: (0.0,) * 6}
    tags = {code: (12, len(v), struct.pack(f"<{len(v)}d", *v)) for code, v in doubles.items()}
    transform = MapTransform.from_georeference(Georeference(tags))
    assert Area.parse("120u2").pixels(transform) == 12
    assert Area.parse("7.5").pixels(None) == 7.5
    with pytest.raises(DataError, match="has no place on a map"):
        Area.parse("1u2").pixels(None)


@pytest.mark.parametrize("text", ["0", "-3", "3m2", "", "nan", "1e3", "u2"])
def test_areas_that_cannot_be_are_refused_in_one_line(text):
    with pytest.raises(UserError, match=r"--min-area .*: expected a number of pixels above 0"):
        Area.parse(text)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_confidence_outside_0_to_1_is_refused(value):
    with pytest.raises(UserError, match=r"--min-confidence .*: expected 0 to 1"):
        RefineOptions(min_confidence=value)


def test_what_white_is_follows_the_normalisation():
    for scale, mean, white in ((255, 0.5, 255), (65535, 0.5, 65535), (1, 117.0, 255), (1, 0.4, 1)):
        assert Normalize(scale, (0.1, mean), (1.0, 1.0)).white == white


def test_settings_travel_through_a_dict():
    settings = RefineSettings(1.25, CrfSettings(steps=3, color_sigma=7.0))
    assert RefineSettings.from_dict(settings.to_dict()) == settings
    for broken in (
        {"temperature": 0, "crf": settings.crf.to_dict()},
        {"temperature": 1, "crf": {"steps": "x"}},
    ):
        with pytest.raises((ValueError, TypeError)):
            RefineSettings.from_dict(broken)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("refine.temperature=0", "refine.temperature: expected 0.01 to 100, got an integer 0"),
        ("refine.crf.steps=0", "refine.crf.steps: expected 1 to 100, got an integer 0"),
        ("refine.crf.colour_sigma=3", "unknown key 'colour_sigma'; did you mean 'color_sigma'?"),
        ("refine.crf.color_sigma=wide", "refine.crf.color_sigma: expected"),
        ("refine.crf=1", "refine.crf: expected a mapping"),
        ("refine.temprature=2", "did you mean 'temperature'"),
    ],
)
def test_a_recipe_that_cannot_be_right_is_refused_with_the_key(tiny, option, expected):
    from paddlefcn.config import load_config

    _, file, _, *options = tiny(option)
    with pytest.raises(ConfigError) as error:
        load_config(file, options)
    assert expected in str(error.value)


def test_a_recipe_sets_temperature_and_crf(tiny):
    from paddlefcn.config import load_config

    _, file, _, *options = tiny("refine.temperature=1.5", "refine.crf.steps=7")
    refine = load_config(file, options).refine
    assert (refine.temperature, refine.crf.steps, refine.crf.color_sigma) == (1.5, 7, 13.0)
