"""State files: written whole, read exactly, found in run folders, fitted into layers by name."""

from __future__ import annotations

import errno
import json
import os
import random
import zipfile

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

from paddlefcn.errors import OutputError, RunError, WeightsError
from paddlefcn.weights import (
    check_normalize,
    load_into,
    normalize_metadata,
    read_metadata,
    read_state,
    resolve_weights,
    save_state,
)


def network(width=4):
    paddle.seed(1)
    return paddle.nn.Sequential(
        paddle.nn.Conv2D(3, width, 3), paddle.nn.BatchNorm2D(width), paddle.nn.Linear(5, 2)
    )


def arrays(layer):
    return {name: tensor.numpy() for name, tensor in layer.state_dict().items()}


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
        assert one[name].dtype == other[name].dtype


# --- reading and writing ---------------------------------------------------------------------------


def test_a_layer_survives_every_format(tmp_path):
    net = network()
    save_state(net, tmp_path / "a.safetensors", {"made": "here"})
    paddle.save(net.state_dict(), str(tmp_path / "a.pdparams"))
    paddle.save(net.state_dict(), str(tmp_path / "b.pdparams"), protocol=2)
    np.savez(tmp_path / "a.npz", **arrays(net))
    np.savez_compressed(tmp_path / "b.npz", **arrays(net))
    for name in ("a.safetensors", "a.pdparams", "b.pdparams", "a.npz", "b.npz"):
        equal(read_state(tmp_path / name), arrays(net))
    assert read_metadata(tmp_path / "a.safetensors") == {"made": "here"}
    assert read_metadata(tmp_path / "a.pdparams") == {}


def test_the_safetensors_package_reads_what_is_written_and_the_reverse(tmp_path):
    state = {
        "b": np.arange(3, dtype="int64"),
        "a": np.arange(6, dtype="float32").reshape(2, 3),
        "c.bool": np.array([True, False, True]),
        "half": np.ones((3, 1), "float16"),
        "empty": np.zeros((0, 4), "float32"),
        "scalar": np.array(2.5, "float64"),
        "turned": np.arange(6, dtype="float32").reshape(2, 3).T,
    }
    save_state(state, tmp_path / "a.safetensors", {"k": "v"})
    equal(
        load_file(tmp_path / "a.safetensors"),
        {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in state.items()},
    )
    save_file(
        {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in state.items()}, tmp_path / "b.safetensors"
    )
    equal(read_state(tmp_path / "b.safetensors"), state)


def test_equal_states_make_equal_bytes(tmp_path):
    state = arrays(network())
    save_state(state, tmp_path / "a.safetensors", {"x": "1", "y": "2"})
    save_state(dict(reversed(state.items())), tmp_path / "b.safetensors", {"y": "2", "x": "1"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_bfloat16_is_read_as_the_same_numbers_in_float32(tmp_path):
    values = np.array([1.0, -2.5, 0.15625, 3e38], "float32")
    bits = (values.view(np.uint32) >> 16).astype("<u2")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
    widened = (bits.astype(np.uint32) << 16).view(np.float32).reshape(2, 2)
    equal(read_state(path), {"w": widened})
    paddle.save({"w": paddle.to_tensor(values).astype("bfloat16")}, str(tmp_path / "a.pdparams"))
    np.testing.assert_allclose(read_state(tmp_path / "a.pdparams")["w"], values, rtol=0.01)


def test_a_checkpoint_with_the_network_among_other_entries_is_opened(tmp_path):
    net = network()
    paddle.save({"model": net.state_dict(), "epoch": 3, "lr": [0.1]}, str(tmp_path / "c.pdparams"))
    equal(read_state(tmp_path / "c.pdparams"), arrays(net))


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_state({"w": np.zeros(3, "float32")}, path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        save_state({"w": np.ones(3, "float32")}, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="cannot write"):
        save_state({"w": np.zeros(3, "float32")}, tmp_path / "file" / "a.safetensors")


# --- files that are not what they should be --------------------------------------------------------


@pytest.mark.parametrize("name", ["a.pdparams", "a.safetensors", "a.npz", "a.pth", "a.caffemodel", "a"])
@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"hello world, this is text", b"\0" * 100, b"<html>404</html>"]
)
def test_garbage_is_one_line_that_names_the_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_state(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_said(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        read_state(tmp_path / "nothing.pdparams")
    with pytest.raises(WeightsError, match="a folder"):
        read_state(tmp_path)


def test_a_truncated_file_is_refused_at_every_length(tmp_path):
    net = network()
    save_state(net, tmp_path / "a.safetensors")
    paddle.save(net.state_dict(), str(tmp_path / "a.pdparams"))
    np.savez(tmp_path / "a.npz", **arrays(net))
    for suffix in ("safetensors", "pdparams", "npz"):
        data = (tmp_path / f"a.{suffix}").read_bytes()
        for length in {0, 1, 7, 8, 9, len(data) // 3, len(data) // 2, len(data) - 1}:
            (tmp_path / f"t.{suffix}").write_bytes(data[:length])
            with pytest.raises(WeightsError):
                read_state(tmp_path / f"t.{suffix}")


def test_damaged_bytes_end_as_one_line_or_as_tensors(tmp_path):
    net, rng, refused = network(), random.Random(0), 0
    save_state(net, tmp_path / "a.safetensors")
    paddle.save(net.state_dict(), str(tmp_path / "a.pdparams"))
    np.savez(tmp_path / "a.npz", **arrays(net))
    for suffix in ("safetensors", "pdparams", "npz"):
        data = (tmp_path / f"a.{suffix}").read_bytes()
        for _ in range(150):
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                damaged[rng.randrange(min(len(data), 500))] = rng.randrange(256)
            path = tmp_path / f"d.{suffix}"
            path.write_bytes(damaged)
            message = ""
            try:
                read_state(path)
            except WeightsError as error:  # the one thing it may raise
                message = str(error)
            assert "\n" not in message
            refused += bool(message)
    assert refused > 100


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "is not 4 bytes"),
        ({"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}, "truncated or damaged"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}, "damaged"),
        ({"dtype": "F9", "shape": [2], "data_offsets": [0, 8]}, "dtype F9"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, "does not start"),
        ({"dtype": "F32", "shape": "ab", "data_offsets": [0, 8]}, "damaged"),
        ([], "damaged"),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path, entry, message):
    header = json.dumps({"w": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(WeightsError, match=message):
        read_state(path)


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", b"\0" * 100_000_000)
    with pytest.raises(WeightsError, match="would unpack to 100000000 bytes"):
        read_state(tmp_path / "bomb.npz")


def test_an_npz_of_objects_is_refused(tmp_path):
    np.savez(tmp_path / "o.npz", w=np.array([{"a": 1}], dtype=object))
    with pytest.raises(WeightsError, match="dtype object"):
        read_state(tmp_path / "o.npz")


# --- finding ---------------------------------------------------------------------------------------


def checkpoint(folder, value):
    folder.mkdir(parents=True)
    save_state({"w": np.full(3, value, "float32")}, folder / "model.safetensors")
    return folder / "model.safetensors"


def test_a_file_a_checkpoint_and_a_runs_best_are_found(tmp_path):
    run = tmp_path / "run"
    older, newer = checkpoint(run / "checkpoints/iter_10", 1), checkpoint(run / "checkpoints/iter_9", 2)
    (run / "checkpoints/last").write_text("iter_9\n")
    assert resolve_weights(older) == older
    assert resolve_weights(older.parent) == older
    assert resolve_weights(run) == newer
    best = checkpoint(run / "best", 3)
    assert resolve_weights(str(run)) == best


@pytest.mark.parametrize("last", [None, "iter_77", "", "../../etc", "\xff"])
def test_without_a_usable_last_the_newest_whole_checkpoint_is_taken(tmp_path, last):
    checkpoint(tmp_path / "checkpoints/iter_9", 1)
    whole = checkpoint(tmp_path / "checkpoints/iter_10", 2)
    torn = checkpoint(tmp_path / "checkpoints/iter_20", 3)
    torn.write_bytes(torn.read_bytes()[:-1])
    (tmp_path / "checkpoints/iter_30").mkdir()
    if last is not None:
        (tmp_path / "checkpoints/last").write_bytes(last.encode("latin-1"))
    assert resolve_weights(tmp_path) == whole
    assert resolve_weights(tmp_path / "checkpoints") == whole


def test_a_checkpoint_smaller_than_its_manifest_says_is_passed_over(tmp_path):
    old, new = checkpoint(tmp_path / "checkpoints/iter_1", 1), checkpoint(tmp_path / "checkpoints/iter_2", 2)
    manifest = {"model.safetensors": {"size": new.stat().st_size + 1, "sha256": ""}}
    (new.parent / "manifest.json").write_text(json.dumps(manifest))
    assert resolve_weights(tmp_path) == old


def test_nothing_to_find_says_what_was_looked_for(tmp_path):
    with pytest.raises(WeightsError, match="no such file or folder"):
        resolve_weights(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"best/ or checkpoints/iter_N/"):
        resolve_weights(tmp_path)
    torn = checkpoint(tmp_path / "best", 1)
    torn.write_bytes(torn.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="truncated"):
        resolve_weights(tmp_path)


# --- loading ---------------------------------------------------------------------------------------


def test_loading_makes_a_second_layer_equal():
    one, two = network(), network()
    for tensor in one.state_dict().values():
        tensor.set_value(np.random.default_rng(0).normal(size=tensor.shape).astype("float32"))
    report = load_into(two, arrays(one), what="one")
    assert report.complete
    assert report.summary() == "one: 8 loaded"
    equal(arrays(one), arrays(two))


def test_other_float_types_are_cast_and_integers_are_not():
    net = network()
    double = {name: array.astype("float64") for name, array in arrays(net).items()}
    load_into(net, double, what="double")
    assert net[0].weight.dtype == paddle.float32
    whole = {name: array.astype("int32") for name, array in arrays(net).items()}
    with pytest.raises(WeightsError, match="int32"):
        load_into(net, whole, what="whole")


def test_a_misfit_is_listed_and_leaves_the_layer_as_it_was():
    net = network()
    before = arrays(net)
    state = {name: array + 1 for name, array in before.items()}
    state["2.weight"] = np.zeros((5, 3), "float32")
    state["extra"] = state.pop("0.bias")
    with pytest.raises(WeightsError) as caught:
        load_into(net, state, what="file.pdparams")
    message = str(caught.value)
    assert "1 tensors are missing (0.bias)" in message
    assert "1 do not belong (extra)" in message
    assert "2.weight: file [5, 3], network [5, 2]" in message
    equal(arrays(net), before)
    report = load_into(net, state, what="file.pdparams", strict=False)
    assert report.missing == ("0.bias",)
    assert report.unexpected == ("extra",)
    assert [item.name for item in report.mismatched] == ["2.weight"]
    table = report.table()
    assert "mismatched  file [5, 3], network [5, 2]" in table
    assert "6 loaded, 1 missing, 1 unexpected, 1 mismatched" in table


@pytest.mark.parametrize(
    ("rename", "reason"),
    [
        (lambda name: f"module.{name}", "start with 'module.'; take that off"),
        (lambda name: f"whatever.{name}", "start with 'whatever.'; take that off"),
        (lambda name: f"features.{name}", "start with 'features.'"),
        (lambda name: f"conv2d_0.w_0_moment1_{name}", "an optimizer's state"),
        (lambda name: f"classifier.x{name}", "use `paddlefcn import-weights` first"),
        (lambda name: f"{name}x", "another network"),
    ],
)
def test_nothing_matched_is_an_error_with_the_likeliest_reason(rename, reason):
    net = network()
    state = {rename(name): array for name, array in arrays(net).items()}
    for strict in (True, False):
        with pytest.raises(WeightsError, match="none of its 8 tensors") as caught:
            load_into(net, state, what="f", strict=strict)
        assert reason in str(caught.value)


def test_classes_and_batch_norm_that_differ_are_said():
    from paddlefcn import VGG16, FCN8s

    def fcn(normed, classes):
        backbone = VGG16(width=2, batch_norm=normed)
        return FCN8s(backbone, num_classes=classes, fc_channels=4, fc6_kernel=1, batch_norm=normed)

    plain, normed, other = fcn(False, 3), fcn(True, 3), fcn(False, 4)
    with pytest.raises(WeightsError, match=r"has no BatchNorm; set model\.backbone\.batch_norm: false"):
        load_into(normed, arrays(plain), what="f")
    with pytest.raises(WeightsError, match=r"has BatchNorm; set model\.backbone\.batch_norm: true"):
        load_into(plain, arrays(normed), what="f")
    with pytest.raises(WeightsError, match="other classes than the config"):
        load_into(other, arrays(plain), what="f")
    with pytest.raises(WeightsError, match=r"a backbone alone; give it as model\.backbone\.pretrained"):
        load_into(plain, arrays(plain.backbone), what="f")


# --- normalisation ---------------------------------------------------------------------------------

IMAGENET = {"scale": 255.0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "order": "RGB"}
CAFFE = {"scale": 1.0, "mean": [104.00699, 116.66877, 122.67892], "std": [1.0, 1.0, 1.0], "order": "BGR"}


def test_a_disagreement_about_the_images_shows_both():
    check_normalize({}, IMAGENET)
    check_normalize(normalize_metadata(CAFFE), CAFFE)
    with pytest.raises(
        WeightsError, match=r"scale: 1.0, mean: \[104.*BGR.*data.normalize is {scale: 255.0.*RGB"
    ):
        check_normalize(normalize_metadata(CAFFE), IMAGENET)
    with pytest.raises(WeightsError, match="order: RGB"):
        check_normalize(normalize_metadata(CAFFE), {**CAFFE, "order": "RGB"})


def test_two_ways_of_writing_one_normalisation_agree():
    in_grey_levels = {
        "scale": 1.0, "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "order": "RGB"
    }  # fmt: skip
    check_normalize(normalize_metadata(IMAGENET), in_grey_levels)
    with pytest.raises(WeightsError):
        check_normalize(normalize_metadata(IMAGENET), {**in_grey_levels, "std": [1.0, 1.0, 1.0]})


def test_a_normalisation_that_cannot_be_read_is_said():
    for text in ("{", "[]", '{"mean": []}', '{"mean": "x", "std": [1], "scale": 1}'):
        with pytest.raises(WeightsError, match=r"paddlefcn\.normalize cannot be read"):
            check_normalize({"paddlefcn.normalize": text}, IMAGENET)
