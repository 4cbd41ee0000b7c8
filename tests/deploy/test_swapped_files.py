"""Files of an export in each other's places: each combination is one line, and no crash inside Paddle."""

from __future__ import annotations

import itertools
import shutil

import pytest
import yaml
from test_export import ABOUT, tiny

from paddlefcn.deploy.deployment import load_deployment
from paddlefcn.deploy.engines import create_engine
from paddlefcn.deploy.predictor import Predictor
from paddlefcn.deploy.writer import write_export
from paddlefcn.errors import ConfigError
from paddlefcn.files import checksum
from paddlefcn.models import FCN32s


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An export in Paddle's format."""
    place = tmp_path_factory.mktemp("exports") / "net"
    write_export(tiny(), ABOUT, place)
    (place / "deploy.yaml.sha256").unlink()
    return place


@pytest.fixture(scope="module")
def contents(folder):
    """What may lie under either name: (its own, the export it is of or None)."""
    from paddlefcn.deploy.programs import write_program
    from paddlefcn.deploy.targets import Target

    other = folder.with_name("other")
    other.mkdir()
    net = tiny(FCN32s)
    net.eval()
    files = write_program(net, Target(), other / "model", 3)
    program, params = (load_deployment(folder).files[role] for role in ("model", "params"))
    found = {
        "program": program.read_bytes(),
        "params": params.read_bytes(),
        "other program": files["model"].read_bytes(),
        "other params": files["params"].read_bytes(),
        "deploy.yaml": (folder / "deploy.yaml").read_bytes(),
        "nothing": b"",
        "a byte": b"\0",
        "JSON": b"{}",
    }
    found["cut params"] = found["params"][:-4]
    found["params twice"] = found["params"] * 2
    found["params and more"] = found["params"] + b"\0"
    found["zeros"] = bytes(5000)
    return found


def test_every_combination_of_wrong_files_is_refused_in_one_line(contents, tmp_path):
    right = {("program", "params"), ("other program", "other params")}
    for name, content in contents.items():
        for ending in (".json", ".pdiparams"):
            (tmp_path / f"{name}{ending}").write_bytes(content)
    for model, params in itertools.product(contents, repeat=2):
        if (model, params) in right:
            continue
        files = {"model": tmp_path / f"{model}.json", "params": tmp_path / f"{params}.pdiparams"}
        with pytest.raises(ConfigError) as caught:
            create_engine("native", files)
        assert "\n" not in str(caught.value), (model, params)
        assert str(tmp_path) in str(caught.value), (model, params)


def test_the_files_names_in_each_others_places_are_refused(folder, tmp_path):
    program, params = (load_deployment(folder).files[role].name for role in ("model", "params"))
    for names in itertools.product((program, params, "deploy.yaml"), repeat=2):
        if names == (program, params):
            continue
        tree = yaml.safe_load((folder / "deploy.yaml").read_text(encoding="utf-8"))
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "copy")
        for role, name in zip(("model", "params"), names):
            file = folder / name
            tree["files"][role] = {"name": name, "bytes": file.stat().st_size, "sha256": checksum(file)}
        (tmp_path / "copy" / "deploy.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        with pytest.raises(ConfigError, match=r"expected a name in|is not the file|has \d+ bytes"):
            Predictor(tmp_path / "copy")


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_program_of_another_runtime_is_refused(folder, tmp_path, runtime):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    text = (copy / "deploy.yaml").read_text(encoding="utf-8")
    (copy / "deploy.yaml").write_text(
        text.replace("runtime: paddle", f"runtime: {runtime}"), encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="expected a name in"):
        load_deployment(copy)
