"""predict and infer over files: scenes in tiles, lists, resumes, bad inputs among good ones."""

import os

import numpy as np
import pytest
from PIL import Image

from paddlefcn.classes import Classes
from paddlefcn.data.georeference import Georeference
from paddlefcn.data.images import Normalize
from paddlefcn.data.scenes import open_scene
from paddlefcn.data.tiff_writer import TiffWriter
from paddlefcn.deploy.inputs import find_inputs
from paddlefcn.deploy.job import predict_all
from paddlefcn.deploy.journal import JOURNAL_FILE, open_journal
from paddlefcn.deploy.network import Network
from paddlefcn.deploy.options import Request, Wanted
from paddlefcn.deploy.scenes import TiledImages
from paddlefcn.deploy.tiling import Tiling
from paddlefcn.deploy.whole import WholeImages
from paddlefcn.errors import DataError, OutputError, UserError
from paddlefcn.ownership import MARK
from paddlefcn.preprocess import Preprocess
from paddlefcn.refine.settings import RefineOptions

CLASSES = Classes(("dark", "light"))
PLACE = Georeference(
    {
        33550: (12, 3, np.array([0.5, 0.5, 0], "<f8").tobytes()),
        33922: (12, 6, np.array([0, 0, 0, 4e5, 5e6, 0], "<f8").tobytes()),
        34735: (3, 4, np.array([1, 1, 0, 0], "<u2").tobytes()),
    }
)


class Threshold:
    """A network of one pixel's reach; counts its calls, and stops like a kill on request."""

    def __init__(self, stop_after=None):
        self.calls, self.shapes, self.stop_after = 0, [], stop_after

    def __call__(self, batch):
        self.calls += 1
        self.shapes.append(batch.shape)
        if self.stop_after is not None and self.calls > self.stop_after:
            raise KeyboardInterrupt
        return np.concatenate([-batch, batch], axis=1)


def network(run, **changes):
    values = {
        "run": run,
        "gives": "logits",
        "preprocess": Preprocess((), Normalize(255, (0.5,), (0.25,))),
        "classes": CLASSES,
        "max_pixels": 10**6,
        "tiling": Tiling(16, 16, True),
    }
    return Network(**{**values, **changes})


def predict(
    run, inputs, output, *, wanted=None, tile=None, made_by="a", overwrite=False, resume=False, **changes
):
    wanted = wanted or Wanted()
    found = find_inputs(inputs, output, Request(wanted).endings)
    journal = open_journal(output, made_by, CLASSES.names, overwrite=overwrite, resume=resume)
    net = network(run, **changes)
    images = TiledImages(net, output, wanted, tile) if tile else WholeImages(net, output, wanted)
    return predict_all(images, found, journal)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(9):
        size = (20, 30) if number < 6 else (25, 25)
        Image.fromarray(rng.integers(0, 256, size).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def scene(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (150, 210)).astype(np.uint8)
    with TiffWriter(tmp_path / "scene.tif", 150, 210, tile=64, georeference=PLACE) as out:
        out.write_rows(pixels)
    return tmp_path / "scene.tif", (pixels >= 128).astype(np.uint8)


def visible(folder):
    """The names in a folder, without this library's own mark."""
    return {file.name for file in folder.iterdir() if file.name != MARK}


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_georeferenced_scene_becomes_a_tif_with_its_tags_and_a_plain_one_a_png(scene, tmp_path):
    path, expected = scene
    for tile in (None, 50):
        shares = predict(Threshold(), path, tmp_path / f"out{tile}", tile=tile)
        assert visible(tmp_path / f"out{tile}") == {*("scene.tif", "scene_overlay.png", "shares.json")}
        with open_scene(tmp_path / f"out{tile}" / "scene.tif", mask=True) as written:
            assert written.georeference == PLACE
            np.testing.assert_array_equal(written.read_window(0, 0, 150, 210)[:, :, 0], expected)
        assert shares["images"][0]["shares"]["light"] == pytest.approx(expected.mean())
    Image.fromarray(expected * 255).save(tmp_path / "plain.png")
    predict(Threshold(), tmp_path / "plain.png", tmp_path / "png", tile=50)
    with Image.open(tmp_path / "png" / "plain.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[3:6] == [128, 0, 0]
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_a_scene_is_exempt_from_max_pixels_and_an_image_is_not(scene, tmp_path):
    path, _ = scene
    shares = predict(Threshold(), path, tmp_path / "tiles", tile=64, max_pixels=5000)
    assert shares["images"][0]["height"] == 150
    shares = predict(Threshold(), path, tmp_path / "whole", max_pixels=5000)
    assert "max_pixels" in shares["unreadable"][0]["error"]


def test_a_stopped_scene_goes_on_after_the_last_finished_row_and_only_as_the_same(scene, tmp_path):
    path, expected = scene
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict(Threshold(stop_after=10), path, out, tile=32)  # 7 tiles a row: stopped in the second
    with pytest.raises(OutputError, match="not empty"):
        predict(Threshold(), path, out, tile=32)
    with pytest.raises(OutputError, match="another network, or with other options"):
        predict(Threshold(), path, out, tile=32, made_by="b", resume=True)
    run = Threshold()
    predict(run, path, out, tile=32, resume=True)
    assert run.calls == 5 * 7 - 7
    assert visible(out) == {"scene.tif", "scene_overlay.png", "shares.json"}
    with open_scene(out / "scene.tif", mask=True) as written:
        np.testing.assert_array_equal(written.read_window(0, 0, 150, 210)[:, :, 0], expected)


def test_a_scene_that_changed_since_is_begun_again(scene, tmp_path):
    path, _ = scene
    with pytest.raises(KeyboardInterrupt):
        predict(Threshold(stop_after=10), path, tmp_path / "out", tile=32)
    os.utime(path, (1, 1))
    run = Threshold()
    predict(run, path, tmp_path / "out", tile=32, resume=True)
    assert run.calls == 5 * 7


def test_a_stopped_folder_goes_on_and_ends_as_an_unstopped_one(pictures, tmp_path):
    whole = predict(Threshold(), pictures, tmp_path / "whole", batch=1)
    with pytest.raises(KeyboardInterrupt):
        predict(Threshold(stop_after=5), pictures, tmp_path / "out", batch=1)
    journal = (tmp_path / "out" / JOURNAL_FILE).read_bytes()
    finished = journal.count(b'"name"')
    (tmp_path / "out" / JOURNAL_FILE).write_bytes(journal + b'{"name": "torn')
    run = Threshold()
    resumed = predict(run, pictures, tmp_path / "out", batch=1, resume=True)
    assert run.calls == 9 - finished < 9
    assert resumed == whole
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    run = Threshold()
    assert predict(run, pictures, tmp_path / "out", resume=True) == whole  # complete: nothing is left to do
    assert run.calls == 0


def test_neighbours_of_one_size_go_through_the_network_together(pictures, tmp_path):
    run = Threshold()
    predict(run, pictures, tmp_path / "out", batch=4)
    assert [shape[0] for shape in run.shapes] == [4, 2, 3]
    for number in range(9):
        expected = (read(pictures / f"{number}.png") >= 128).astype(np.uint8)
        np.testing.assert_array_equal(read(tmp_path / "out" / f"{number}.png"), expected)


def test_bad_inputs_are_named_and_the_rest_go_on(pictures, tmp_path, capsys):
    (pictures / "3.png").write_text("no image")
    np.save(pictures / "float.npy", np.full((5, 5), 0.5, np.float32))
    (pictures / ("x" * 240 + ".png")).write_bytes((pictures / "0.png").read_bytes())
    shares = predict(Threshold(), pictures, tmp_path / "out")
    assert len(shares["images"]) == 8
    errors = {entry["file"]: entry["error"] for entry in shares["unreadable"]}
    assert "multiply it by 255" in errors[str(pictures / "float.npy")]
    assert len(errors) == 3
    assert all(file in error for file, error in errors.items())
    assert capsys.readouterr().err.count("error:") == 3


def test_an_image_too_large_for_memory_is_named_and_the_rest_go_on(pictures, tmp_path):
    class Greedy(Threshold):
        def __call__(self, batch):
            if batch.shape[2] == 25:
                raise MemoryError
            return super().__call__(batch)

    shares = predict(Greedy(), pictures, tmp_path / "out")
    assert len(shares["images"]) == 6
    assert "use --tile" in shares["unreadable"][0]["error"]


def test_several_inputs_and_lists_keep_their_names(pictures, tmp_path):
    (pictures / "some.txt").write_text("# two of them\n\n2.png\n8.png\n")
    found = find_inputs([pictures / "some.txt", pictures / "0.png"], tmp_path / "out", Request().endings)
    assert [(item.name, item.file.name) for item in found] == [("2", "2.png"), ("8", "8.png"), ("0", "0.png")]
    with pytest.raises(DataError, match="would both write"):
        find_inputs([pictures, pictures / "0.png"], tmp_path / "out", Request().endings)
    (pictures / "none.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match="lists no image"):
        find_inputs(pictures / "none.txt", tmp_path / "out", Request().endings)


def test_probabilities_sum_to_one_and_overlays_can_be_left_out(pictures, tmp_path):
    predict(
        Threshold(), pictures / "7.png", tmp_path / "out", wanted=Wanted(overlay=False, probabilities=True)
    )
    assert visible(tmp_path / "out") == {"7.png", "7_probabilities.npy", "shares.json"}
    chances = np.load(tmp_path / "out" / "7_probabilities.npy")
    assert (chances.dtype, chances.shape) == (np.float16, (2, 25, 25))
    np.testing.assert_allclose(chances.astype(np.float32).sum(0), 1, atol=2e-3)


def test_large_overlays_have_a_viewable_size(tmp_path, monkeypatch):
    monkeypatch.setattr("paddlefcn.deploy.pictures.OVERLAY_SIDE", 100)
    monkeypatch.setattr("paddlefcn.deploy.scenes.OVERLAY_SIDE", 100)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 410)).astype(np.uint8)).save(
        tmp_path / "a.png"
    )
    for tile in (None, 128):
        predict(Threshold(), tmp_path / "a.png", tmp_path / f"out{tile}", tile=tile)
        with Image.open(tmp_path / f"out{tile}" / "a_overlay.png") as image:
            assert image.width < 300  # with its legend


def test_of_two_predictions_into_one_folder_the_second_is_refused(tmp_path):
    journal = open_journal(tmp_path / "out", "a", (), overwrite=False, resume=False)
    with pytest.raises(OutputError, match="being written to by another"):
        open_journal(tmp_path / "out", "a", (), overwrite=False, resume=True)
    journal.close()
    open_journal(tmp_path / "out", "a", (), overwrite=False, resume=True).close()


def test_tiles_are_refused_where_they_would_not_be_equal_or_not_fit():
    Request(tile=512).check_views(once=True)
    refused = ({"wanted": Wanted(probabilities=True)}, {"refine": RefineOptions(confidence=True)})
    for tile, asked in ((0, {}), *((9, asked) for asked in refused)):
        with pytest.raises(UserError, match="--tile"):
            Request(tile=tile, **asked)
    with pytest.raises(UserError, match="without --sliding"):
        Request(tile=64).check_views(once=False)
