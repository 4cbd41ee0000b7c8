"""The guides' pages and the notebook, executed block by block on generated pictures with a small network."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
import test_docs
from conftest import REPO
from PIL import Image

from paddlefcn import Predictor
from paddlefcn.build import build_model
from paddlefcn.commands import main
from paddlefcn.config import load_config
from paddlefcn.data.images import read_image
from paddlefcn.data.shapes import draw
from paddlefcn.yaml_files import parse_yaml

PAGES = sorted((REPO / "docs/guides").glob("*.md"))
NOTEBOOK = REPO / "docs/first_steps.ipynb"
BLOCK = re.compile(r"^```(bash|python|yaml)\n(.*?)^```", re.M | re.S)


# learns in a second to answer with more than one class, from a network with as many tensors as quickstart's
RECIPE = """
data:
  type: Shapes
  size: [32, 32]
  train_images: 8
  val_images: 4
  classes: [background, disk, square, triangle, striped, checked]
  normalize: {scale: 255, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
  num_workers: 0
model:
  type: FCN8s
  backbone: {type: VGG, arch: [1, 1, 2, 2, 2], width: 4}
  fc_channels: 16
  fc6_kernel: 3
  dropout: 0.0
loss: [{type: CrossEntropy, class_weights: {from: data, rule: inverse}}]
optimizer: {type: Momentum, momentum: 0.9, weight_decay: 5.0e-4}
schedule: {type: Poly, learning_rate: 0.1, warmup_iters: 5}
train: {iters: 40, batch_size: 4, eval_iters: 40, save_iters: 40, previews: 1, save_dir: output/quickstart}
runtime: {cpu_accelerator: false}
"""


def page(name):
    return REPO / "docs" / name


def blocks(path):
    return BLOCK.findall(path.read_text(encoding="utf-8"))


def command(line):
    """Runs a line of a bash block and returns its exit code; foreign programs are not started."""
    words = shlex.split(line)
    if words[0] == "visualdl":
        assert list(Path(words[words.index("--logdir") + 1]).rglob("vdlrecords.*"))
        return 0
    if words[:2] == ["python", "server.py"]:
        assert Path("server.py").exists()
        assert Path(words[2]).is_dir()
        return 0
    assert words[0] == "python", line
    name = re.fullmatch(r"tools/(\w+)\.py", words[1])
    assert name, line
    return main([name[1], *words[2:]])


def follow(path, names=None, before_python=lambda code: code):
    """Executes a page's blocks in their order: files are saved, commands run, Python shares one namespace."""
    names = {"__name__": "page"} if names is None else names
    for language, code in blocks(path):
        file = re.match(r"# (\w+\.(?:py|yml))\n", code)
        if file:
            # a process for each reader would take longer than these few small pictures
            code = re.sub(r"^data:\n", "data:\n  num_workers: 0\n", code, flags=re.M)
            code = code.replace("size: [128, 128]", "size: [48, 48]")
            Path(file[1]).write_text(code, encoding="utf-8")
        elif language == "bash":
            for line in code.splitlines():
                assert command(line) == 0, line
        else:
            assert language == "python", code
            exec(compile(before_python(code), path.name, "exec"), names)
    return names


def drawing(folder, name, label):
    """A picture with one outline, as labelme saves it; what is a cell is bright, a crack dark."""
    rng = np.random.default_rng([len(name), *name.encode()])
    left, top = (int(value) for value in rng.integers(2, 20, 2))
    image, _ = draw((48, 64), rng)
    image[top : top + 24, left : left + 30] = {"cell": 255, "crack": 0}[label]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / f"{name}.png")
    shape = {
        "label": label,
        "points": [[left, top], [left + 29, top + 23]],
        "shape_type": "rectangle",
    }
    tree = {"version": "5.5.0", "flags": {}, "shapes": [shape], "imagePath": f"{name}.png", "imageData": None}
    tree.update(imageHeight=48, imageWidth=64)
    (folder / f"{name}.json").write_text(json.dumps(tree))


def prepare_pictures():
    for folder in ("data/my_data/images", "data/my_data/masks", "new"):
        Path(folder).mkdir(parents=True)
    for number in range(8):
        image, ids = draw((48, 64), np.random.default_rng(number + 10))
        Image.fromarray(image).save(f"data/my_data/images/{number}.png")
        Image.fromarray(np.uint8((ids > 0) * 255)).save(f"data/my_data/masks/{number}.png")
        drawing(Path("data/drawings"), f"d{number}", ("cell", "crack")[number % 2])
    drawing(Path("new"), "n", "cell")
    Path("new/n.json").unlink()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder where docs/guides.md was followed, with a small recipe in the place of the quick start's."""
    place = tmp_path_factory.mktemp("guides")
    (place / "configs").mkdir()
    for name in ("quickstart", "configs/quickstart.yml"):  # a file goes before the shipped recipe of its name
        (place / name).write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("PADDLEFCN_DATA", raising=False)
        prepare_pictures()
        follow(page("guides.md"))
    return place


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    shutil.copytree(trained, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.delenv("PADDLEFCN_DATA", raising=False)
    return tmp_path / "place"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_link_of_a_guide_leads_to_a_file_and_a_heading(path):
    test_docs.test_every_link_leads_to_a_file_and_a_heading(path)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_command_of_a_guide_has_arguments_that_its_tool_takes(path):
    for language, code in blocks(path):
        if language == "bash":
            test_docs.test_every_command_has_arguments_that_its_tool_takes(code)


def test_the_index_names_every_guide():
    targets = set(re.findall(r"\]\((guides/\w+\.md)\)", page("guides.md").read_text(encoding="utf-8")))
    assert targets == {f"guides/{path.name}" for path in PAGES}


def test_one_picture_in_a_notebook(place):
    names = follow(page("guides/notebook.md"))
    labels = names["predictor"].predict(read_image("shapes/1.png", 3))
    np.testing.assert_array_equal(names["labels"], labels)
    assert Image.open("shapes_1_overlay.png").width > labels.shape[1]  # a legend stands beside it


def test_fine_tuning_keeps_all_but_the_scores_of_the_classes(place, capsys):
    follow(page("guides/fine_tuning.md"))
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("model.pretrained output/quickstart:")]
    assert len(lines) == 2  # the third run starts without weights
    new = {line.split()[1].split(".")[0] for line in printed.splitlines() if line.startswith("  new")}
    assert new == {"score_fr", "score_pool3", "score_pool4"}
    text = page("guides/fine_tuning.md").read_text(encoding="utf-8")
    assert all(line in text for line in lines)


def test_the_rows_that_the_page_on_fine_tuning_shows_are_of_the_shipped_recipe():
    state = build_model(load_config(REPO / "configs/quickstart.yml")).state_dict()
    text = page("guides/fine_tuning.md").read_text(encoding="utf-8")
    assert f"file {list(state['score_fr.weight'].shape)}, " in text
    assert f": {len(state) - 6} loaded, 6 new\n" in text


def test_fine_tuning_with_another_normalisation_is_refused_as_the_page_says(place, capsys):
    _, recipe = next(block for block in blocks(page("guides/fine_tuning.md")) if block[0] == "yaml")
    Path("tuned.yml").write_text(re.sub(r"^  normalize:.*\n", "", recipe, flags=re.M))
    assert main(["train", "-c", "tuned.yml"]) == 2
    assert "set data.normalize to the former" in capsys.readouterr().err


def test_several_seeds_differ_and_have_their_names_in_visualdl(place):
    from visualdl.reader.reader import LogReader

    names = follow(page("guides/seeds.md"))
    assert len(names["scores"]) == 3
    records = set()
    for seed in (1, 2, 3):
        run = Path(f"output/seeds/plain_{seed}")
        assert parse_yaml((run / "config.yml").read_text(), "config.yml")["train"]["seed"] == seed
        records.add((run / "metrics.jsonl").read_text())
    assert len(records) == 3
    runs = {path.parent.name for path in Path("output/seeds").rglob("vdlrecords.*")}
    assert runs == {"vdl"}  # so the names do not come from the folders of the logs
    shown = set()
    for log in Path("output/seeds").rglob("vdlrecords.*"):
        reader = LogReader(file_path=str(log))
        reader.get_tags()
        shown |= set(reader.name2tags)
    assert shown == {"plain_1", "plain_2", "plain_3", "dropout_1"}


def test_the_server_answers_threads_as_the_predictor_does(place):
    code = next(code for _, code in blocks(page("guides/server.md")) if code.startswith("# server.py"))
    names = {"__name__": "server"}
    exec(compile(code, "server.py", "exec"), names)
    server = names["make_server"]("output/quickstart_export", 0)
    port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        client = follow(
            page("guides/server.md"), before_python=lambda code: code.replace(":8000", f":{port}")
        )
        predictor = Predictor("output/quickstart_export")
        expected = {name: predictor.predict_file(name) for name in ("shapes/1.png", "shapes/2.png")}
        assert not np.array_equal(*expected.values())
        with ThreadPoolExecutor(4) as pool:
            again = list(pool.map(client["segment"], client["paths"]))
        for name, answer in [*zip(client["paths"], client["answers"]), *zip(client["paths"], again)]:
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer))), expected[name])
        for body, status in ((b"no picture", 400), (b"", 413)):
            with pytest.raises(HTTPError) as error:
                urlopen(f"http://127.0.0.1:{port}", data=body, timeout=60)
            assert error.value.code == status
            error.value.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_code_without_this_library_predicts_what_the_predictor_does(place):
    code = next(code for _, code in blocks(page("deploy.md")) if "from paddle import inference" in code)
    if not Path("output/quickstart_export/model.json").exists():
        pytest.skip("Paddle 2 writes model.pdmodel")
    Path("output/quickstart_export").rename("output/my_export")
    shutil.copy("shapes/1.png", "data/my_data/images/000.png")
    names = {}
    exec(compile(code, "deploy.md", "exec"), names)
    labels = Predictor("output/my_export").predict_file("shapes/1.png")
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(names["labels"], labels)


def test_drawings_are_learned_and_predictions_go_back_to_labelme(place, capsys):
    follow(page("guides/annotation_tools.md"))
    assert "classes: [background, cell, crack]" in capsys.readouterr().out
    tree = json.loads(Path("corrected/n.json").read_text())
    assert tree["imagePath"] == "../new/n.png"
    predicted = np.asarray(Image.open("output/new/n.png"))
    found = {shape["label"] for shape in tree["shapes"]}
    assert found  # the network has learned something
    assert found <= {("background", "cell", "crack")[index] for index in np.unique(predicted)}
    assert len(list(Path("data/drawn_masks/masks").rglob("*.png"))) == 8


def test_the_cells_of_the_notebook_run_in_order(place):
    names = {"__name__": "__main__"}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
    predictor, image = names["predictor"], names["image"]
    of_the_network = names["logits"].argmax(1).numpy()[0]
    assert np.mean(predictor.predict(image) != of_the_network) < 0.01


def test_the_notebook_is_stored_without_outputs():
    tree = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert tree["nbformat"] == 4
    for cell in tree["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert cell["metadata"] == {}
