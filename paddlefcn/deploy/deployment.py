"""deploy.yaml: everything a prediction needs but the network. Written by `export`, read by `Predictor`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddlefcn.classes import Classes
from paddlefcn.data.images import MAX_PIXELS
from paddlefcn.deploy.targets import Target
from paddlefcn.deploy.tiling import Tiling
from paddlefcn.errors import ConfigError
from paddlefcn.files import checksum, read_bytes
from paddlefcn.preprocess import Preprocess
from paddlefcn.refine.settings import RefineSettings
from paddlefcn.yaml_files import MAX_BYTES, parse_yaml

DEPLOY_FILE = "deploy.yaml"
CHECKSUM_FILE = "deploy.yaml.sha256"
_CLEARLY = 1.5  # times faster
FORMAT_VERSION = 2  # 1 had neither this number nor targets, tiling and a checksum

# what the files of each format are called
_ENDINGS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "paddle": {"model": (".json", ".pdmodel"), "params": (".pdiparams",)},
    "onnx": {"model": (".onnx",)},
    "openvino": {"model": (".xml",), "params": (".bin",)},
}


@dataclass(frozen=True)
class Deployment:
    """What deploy.yaml says; `files` is empty until there are any: "model" and "params", in one folder."""

    model_type: str
    preprocess: Preprocess
    classes: Classes
    max_pixels: int = MAX_PIXELS
    tiling: Tiling | None = None
    target: Target = field(default_factory=Target)
    engines: tuple[str, ...] = ()  # that passed the gate, the fastest first
    refine: RefineSettings = field(default_factory=RefineSettings)
    files: Mapping[str, Path] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The tree of deploy.yaml, with sizes and checksums of the files."""
        return {
            "model": self.model_type,
            "runtime": self.target.format,
            "precision": self.target.precision,
            "outputs": self.target.outputs,
            "files": {role: _file_entry(path) for role, path in self.files.items()},
            "preprocess": self.preprocess.to_dict(),
            **self.classes.to_dict(),
            "max_pixels": self.max_pixels,
            "tiling": None if self.tiling is None else self.tiling.to_dict(),
            "refine": self.refine.to_dict(),
        }


def load_deployment(model_dir: str | Path) -> Deployment:
    """Reads and checks deploy.yaml and the files it names; nothing in it can run code.

    Raises:
        ConfigError: one line that names the file, what is wrong and what would be right.
    """
    folder = Path(model_dir)
    file = folder / DEPLOY_FILE
    if not file.is_file():
        raise ConfigError(f"{folder}: no {DEPLOY_FILE} there; give a folder that `export` wrote")
    try:
        content = read_bytes(file, 4 * MAX_BYTES)
        _check_own_sum(folder, content)
        tree = parse_yaml(content.decode("utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{file}: expected a mapping of sections; export again")
    try:
        return _parse(tree, folder)
    except KeyError as error:
        raise ConfigError(f"{file}: {error.args[0]} is missing; export again") from error
    except ConfigError:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:500]
        raise ConfigError(f"{file}: is not as export writes it ({reason}); export again") from error


def _check_own_sum(folder: Path, text: bytes) -> None:
    path = folder / CHECKSUM_FILE
    if not path.is_file():
        return  # exports of before had none
    wanted = read_bytes(path, MAX_BYTES).split(maxsplit=1)[:1]
    if wanted != [hashlib.sha256(text).hexdigest().encode()]:
        raise ConfigError(
            f"{folder / DEPLOY_FILE} is not the file that {CHECKSUM_FILE} was written for; copy or export "
            f"again (delete {CHECKSUM_FILE} if you changed it yourself)"
        )


def _parse(tree: Mapping[str, Any], folder: Path) -> Deployment:
    version = tree.get("format_version", 1)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ConfigError(
            f"{folder / DEPLOY_FILE}: format_version {version!r:.40}; this paddlefcn reads up to "
            f"{FORMAT_VERSION}: update it, or export again"
        )
    target = Target(
        str(tree.get("runtime", "paddle")),
        str(tree.get("precision", "fp32")),
        str(tree.get("outputs", "logits")),
    )
    files: Mapping[str, Any] = tree["files"]
    roles = _ENDINGS[target.format]
    return Deployment(
        model_type=str(tree.get("model", "")),
        preprocess=Preprocess.from_dict(tree["preprocess"]),
        classes=Classes.from_dict(tree),
        max_pixels=int(tree.get("max_pixels", MAX_PIXELS)),
        tiling=Tiling.from_dict(tree["tiling"]) if tree.get("tiling") else None,
        target=target,
        engines=_engines(tree, target),
        refine=RefineSettings.from_dict(tree["refine"]) if tree.get("refine") else RefineSettings(),
        files={role: _own_file(folder, files[role], roles[role]) for role in roles},
    )


def _engines(tree: Mapping[str, Any], target: Target) -> tuple[str, ...]:
    """Those that passed, the fastest first; for an export on its way through the gate, all.

    Their order in `Target.engines` stands unless the time at the export clearly says otherwise: it was taken
    once, on another machine perhaps.
    """
    entries = {entry["engine"]: entry for entry in (tree.get("parity") or {}).get("engines", ())}
    passed = [name for name in target.engines if name in entries]
    known = {name: float(entries[name].get("milliseconds") or 0) for name in passed}
    order = sorted(passed, key=lambda name: known[name] * (1 if name == passed[0] else _CLEARLY))
    return tuple(order) or target.engines


def _file_entry(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": checksum(path)}


def _own_file(folder: Path, entry: Mapping[str, Any], endings: tuple[str, ...]) -> Path:
    """A file of this very folder, as it was exported: Paddle 2 dies of a damaged one without an error."""
    name, size, wanted = str(entry["name"]), int(entry["bytes"]), str(entry["sha256"])
    if Path(name).name != name:
        raise ValueError(f"files: {name!r} is not a plain file name")
    if Path(name).suffix not in endings:
        raise ValueError(f"files: {name!r}: expected a name in {' or '.join(endings)}")
    path = folder / name
    if not path.is_file():
        raise ConfigError(f"{path} is missing; copy the whole export folder")
    if path.stat().st_size != size:
        raise ConfigError(
            f"{path} has {path.stat().st_size} bytes, {DEPLOY_FILE} says {size}; copy or export again"
        )
    if checksum(path) != wanted:
        raise ConfigError(f"{path} is not the file that {DEPLOY_FILE} was written for; copy or export again")
    return path
