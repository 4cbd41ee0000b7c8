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
from conftest import REPO, TINY
from PIL import Image

from paddlefcn import Predictor
from paddlefcn.commands import main
from paddlefcn.data.images import read_image
from paddlefcn.data.shapes import draw
from paddlefcn.yaml_files import parse_yaml

PAGES = sorted((REPO / "docs/guides").glob("*.md"))
NOTEBOOK = REPO / "docs/first_steps.ipynb"
BLOCK = re.compile(r"^```(bash|python|yaml)\n(.*?)^```", re.M | re.S)


def page(name):
    return REPO / "docs" / name


def blocks(path):
    return BLOCK.findall(path.read_text(encoding="utf-8"))


def command(line):
    """Runs a line of a bash block and returns its exit code; programs that are not of this library are not run."""
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
            Path(file[1]).write_text(code, encoding="utf-8")
        elif language == "bash":
            for line in code.splitlines():
                assert command(line) == 0, line
        else:
            assert language == "python", code
            exec(compile(before_python(code), path.name, "exec"), names)
    return names


def drawing(folder, name, seed):
    """A picture with one outline, as labelme saves it."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw((48, 64), rng)[0]).save(folder / f"{name}.png")
    left, top = (int(value) for value in rng.integers(2, 20, 2))
    shape = {
        "label": ("cell", "crack")[seed % 2],
        "points": [[left, top], [left + 30, top], [left + 20, top + 20]],
        "shape_type": "polygon",
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
        drawing(Path("data/drawings"), f"d{number}", number)
    Image.fromarray(draw((48, 64), np.random.default_rng(30))[0]).save("new/n.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder where docs/guides.md was followed, with a small recipe in the place of the quick start's."""
    place = tmp_path_factory.mktemp("guides")
    (place / "configs").mkdir()
    for name in ("quickstart", "configs/quickstart.yml"):  # a file goes before the shipped recipe of its name
        recipe = TINY.replace("iters: 8,", "iters: 8, save_dir: output/quickstart,")
        (place / name).write_text(recipe)
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
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("model.pretrained output/quickstart:")]
    assert (
        lines == ["model.pretrained output/quickstart: 35 loaded, 6 new"] * 2
    )  # the third run has no weights
    new = {line.split()[1].split(".")[0] for line in said.splitlines() if line.startswith("  new")}
    assert new == {"score_fr", "score_pool3", "score_pool4"}
    text = page("guides/fine_tuning.md").read_text(encoding="utf-8")
    assert lines[0] in text


def test_the_rows_that_the_page_on_fine_tuning_shows_are_of_the_shipped_recipe():
    from paddlefcn.build import build_model
    from paddlefcn.config import load_config

    config = load_config(REPO / "configs/quickstart.yml")
    state = build_model(config).state_dict()
    assert state["score_fr.weight"].shape == [6, 256, 1, 1]
    assert "file [6, 256, 1, 1]" in page("guides/fine_tuning.md").read_text(encoding="utf-8")


def test_fine_tuning_with_another_normalisation_is_refused_as_the_page_says(place, capsys):
    _, recipe = next(block for block in blocks(page("guides/fine_tuning.md")) if block[0] == "yaml")
    Path("tuned.yml").write_text(re.sub(r"^  normalize:.*\n", "", recipe, flags=re.M))
    assert main(["train", "-c", "tuned.yml"]) == 2
    assert "set data.normalize to the former" in capsys.readouterr().err


def test_several_seeds_differ_and_have_their_names_in_visualdl(place):
    from visualdl.reader.reader import LogReader

    names = follow(page("guides/seeds.md"))
    assert len(names["scores"]) == 3
    losses = set()
    for seed in (1, 2, 3):
        run = Path(f"output/seeds/plain_{seed}")
        assert parse_yaml((run / "config.yml").read_text(), "config.yml")["train"]["seed"] == seed
        losses.add(json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["loss"])
    assert len(losses) == 3
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


def test_drawings_are_learned_and_predictions_go_back_to_labelme(place, capsys):
    follow(page("guides/annotation_tools.md"))
    assert "classes: [background, cell, crack]" in capsys.readouterr().out
    tree = json.loads(Path("corrected/n.json").read_text())
    assert tree["imagePath"] == "../new/n.png"
    assert {shape["label"] for shape in tree["shapes"]} <= {"cell", "crack"}
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
