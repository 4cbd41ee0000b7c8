"""val, predict, export, infer and oracle as a user runs them, on a tiny network and generated data."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from paddlefcn.commands import main

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {
    "data": {
        "type": "Shapes",
        "size": [40, 56],
        "train_images": 2,
        "val_images": 6,
        "classes": ["background", "disk", "square", "triangle", "striped", "点"],
        "normalize": {"scale": 255, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "order": "RGB"},
        "train_transforms": [{"type": "RandomCrop", "size": [24, 32]}],
        "num_workers": 0,
    },
    "model": {
        "type": "FCN8s",
        "backbone": {"type": "VGG", "arch": [1, 1, 1, 1, 1], "width": 8},
        "fc_channels": 16,
        "fc6_kernel": 3,
    },
    "loss": [{"type": "CrossEntropy"}],
    "optimizer": {"type": "Momentum"},
    "schedule": {"type": "Poly", "learning_rate": 0.01},
    "train": {"iters": 1},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A config, random weights, and a folder of images with one that is no image."""
    import paddle

    from paddlefcn.build import build_model
    from paddlefcn.config import load_config
    from paddlefcn.weights import save_state

    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.yml").write_text(yaml.safe_dump(CONFIG, allow_unicode=True), encoding="utf-8")
    paddle.seed(0)
    model = build_model(load_config(folder / "tiny.yml"))
    for name, parameter in model.named_parameters():
        if name.startswith("score"):  # they start from zero, which would predict one class alone
            parameter.set_value(paddle.randn(parameter.shape))
    model.eval()
    with paddle.no_grad():  # the classes are brought to one level, or one of them would win everywhere
        level = model(paddle.randn([1, 3, 64, 64]))[0].mean([0, 2, 3])
    model.score_fr.bias.set_value(model.score_fr.bias - level)
    save_state(model, folder / "net.safetensors")
    rng = np.random.default_rng(0)
    (folder / "in" / "街").mkdir(parents=True)
    for name, size in (("a.png", (33, 47)), ("街/b.jpg", (64, 20)), ("b.png", (1, 9))):
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "in" / name)
    (folder / "in" / "bad.png").write_text("no image")
    return folder


def arguments(command, made, *more):
    base = [command, "-c", str(made / "tiny.yml"), "--weights", str(made / "net.safetensors")]
    return [*base, "--device", "cpu", *(str(item) for item in more)]


def ids(path):
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


@pytest.fixture(scope="module")
def exported(made):
    assert main(arguments("export", made, "--output", made / "exported")) == 0
    return made / "exported"


def test_predict_and_infer_write_the_same_files_with_the_same_class_ids(made, exported, tmp_path, capsys):
    given = ["--input", made / "in", "--output", tmp_path / "predicted", "--figure"]
    assert main(arguments("predict", made, *given)) == 1
    said = capsys.readouterr()
    assert "bad.png" in said.err
    assert "1 of 4 inputs could not be read" in said.err
    infer = ["infer", "--model", exported, "--input", made / "in", "--output", tmp_path / "inferred"]
    assert main([str(item) for item in [*infer, "--figure", "--device", "cpu"]]) == 1
    names = ["a", "b", "街/b"]
    for folder in ("predicted", "inferred"):
        found = {str(p.relative_to(tmp_path / folder)) for p in (tmp_path / folder).rglob("*.*")}
        endings = (".png", "_overlay.png", "_figure.png")
        assert found == {f"{n}{e}" for n in names for e in endings} | {"shares.json", ".paddlefcn.json"}
    for name in names:
        ours, theirs = (ids(tmp_path / folder / f"{name}.png") for folder in ("predicted", "inferred"))
        assert (ours != theirs).sum() <= 1
    assert ids(tmp_path / "predicted" / "街/b.png").shape == (64, 20)


def test_tiles_give_the_class_ids_of_the_whole_image_in_predict_and_in_infer(
    made, exported, tmp_path, capsys
):
    tree = yaml.safe_load((exported / "deploy.yaml").read_text(encoding="utf-8"))
    assert (tree["tiling"]["stride"], tree["tiling"]["exact"]) == (32, True)
    pixels = np.random.default_rng(3).integers(0, 256, (210, 330, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    given = ["--input", str(tmp_path / "large.png"), "--no-overlay", "--device", "cpu", "--output"]
    base = ["infer", "--model", str(exported), *given]
    assert main([*base, str(tmp_path / "whole")]) == 0
    assert main([*base, str(tmp_path / "tiles"), "--tile", "32"]) == 0
    assert main(arguments("predict", made, *given, tmp_path / "predicted", "--tile", "60")) == 0
    whole = ids(tmp_path / "whole" / "large.png")
    assert len(np.unique(whole)) > 1
    for folder in ("tiles", "predicted"):
        assert (ids(tmp_path / folder / "large.png") != whole).sum() <= 7
    assert main([*base, str(tmp_path / "tiles"), "--tile", "32", "--resume"]) == 0
    capsys.readouterr()
    assert main([*base, str(tmp_path / "tiles"), "--tile", "64", "--resume"]) == 2
    assert "another network, or with other options" in capsys.readouterr().err


def test_shares_json_names_every_image_its_shares_and_what_could_not_be_read(made, tmp_path):
    main(arguments("predict", made, "--input", made / "in", "--output", tmp_path / "out"))
    shares = json.loads((tmp_path / "out" / "shares.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in shares["images"]] == ["a", "b", "街/b"]
    assert (shares["images"][0]["height"], shares["images"][0]["width"]) == (33, 47)
    for entry in [shares["images"][0]["shares"], shares["total"]]:
        assert set(entry) == set(CONFIG["data"]["classes"])
        assert sum(entry.values()) == pytest.approx(1)
    labels = ids(tmp_path / "out" / "a.png")
    assert shares["images"][0]["shares"]["点"] == pytest.approx((labels == 5).mean())
    assert len(shares["unreadable"]) == 1


def test_a_single_file_is_predicted_and_the_exit_code_is_0(made, tmp_path, capsys):
    given = ["--input", made / "in" / "a.png", "--output", tmp_path / "out", "--flip", "--sliding", "24"]
    assert main(arguments("predict", made, *given)) == 0
    assert (tmp_path / "out" / "a.png").exists()
    assert "%" in capsys.readouterr().out


def test_two_inputs_of_one_name_are_an_error_before_anything_is_written(made, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("x.png", "x.jpg"):
        Image.new("RGB", (4, 4)).save(folder / name)
    assert main(arguments("predict", made, "--input", folder, "--output", tmp_path / "out")) == 2
    assert "would both write x.png" in capsys.readouterr().err
    (folder / "x.jpg").rename(folder / "x_overlay.jpg")
    assert main(arguments("predict", made, "--input", folder, "--output", tmp_path / "out")) == 2
    assert "would both write x_overlay.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_inputs_survive_overwrite(made, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "in" / "x.png")
    given = ["--input", tmp_path / "in", "--overwrite"]
    for output in (tmp_path / "in", tmp_path):
        assert main(arguments("predict", made, *given, "--output", output)) == 2
        assert "holds the input" in capsys.readouterr().err
    assert (tmp_path / "in" / "x.png").exists()


def test_an_output_inside_the_input_is_not_predicted_again(made, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    given = ["--input", tmp_path, "--output", tmp_path / "out"]
    assert main(arguments("predict", made, *given)) == 0
    assert main(arguments("predict", made, *given)) == 2  # not empty
    assert main(arguments("predict", made, *given, "--overwrite")) == 0
    shares = json.loads((tmp_path / "out" / "shares.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in shares["images"]] == ["x"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--input", "nowhere"], "input nowhere: no such file"),
        (["--input", ".", "--sliding", "8", "9"], "larger than the window"),
        (["--input", ".", "--sliding", "8", "4", "2"], "expected SIZE [STRIDE]"),
        (["--input", ".", "--multi-scale", "0"], "must be numbers of 0.001 to 100"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(made, tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    assert main(arguments("predict", made, *more, "--output", "out")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


def test_infer_says_what_is_wrong_with_a_model_folder(made, tmp_path, capsys):
    given = ["infer", "--model", tmp_path, "--input", made / "in", "--output", tmp_path / "out"]
    assert main([str(item) for item in given]) == 2
    assert "no deploy.yaml" in capsys.readouterr().err


def test_an_export_that_fails_its_parity_check_exits_1_and_leaves_nothing(
    made, tmp_path, monkeypatch, capsys
):
    from paddlefcn.deploy.engines import PaddleEngine

    real = PaddleEngine.__call__
    monkeypatch.setattr(PaddleEngine, "__call__", lambda engine, x: real(engine, x) + 1)
    assert main(arguments("export", made, "--output", tmp_path / "out")) == 1
    assert "failed its parity check" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_val_prints_a_table_and_writes_json_and_the_worst_images(made, tmp_path, capsys):
    given = ["--json", tmp_path / "v.json", "--worst", "2", "--output", tmp_path / "out"]
    assert main(arguments("val", made, *given)) == 0
    said = capsys.readouterr().out
    assert "mean IoU" in said
    assert "most confused" in said
    scores = json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))
    assert scores["images"] == 6
    assert scores["per_class"][5]["name"] == "点"
    assert np.sum(scores["confusion_matrix"]) == sum(row["pixels"] for row in scores["per_class"])
    assert scores["val_loss"] > 0
    worst = sorted(path.name for path in (tmp_path / "out" / "worst").iterdir())
    assert [name[:4] for name in worst] == ["001_", "002_"]
    assert (tmp_path / "out" / "worst.png").exists()
    assert (tmp_path / "out" / "confusion.png").exists()


def test_the_gallery_holds_the_images_that_score_lowest_the_worst_first(made, tmp_path, monkeypatch, capsys):
    from paddlefcn.commands.val import Worst
    from paddlefcn.engine.evaluate import ImageResult

    truth = np.zeros((1, 10), np.uint8)
    worst = Worst(2, 2, 255)
    for index, wrong in enumerate((3, 9, 0, 7, 9)):
        pred = truth.copy()
        pred[0, :wrong] = 1
        worst.look(ImageResult(index, None, pred, truth))
    worst.look(ImageResult(5, None, truth, np.full_like(truth, 255)))  # nothing but void: no score
    assert [entry[0] for entry in worst.ranked()] == [1, 4]
    assert worst.ranked()[0][1] == pytest.approx(0.05)  # (1/10 + 0) / 2
    monkeypatch.chdir(tmp_path)
    assert main(arguments("val", made, "--worst", "1", "--confusion")) == 0
    assert "truth \\ prediction" in capsys.readouterr().out


def test_the_convention_is_used_and_written(made, tmp_path):
    found = {}
    for convention in ("paper", "paddleseg"):
        given = ["--convention", convention, "--json", tmp_path / "v.json", "--overwrite"]
        assert main(arguments("val", made, *given)) == 0
        found[convention] = json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))["convention"]
    assert found == {"paper": "paper", "paddleseg": "paddleseg"}


def test_val_scores_borders_and_records_what_was_scored_with_what(made, tmp_path, capsys):
    given = ["--borders", "--json", tmp_path / "v.json", "--per-image", tmp_path / "v.csv", "--flip"]
    assert main(arguments("val", made, *given)) == 0
    assert "boundary IoU" in capsys.readouterr().out
    found = json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))
    assert found["borders"]["boundary_iou"] > 0
    assert len(found["per_image"]) == found["images"] == 6
    assert np.sum([image["true"] for image in found["per_image"]]) == np.sum(found["confusion_matrix"])
    assert found["weights"]["file"] == str((made / "net.safetensors").resolve())
    assert found["inference"] == {"scales": [1.0], "flip": True, "windows": None}
    assert found["recipe"]["tree"]["model"]["type"] == "FCN8s"
    assert len((tmp_path / "v.csv").read_text(encoding="utf-8").splitlines()) == 7


def test_windows_and_scales_are_scored_by_val(made, tmp_path):
    found = []
    for way in ([], ["--sliding"], ["--multi-scale", "0.5", "1", "--flip"]):
        assert main(arguments("val", made, *way, "--json", tmp_path / "v.json", "--overwrite")) == 0
        found.append(json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))["pixel_accuracy"])
    assert len(set(found)) == 3


def test_the_oracle_prints_a_line_a_stride_and_writes_json_and_a_picture(made, tmp_path, capsys):
    base = ["oracle", "-c", made / "tiny.yml", "--strides", "4", "16", "32"]
    given = [*base, "--json", tmp_path / "o.json", "--output", tmp_path / "out"]
    assert main([str(item) for item in given]) == 0
    said = capsys.readouterr().out
    assert "92.8" in said  # what the paper found at stride 16
    entries = json.loads((tmp_path / "o.json").read_text(encoding="utf-8"))["strides"]
    means = [entry["mean_iou"] for entry in entries]
    assert [entry["stride"] for entry in entries] == [4, 16, 32]
    assert 1 > means[0] > means[1] > means[2] > 0
    assert (tmp_path / "out" / "oracle.png").exists()
    assert main([str(item) for item in [*base[:3], "--strides", "0"]]) == 2


@pytest.mark.parametrize("name", ["val", "predict", "export", "infer", "oracle"])
def test_help_answers_without_paddle_numpy_or_opencv(name):
    code = (
        "import sys\n"
        "from paddlefcn.commands import main\n"
        f"try: main(['{name}', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'paddle', 'numpy', 'cv2', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "usage:" in done.stdout
    assert done.stdout.strip().endswith("[]")


def test_the_tools_run_as_scripts_from_any_folder(made, exported, tmp_path):
    given = ["--model", exported, "--input", made / "in" / "a.png", "--output", tmp_path / "out"]
    command = [sys.executable, ROOT / "tools" / "infer.py", *given, "--no-onednn", "--device", "cpu"]
    done = subprocess.run([str(item) for item in command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "out" / "a_overlay.png").exists()


def test_benchmark_times_an_export(exported, tmp_path, capsys):
    file = tmp_path / "times.json"
    words = ["benchmark", "--model", str(exported), "--size", "20", "24", "--iters", "2", "--warmup", "1"]
    assert main([*words, "--json", str(file), "--device", "cpu"]) == 0
    report = json.loads(file.read_text())
    assert report["input"][2:] == [20, 24]
    assert 0 < report["seconds"]["predict"]["min"] <= report["seconds"]["predict"]["max"]
    assert "predict" in capsys.readouterr().out
    assert main([*words, "-c", "quickstart"]) == 2
    assert "--model times an export alone" in capsys.readouterr().err


def test_a_second_gallery_of_worst_images_never_lands_beside_the_first(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = arguments("val", made, "--worst", "1")
    assert main(words) == 0
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == ["val_tiny"]
    assert main(words) == 2
    assert "is not empty; choose another or --overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == ["val_tiny"]


def test_the_functions_take_plain_keywords(made, tmp_path, monkeypatch):
    from paddlefcn.config import load_config
    from paddlefcn.deploy import reach, writer
    from paddlefcn.deploy.export import export
    from paddlefcn.deploy.predict import predict

    config, weights, image = load_config(made / "tiny.yml"), made / "net.safetensors", made / "in" / "a.png"
    for _ in range(2):
        predict(config, weights, image, tmp_path / "out", overlay=False, figure=False, overwrite=True)
    assert not (tmp_path / "out" / "a_overlay.png").exists()
    asked = {}
    monkeypatch.setattr(reach, "find_tiling", lambda model, channels: None)
    monkeypatch.setattr(writer, "write_export", lambda *given, **more: asked.update(more) or {})
    export(config, weights, tmp_path / "net", outputs="labels", overwrite=True)
    assert (asked["target"].format, asked["target"].outputs) == ("paddle", "labels")
    for call in (partial(predict, config, weights, image), partial(export, config, weights)):
        with pytest.raises(TypeError, match="takes no 'til'; known: "):
            call(tmp_path / "new", til=3)
