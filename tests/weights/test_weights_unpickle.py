"""Nothing in a weight file is run, and none makes the reader take memory that the file does not hold."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from paddlefcn.errors import WeightsError
from paddlefcn.weights import read_state
from paddlefcn.weights.foreign import read_foreign
from paddlefcn.weights.unpickle import RefusedError, settle, unpickle


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


ATTACKS = [
    (os.system, ("echo run > MARK",), r"posix\.system|nt\.system"),
    (eval, ("__import__('os').system('echo run > MARK')",), r"builtins\.eval\(\"__import__\('os'\)"),
    (exec, ("open('MARK', 'w')",), r"built.*\.exec"),
    (open, ("MARK", "w"), r"io\.open"),
    (getattr, (os, "system"), r"built.*\.getattr"),
    (__import__, ("os",), r"built.*\.__import__"),
    (np.load, ("MARK",), r"numpy\.load"),
    (print, ("hello",), r"built.*\.print"),
]


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(("function", "arguments", "named"), ATTACKS)
def test_a_crafted_pickle_is_refused_by_the_name_of_what_it_calls(
    tmp_path, monkeypatch, function, arguments, named, protocol
):
    monkeypatch.chdir(tmp_path)
    if function is getattr:
        arguments = ("os", "system")
    path = tmp_path / "evil.pdparams"
    path.write_bytes(pickle.dumps({"w": Call(function, *arguments)}, protocol))
    with pytest.raises(WeightsError, match=named) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "MARK").exists()


def test_a_crafted_pickle_inside_a_pth_is_refused(tmp_path):
    data = pickle.dumps({"w": Call(os.system, "echo run")}, 2)
    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
        archive.writestr("archive/data.pkl", data)
    head = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {}))
    (tmp_path / "old.pth").write_bytes(head + data + pickle.dumps([], 2))
    for name in ("evil.pth", "old.pth"):
        with pytest.raises(WeightsError, match=r"refused: the file tries to call posix\.system|nt\.system"):
            read_foreign(tmp_path / name)


def test_inst_and_obj_opcodes_are_refused_too():
    for code in (b"(S'echo'\nios\nsystem\n.", b"(cos\nsystem\nS'echo'\no."):
        with pytest.raises(RefusedError, match=r"os\.system"):
            unpickle(io.BytesIO(code))


def test_setting_the_state_of_anything_else_is_refused():
    code = b"\x80\x02]q\x00}b."  # BUILD on a list
    with pytest.raises(RefusedError, match="set the state of a list"):
        unpickle(io.BytesIO(code))


def test_an_array_subclass_and_object_arrays_are_refused():
    masked = np.ma.masked_array([1.0], mask=[True])
    with pytest.raises(RefusedError, match=r"numpy\.ma"):
        unpickle(io.BytesIO(pickle.dumps(masked, 2)))
    with pytest.raises(RefusedError, match="only numbers are read"):
        unpickle(io.BytesIO(pickle.dumps(np.array([{}], dtype=object), 2)))


def test_extension_codes_and_unknown_opcodes_end_as_one_line(tmp_path):
    path = tmp_path / "x.pdparams"
    for code in (b"\x80\x02\x82\x01.", b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.", b"\x80\x02\xfe."):
        path.write_bytes(code)
        with pytest.raises(WeightsError):
            read_state(path)


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x04N" + b"r\xff\xff\xff\x7f.",  # a memo of two billion places
        b"\x80\x04\x8e" + struct.pack("<Q", 2**60),  # bytes
        b"\x80\x04\x8d" + struct.pack("<Q", 2**60),  # text
        b"\x80\x04\x95" + struct.pack("<Q", 2**60),  # a frame
        b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1),  # an integer
        b"\x80\x02B\xff\xff\xff\x7f",
        b"I" + b"9" * 200_000 + b"\n.",
    ],
)
def test_sizes_that_the_file_does_not_hold_take_no_memory(tmp_path, code):
    import tracemalloc

    path = tmp_path / "x.pdparams"
    path.write_bytes(code)
    tracemalloc.start()
    with pytest.raises(WeightsError):
        read_state(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_an_array_of_an_absurd_shape_takes_no_memory(tmp_path):
    code = pickle.dumps({"w": np.zeros(4, "float32")}, 2)
    evil = code.replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85")
    assert evil != code
    (tmp_path / "x.pdparams").write_bytes(evil)
    with pytest.raises(WeightsError, match=r"shape \(2147483647,\)"):
        read_state(tmp_path / "x.pdparams")


def test_a_value_copied_over_and_over_is_refused():
    # a list of 20,000 from the memo, turned into a tuple 20,000 times
    items = b"(" + b"K\x01" * 20_000 + b"lq\x00"
    copies = b"c__builtin__\ntuple\nq\x01" + b"(" + b"h\x01h\x00\x85R" * 20_000 + b"l."
    with pytest.raises(RefusedError, match="over and over"):
        unpickle(io.BytesIO(b"\x80\x02" + items + copies))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_and_numpy_write_is_read(protocol):
    arrays = {
        "float": np.arange(6, dtype="float32").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "half": np.ones(2, "float16"),
        "bool": np.array([True, False]),
        "none": np.zeros((0, 3), "float32"),
        "scalar": np.array(2.5),
        "number": np.float64(1.5),
        "tensor": ("conv_0.w_0", np.ones(3, "float32")),
        "dense": np.ones(2),
    }
    code = pickle.dumps(OrderedDict(arrays), protocol)
    read = unpickle(io.BytesIO(code))
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        array = array[1] if isinstance(array, tuple) else array
        value = settle(read[name])
        np.testing.assert_array_equal(value, array)
        assert value.dtype == array.dtype


def test_a_pickle_of_python_2_is_read():
    # what Python 2 wrote: bytes as BINSTRING, and the modules' old names
    values = np.array([1.5, -2.0], "<f4")
    code = (
        b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x08" + values.tobytes() + b"tbs."
    )
    assert any(op.name == "SHORT_BINSTRING" for op, _, _ in pickletools.genops(code))
    np.testing.assert_array_equal(settle(unpickle(io.BytesIO(code))["w"]), values)


def test_paddles_dense_tensors_written_as_eval_are_read():
    array = np.ones(3, "float32")
    code = pickle.dumps({"w": Call(eval, "data", {"data": array})}, 4)
    np.testing.assert_array_equal(settle(unpickle(io.BytesIO(code))["w"]), array)
