"""What is asked of predict, infer and export, as values and as plain keywords."""

from __future__ import annotations

import pytest

from paddlefcn.deploy.options import EngineOptions, Request, Views, Wanted, with_keywords
from paddlefcn.deploy.targets import Scoring, Target
from paddlefcn.refine.settings import RefineOptions


def test_plain_keywords_find_the_value_that_has_them():
    asked = {"tile": 64, "overlay": False, "min_confidence": 0.5, "scales": [0.5, 1], "threads": 2}
    views, request, engine = with_keywords("infer", asked, Views(flip=True), Request(), EngineOptions())
    assert views == Views((0.5, 1), True)
    assert request == Request(Wanted(overlay=False), RefineOptions(min_confidence=0.5), tile=64)
    assert engine == EngineOptions(threads=2)
    options = RefineOptions(crf=True)
    (request,) = with_keywords("predict", {"refine": options, "wanted": None, "confidence": True}, Request())
    assert request == Request(refine=RefineOptions(crf=True, confidence=True))
    assert with_keywords("export", {"outputs": "labels", "split": "test"}, Target(), Scoring()) == [
        Target(outputs="labels"),
        Scoring("test"),
    ]


def test_a_keyword_that_nobody_knows_is_named_with_those_that_are():
    with pytest.raises(TypeError, match=r"export\(\) takes no 'formt'; known: format, max_loss, outputs, "):
        with_keywords("export", {"formt": "onnx"}, Target(), Scoring())
