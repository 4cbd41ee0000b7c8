"""Refinement, polygons, scales and flips in val, predict and infer, on a tiny network."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from test_predict_commands import CONFIG, arguments

from paddlefcn.commands import main
from paddlefcn.data.tiff_writer import TiffWriter

TUNED = {**CONFIG, "refine": {"temperature": 1.5, "crf": {"steps": 2, "bilateral_sigma": 20}}}


def blotches(size, seed=0):
    """Regions of one colour each, with some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (size[0] // 8 + 1, size[1] // 8 + 1, 3))
    regions = np.kron(coarse, np.ones((8, 8, 1), int))[: size[0], : size[1]]
    return (regions + rng.integers(0, 40, (*size, 3))).astype(np.uint8)


def balance(model, image):
    """Biases so that the classes' logits have one mean and some spread: random weights favour one class."""
    import paddle

    model.eval()
    seen = paddle.to_tensor(((image / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None].astype("float32"))
    parameters = {n: p for n, p in model.named_parameters() if n.startswith("score") and p.shape[0] == 6}
    spread = model(seen)[0].std().item()
    for parameter in parameters.values():
        parameter.set_value(parameter * (3 / spread))
    means = model(seen)[0].mean(axis=[0, 2, 3])
    bias = next(p for n, p in parameters.items() if n.endswith("bias"))
    bias.set_value(bias - means)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A config, random weights, images, and an export."""
    import paddle

    from paddlefcn.build import build_model
    from paddlefcn.config import load_config
    from paddlefcn.weights import save_state

    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.yml").write_text(yaml.safe_dump(TUNED, allow_unicode=True), encoding="utf-8")
    paddle.seed(0)
    model = build_model(load_config(folder / "tiny.yml"))
    for name, parameter in model.named_parameters():
        if name.startswith("score"):
            parameter.set_value(paddle.randn(parameter.shape))
    (folder / "in").mkdir()
    for name, size in (("a.png", (33, 47)), ("b.png", (64, 40))):
        Image.fromarray(blotches(size)).save(folder / "in" / name)
    balance(model, blotches((64, 40)))
    save_state(model, folder / "net.safetensors")
    assert main(arguments("export", folder, "--output", folder / "exported")) == 0
    return folder


def run(command, made, output, *more):
    given = [] if command == "val" else ["--input", made / "in", "--output", output]
    if command == "infer":
        words = ["infer", "--model", made / "exported", *given, "--device", "cpu", *more]
        return main([str(word) for word in words])
    return main(arguments(command, made, *given, *more))


def ids(path):
    with Image.open(path) as image:
        return np.asarray(image)


WAYS = [
    ["--crf"],
    ["--min-area", "30"],
    ["--min-confidence", "0.5"],
    ["--multi-scale", "0.5", "1.25", "--flip"],
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
def test_predict_and_infer_refine_alike_and_not_as_without(made, tmp_path, way):
    assert run("predict", made, tmp_path / "plain") == 0
    assert run("predict", made, tmp_path / "predicted", *way) == 0
    assert run("infer", made, tmp_path / "inferred", *way) == 0
    changed = 0
    for name in ("a.png", "b.png"):
        plain, ours, theirs = (ids(tmp_path / part / name) for part in ("plain", "predicted", "inferred"))
        assert (ours != theirs).mean() <= 0.005
        changed += (plain != ours).sum()
    assert changed


def test_the_export_carries_the_recipes_settings(made):
    tree = yaml.safe_load((made / "exported" / "deploy.yaml").read_text(encoding="utf-8"))
    assert tree["refine"]["temperature"] == 1.5
    assert tree["refine"]["crf"]["steps"] == 2


def test_confidence_is_a_grey_map_of_the_highest_probability(made, tmp_path):
    assert run("predict", made, tmp_path / "p", "--confidence", "--probabilities") == 0
    assert run("infer", made, tmp_path / "i", "--confidence") == 0
    ours, theirs = (ids(tmp_path / part / "a_confidence.png").astype(int) for part in "pi")
    chances = np.load(tmp_path / "p" / "a_probabilities.npy")
    assert np.abs(ours - 255 * chances.max(axis=0)).max() < 1
    assert np.abs(ours - theirs).max() <= 1


def test_pixels_left_unlabelled_are_void_in_the_map_and_missing_in_the_shares(made, tmp_path):
    assert run("infer", made, tmp_path / "out", "--min-confidence", "0.6", "--confidence") == 0
    labels, confidence = ids(tmp_path / "out" / "a.png"), ids(tmp_path / "out" / "a_confidence.png")
    assert 0 < (labels == 255).mean() < 1
    assert confidence[labels != 255].min() >= 0.6 * 255 - 1
    shares = json.loads((tmp_path / "out" / "shares.json").read_text(encoding="utf-8"))
    assert sum(shares["images"][0]["shares"].values()) == pytest.approx((labels != 255).mean())


@pytest.mark.parametrize("command", ["predict", "infer"])
def test_polygons_are_written_beside_the_map(made, tmp_path, command):
    assert run(command, made, tmp_path / "g", "--polygons", "geojson") == 0
    tree = json.loads((tmp_path / "g" / "a.geojson").read_text(encoding="utf-8"))
    area = sum(feature["properties"]["area"] for feature in tree["features"])
    assert area == (ids(tmp_path / "g" / "a.png") != 0).sum()
    assert run(command, made, tmp_path / "l", "--polygons", "labelme", "--simplify", "1") == 0
    tree = json.loads((tmp_path / "l" / "b.json").read_text(encoding="utf-8"))
    assert (tmp_path / "l" / tree["imagePath"]).resolve() == (made / "in" / "b.png").resolve()


def georeferenced(path, size=(70, 90)):
    import struct

    from paddlefcn.data.georeference import Georeference

    doubles = {33550: (2.0, 2.0, 0.0), 33922: (0.0, 0.0, 0.0, 1000.0, 5000.0, 0.0)}
    tags = {code: (12, len(v), struct.pack(f"<{len(v)}d", *v)) for code, v in doubles.items()}
    pixels = blotches(size, 1)
    with TiffWriter(path, *size, channels=3, georeference=Georeference(tags)) as out:
        out.write_rows(pixels)


@pytest.mark.parametrize("tile", [[], ["--tile", "32"]], ids=["whole", "tiles"])
def test_a_georeferenced_image_gives_polygons_on_the_map_and_areas_in_its_units(made, tmp_path, tile):
    georeferenced(tmp_path / "scene.tif")
    given = ["infer", "--model", made / "exported", "--input", tmp_path / "scene.tif", "--device", "cpu"]
    given += ["--polygons", "geojson", "--min-area", "80u2", "--output", tmp_path / "out", *tile]
    assert main([str(word) for word in given]) == 0
    tree = json.loads((tmp_path / "out" / "scene.geojson").read_text(encoding="utf-8"))
    points = np.concatenate([np.array(f["geometry"]["coordinates"][0]) for f in tree["features"]])
    assert points.min(axis=0)[0] >= 1000
    assert points.max(axis=0)[1] <= 5000
    assert min(feature["properties"]["area"] for feature in tree["features"]) >= 80


def test_tiles_with_a_crf_are_near_the_whole(made, tmp_path):
    georeferenced(tmp_path / "scene.tif", (150, 170))
    found = []
    for name, tile in (("whole", []), ("tiles", ["--tile", "64"])):
        given = ["infer", "--model", made / "exported", "--input", tmp_path / "scene.tif", "--crf", *tile]
        given += ["--min-confidence", "0.3", "--output", tmp_path / name, "--device", "cpu"]
        assert main([str(word) for word in given]) == 0
        found.append(ids(tmp_path / name / "scene.tif"))
    assert (found[0] == found[1]).mean() > 0.97


def test_val_scores_what_was_refined_and_records_how(made, tmp_path, capsys):
    found = {}
    for name, way in {"plain": [], "crf": ["--crf"], "sure": ["--min-confidence", "0.5"]}.items():
        assert (
            run(
                "val", made, None, *way, "--worst", "1", "--output", tmp_path / name, "--json", tmp_path / "v"
            )
            == 0
        )
        found[name] = json.loads((tmp_path / "v").read_text(encoding="utf-8"))
        (tmp_path / "v").unlink()
    assert found["plain"]["refinement"]["crf"] is None
    assert found["crf"]["refinement"]["crf"]["steps"] == 2
    assert found["crf"]["pixel_accuracy"] != found["plain"]["pixel_accuracy"]
    assert found["plain"]["unlabelled_pixels"] == 0 < found["sure"]["unlabelled_pixels"]
    assert "% of the pixels are unlabelled and left out" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["predict", "infer"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--min-area", "x"], "--min-area x: expected a number of pixels above 0"),
        (["--min-confidence", "2"], "--min-confidence 2: expected 0 to 1"),
        (["--polygons", "svg"], "--polygons svg: expected geojson or labelme"),
        (["--simplify", "1"], "--simplify is about outlines; add --polygons"),
        (["--polygons", "geojson", "--simplify", "-1"], "--simplify -1: expected pixels, 0 to 1000"),
        (["--confidence", "--tile", "64"], "--tile goes without --confidence"),
        (["--multi-scale", "0"], "--multi-scale"),
        (["--multi-scale", "2", "--tile", "64"], "--tile goes without --sliding, --multi-scale and --flip"),
    ],
)
def test_wrong_values_give_one_line(made, tmp_path, capsys, command, words, expected):
    assert run(command, made, tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_area_in_map_units_is_refused_of_images_without_a_place(made, tmp_path, capsys):
    assert run("infer", made, tmp_path / "out", "--min-area", "5u2") == 1
    assert "a.png: has no place on a map" in capsys.readouterr().err
    assert run("val", made, None, "--min-area", "5u2") == 2
    assert "val knows no map; give pixels" in capsys.readouterr().err


@pytest.fixture(scope="module")
def deciding(made):
    """An export that returns class ids."""
    assert main(arguments("export", made, "--output", made / "deciding", "--outputs", "labels")) == 0
    return made / "deciding"


@pytest.mark.parametrize(
    "words",
    [
        ["--crf"],
        ["--confidence"],
        ["--min-confidence", "0.5"],
        ["--probabilities"],
        ["--flip"],
        ["--multi-scale", "0.5", "1"],
    ],
    ids=lambda words: words[0],
)
def test_an_export_of_labels_refuses_what_needs_scores(made, deciding, tmp_path, capsys, words):
    given = ["infer", "--model", deciding, "--input", made / "in", "--output", tmp_path / "out", *words]
    assert main([str(word) for word in given]) == 2
    error = capsys.readouterr().err
    assert f"{words[0]}" in error
    assert "need one with --outputs logits" in error
    assert not (tmp_path / "out").exists()


def test_an_export_of_labels_loses_small_parts_as_one_of_logits_does(made, deciding, tmp_path):
    given = ["--input", made / "in", "--min-area", "30", "--polygons", "geojson", "--device", "cpu"]
    for name, model in (("logits", made / "exported"), ("labels", deciding)):
        assert main([str(w) for w in ["infer", "--model", model, "--output", tmp_path / name, *given]]) == 0
    ours, theirs = (ids(tmp_path / name / "b.png") for name in ("logits", "labels"))
    assert (ours != theirs).mean() <= 0.005
