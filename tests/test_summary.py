"""`summary`: figures worked out by hand, and a table for every shipped recipe."""

from __future__ import annotations

import json

import pytest
from conftest import REPO
from networks import build_model

from paddlefcn.commands import main
from paddlefcn.summary import summarize

RECIPES = sorted(path.name for path in (REPO / "configs").glob("*.yml"))


def test_multiply_adds_and_parameters_are_the_hand_computed_ones():
    model = build_model("UNet", backbone={"type": "UNetEncoder", "widths": [2, 2, 2, 2, 2]}, num_classes=3)
    found = summarize(model, (16, 32), batch_size=4)
    rows = {row.name: row for row in found.rows}
    # 3x3 from 3 to 2 and from 2 to 2 channels, over 512 pixels; BatchNorm has a scale and a shift a channel
    assert rows["backbone.stage1"].gmacs == pytest.approx((27 * 2 + 18 * 2) * 512 / 1e9)
    assert rows["backbone.stage1"].parameters == 27 * 2 + 18 * 2 + 2 * 2 * 2
    assert rows["backbone.stage1"].output == (2, 16, 32)
    # two convolutions and two BatchNorms of 2x512 values, in float32, for four images
    assert rows["backbone.stage1"].megabytes == pytest.approx(4 * 2 * 512 * 4 * 4 / 1e6)
    assert rows["score"].parameters == 2 * 3 + 3
    assert found.parameters == sum(row.parameters for row in found.rows)
    assert (found.layers, found.stride) == (10 + 3 * 4 + 1, 16)


def test_a_transposed_convolution_counts_its_input_cells():
    model = build_model("FCN32s", upsample="transposed", upsample_dense=True)
    (row,) = [row for row in summarize(model, (64, 96)).rows if row.name == "upscore32"]
    assert row.gmacs == pytest.approx(5 * 5 * 64 * 64 * (2 * 3) / 1e9)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        # pool5 of VGG16 sees 212 pixels, the 7x7 fc6 404, and a bilinear pixel two cells 32 apart
        ("FCN32s", {"backbone": {"type": "VGG16", "width": 1}, "fc6_kernel": 7}, 404 + 32),
        ("FCN32s", {"backbone": {"type": "VGG16", "width": 1}, "fc6_kernel": 1}, 212 + 32),
        ("FCNHead", {"backbone": {"type": "ResNet18", "width": 2, "output_stride": 32}}, 435 + 64 + 32),
        ("DeepLabV3", {}, None),
        ("PSPNet", {}, None),
    ],
)
def test_receptive_fields_are_the_known_ones(name, arguments, expected):
    assert summarize(build_model(name, **arguments), (32, 32)).receptive_field == expected


def test_the_command_writes_its_totals(tmp_path, capsys):
    target = tmp_path / "summary.json"
    assert main(["summary", "-c", str(REPO / "configs" / "quickstart.yml"), "--json", str(target)]) == 0
    figures = json.loads(target.read_text())
    assert {"parameters", "backbone_parameters", "gmacs", "layers"} <= set(figures)
    assert figures["parameters"] == 941_986
    assert "receptive field" in capsys.readouterr().out
    recipe = ["summary", "-c", str(REPO / "configs" / "quickstart.yml")]
    assert main([*recipe, "--size", "0", "5"]) == 2
    assert main([*recipe, "--json", str(target), "--size", "64", "64"]) == 2
    assert main([*recipe, "--json", str(target), "--size", "64", "64", "--overwrite"]) == 0
    assert json.loads(target.read_text())["gmacs"] < figures["gmacs"]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_shipped_recipe_is_summed_up(recipe, tmp_path):
    target = tmp_path / "summary.json"
    assert (
        main(["summary", "-c", str(REPO / "configs" / recipe), "--size", "64", "64", "--json", str(target)])
        == 0
    )
    assert json.loads(target.read_text())["gmacs"] > 0
