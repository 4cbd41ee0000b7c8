"""A program is read before any engine sees it; operators that no network needs are refused by name."""

import json

import pytest

from paddlefcn.deploy.operators import check_operators
from paddlefcn.errors import ConfigError


def program(*operators):
    """Paddle's JSON as it is written, with the operators in a nested block."""
    ops = [{"#": name, "I": [], "O": []} for name in operators]
    return {"base_code": {}, "program": {"regions": [{"#": "region_0", "blocks": [{"#": "b", "ops": ops}]}]}}


def field(number, content):
    assert len(content) < 1 << 14
    length = (
        bytes([len(content) & 0x7F | 0x80, len(content) >> 7])
        if len(content) > 127
        else bytes([len(content)])
    )
    return bytes([number << 3 | 2]) + length + content


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def pdmodel(*operators):
    return field(1, b"\x08\x00" + b"".join(field(4, field(3, name.encode())) for name in operators))


def onnx(*nodes, graph=b""):
    return b"\x08\x08" + field(7, b"".join(field(1, node) for node in nodes) + graph)


def test_what_networks_compute_with_passes_in_every_format(tmp_path):
    check_operators(
        written(tmp_path / "a.json", program("p", "1.conv2d", "1.batch_norm_", "0.combine", "1.relu"))
    )
    check_operators(written(tmp_path / "a.pdmodel", pdmodel("feed", "conv2d", "elementwise_add", "reshape2")))
    check_operators(written(tmp_path / "a.onnx", onnx(field(4, b"Conv"), field(4, b"Resize"))))
    xml = b'<?xml version="1.0"?><net><layers><layer type="Convolution" version="opset1"/></layers></net>'
    check_operators(written(tmp_path / "a.xml", xml))


NESTED = program("1.relu")
NESTED["program"]["regions"][0]["blocks"][0]["ops"][0]["regions"] = [{"blocks": [{"ops": [{"#": "1.save"}]}]}]
SUBGRAPH = field(1, field(4, b"If"))


@pytest.mark.parametrize(
    ("name", "content", "operator"),
    [
        ("a.json", program("1.relu", "1.save_combine"), "save_combine"),
        ("a.json", program("1.py_func"), "py_func"),
        ("a.json", program("1.print"), "print"),
        ("a.json", program("3.relu"), "3.relu"),
        ("a.json", program("custom_op.relu"), "custom_op.relu"),
        ("a.json", NESTED, "save"),
        ("a.pdmodel", pdmodel("feed", "save_combine"), "save_combine"),
        ("a.pdmodel", pdmodel("py_func"), "py_func"),
        ("a.pdmodel", pdmodel("run_program"), "run_program"),
        ("a.onnx", onnx(field(4, b"Conv"), field(4, b"LoadFile")), "LoadFile"),
        ("a.onnx", onnx(field(4, b"Conv") + field(7, b"com.stranger")), "com.stranger"),
        ("a.onnx", onnx(field(4, b"Conv"), graph=field(5, field(13, b"/etc/passwd"))), "external_data"),
        ("a.onnx", onnx(field(4, b"Conv") + field(5, field(6, field(1, field(4, b"Evil"))))), "Evil"),
        ("a.xml", b'<net><layers><layer type="Evil" version="opset1"/></layers></net>', "Evil"),
        ("a.xml", b'<net><layers><layer type="Add" version="mine"/></layers></net>', "extension"),
    ],
)
def test_an_operator_that_no_network_needs_is_named_and_not_run(tmp_path, name, content, operator):
    with pytest.raises(ConfigError, match=f"holds the operator '{operator}.*it is not run"):
        check_operators(written(tmp_path / name, content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", {"program": {}}),
        ("a.json", {"program": {"ops": [7]}}),
        ("a.json", b"[" * 100_000),
        ("a.pdmodel", b"\x0a\xff\xff\xff"),
        ("a.pdmodel", b"\x0b"),
        ("a.onnx", b"\x3a" + b"\xff" * 12),
        ("a.xml", b"<net>"),
        ("a.xml", b'<!DOCTYPE net [<!ENTITY a "b">]><net/>'),
        ("a.bin", b""),
    ],
)
def test_what_is_no_program_is_one_readable_line(tmp_path, name, content):
    with pytest.raises(ConfigError, match=r"no program that export writes|a program ends in") as caught:
        check_operators(written(tmp_path / name, content))
    assert "\n" not in str(caught.value)
