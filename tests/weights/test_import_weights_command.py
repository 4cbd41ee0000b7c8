"""`import-weights` as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from paddlefcn.commands import main
from paddlefcn.data.images import Normalize
from paddlefcn.weights import load_into, read_metadata, read_state
from paddlefcn.weights.loading import NORMALIZE_KEY

FIXTURES = Path(__file__).parent / "fixtures"
ROOT = Path(__file__).parents[2]


def start(capsys, *arguments):
    code = main(["import-weights", *map(str, arguments), "--device", "cpu"])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 45, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png", pixels


def test_a_published_network_is_imported_and_verified_on_an_image(tmp_path, picture):
    file, pixels = picture
    out = tmp_path / "sub" / "fcn8s.safetensors"
    command = [
        sys.executable,
        ROOT / "tools" / "import_weights.py",
        "--input",
        FIXTURES / "pytorch_fcn8s.pth",
    ]
    command += ["--format", "pytorch-fcn", "--model", "FCN8s", "--output", out, "--verify", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert "39 loaded" in done.stdout
    assert "order: BGR" in done.stdout
    assert "padding: reference" in done.stdout

    from paddlefcn import VGG16, PublishedFCN8s

    backbone = VGG16(widths=[2, 4, 6, 8, 8], batch_norm=False, padding="reference")
    model = PublishedFCN8s(backbone, num_classes=3, fc_channels=12)
    assert load_into(model, read_state(out), what="import").complete
    model.eval()
    normalize = Normalize(1.0, (104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0), "BGR")
    scores = model(paddle.to_tensor(normalize(pixels)[None]))[0].numpy()[0]
    written = Image.open(out.with_suffix(".png"))
    assert written.mode == "P"
    np.testing.assert_array_equal(np.asarray(written), scores.argmax(0))


def test_a_classifier_is_imported_with_what_is_missing_listed(tmp_path, capsys):
    out = tmp_path / "v.safetensors"
    code, said, _ = start(
        capsys, "--input", FIXTURES / "torchvision_vgg19_bn.pth", "--model", "FCN16s", "--output", out
    )
    assert code == 0
    assert "[12, 392] -> [12, 8, 7, 7]" in said
    assert "score_pool4.weight" in said
    state = read_state(out)
    assert "score_fr.weight" not in state
    assert "backbone.conv5_4.bn._variance" in state
    assert '"mean": [0.485, 0.456, 0.406]' in read_metadata(out)[NORMALIZE_KEY]


def test_the_fc_layers_are_subsampled_on_request(tmp_path, capsys):
    out = tmp_path / "v.safetensors"
    arguments = ["--input", FIXTURES / "caffe_vgg16_v1.caffemodel", "--model", "FCN8s", "--output", out]
    code, said, _ = start(capsys, *arguments, "--fc-channels", 6, "--fc6-kernel", 1)
    assert code == 0
    assert read_state(out)["fc6.conv.weight"].shape == (6, 8, 1, 1)
    assert "fc_channels: 6, fc6_kernel: 1" in said


@pytest.mark.parametrize("model", [(), ("--model", "VGG16")], ids=["no model", "a backbone"])
def test_subsampling_what_a_backbone_does_not_take_is_refused(model, tmp_path, capsys):
    out = tmp_path / "v.safetensors"
    arguments = ["--input", FIXTURES / "torchvision_vgg16.pth", *model, "--output", out]
    code, _, err = start(capsys, *arguments, "--fc-channels", 6)
    assert code == 2
    assert "add --model FCN8s" in err
    assert not out.exists()
    code, said, _ = start(capsys, *arguments)
    assert code == 0
    assert "--model FCN8s takes them too" in said
    assert not any(name.startswith("fc") for name in read_state(out))


def test_bgr_trained_weights_in_torchvision_names_can_be_marked(tmp_path, capsys):
    out = tmp_path / "v.safetensors"
    code, _, _ = start(
        capsys, "--input", FIXTURES / "torchvision_vgg16.pth", "--images", "caffe", "--output", out
    )
    assert code == 0
    assert '"order": "BGR"' in read_metadata(out)[NORMALIZE_KEY]


def test_wrong_calls_are_one_line_and_exit_2(tmp_path, capsys, picture):
    out = tmp_path / "o.safetensors"
    good = FIXTURES / "torchvision_vgg16.pth"
    out.write_bytes(b"precious")
    wrong = {
        ("--input", good, "--output", out): "exists; choose another or --overwrite",
        ("--input", good, "--output", tmp_path / "o.pth"): "must end in .safetensors",
        ("--input", tmp_path / "none.pth", "--output", tmp_path / "p.safetensors"): "no such file",
        ("--input", good, "--output", tmp_path / "p.safetensors", "--model", "FCN9"): "did you mean",
        ("--input", good, "--output", tmp_path / "p.safetensors", "--verify", picture[0]): "no score layers",
        ("--input", picture[0], "--output", tmp_path / "p.safetensors"): str(picture[0]),
    }
    for arguments, message in wrong.items():
        code, _, err = start(capsys, *arguments)
        assert code == 2
        assert err.startswith("error: ")
        assert message in err
        assert err.count("\n") == 1
    assert out.read_bytes() == b"precious"
    assert not (tmp_path / "p.safetensors").exists()
    assert start(capsys, "--input", good, "--output", out, "--overwrite")[0] == 0


def test_a_file_of_this_library_is_not_imported_again(tmp_path, capsys):
    out = tmp_path / "v.safetensors"
    start(capsys, "--input", FIXTURES / "torchvision_vgg16.pth", "--output", out)
    code, _, err = start(capsys, "--input", out, "--output", tmp_path / "w.safetensors")
    assert code == 2
    assert "is this library's own" in err
