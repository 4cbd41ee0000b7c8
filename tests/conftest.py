"""What the tests share. The runtime comes first: threads are set before paddle is imported."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from paddlefcn import runtime

runtime.prepare()

REPO = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(config, items):
    if os.environ.get("PADDLEFCN_DATA"):
        return
    skip = pytest.mark.skip(reason="PADDLEFCN_DATA is not set")
    for item in items:
        if "real_data" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def repo() -> Path:
    """The checkout's root."""
    return REPO


@pytest.fixture(scope="session")
def kernels():
    """The accelerator's, built once on a machine; tests of them are skipped where they cannot be."""
    from paddlefcn.accelerator import AcceleratorError
    from paddlefcn.accelerator.building import built

    try:
        file = built()
    except AcceleratorError as error:
        if "failed" in str(error):
            raise
        pytest.skip(str(error))
    from paddlefcn.accelerator.kernels import Kernels

    return Kernels(file)


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for the files of a module of fuzz tests; each case replaces them."""
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture
def disk(tmp_path):
    """`disk(kilobytes)`: a folder on a small file system of its own."""
    mounted = []

    def make(kilobytes: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir(exist_ok=True)
        if not hasattr(os, "geteuid") or os.geteuid() or shutil.which("mount") is None:
            pytest.skip("mounting needs root")
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no mounts here")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def spoil_losses(monkeypatch, calls, how) -> None:
    """The training losses of these calls, from 1, are `how(loss)`; losses of a validation do not count."""
    from paddlefcn.losses import WeightedLosses

    count = []
    real = WeightedLosses.__call__

    def losses(self, outputs, label, *whole):
        value = real(self, outputs, label, *whole)
        if value.stop_gradient:
            return value
        count.append(1)
        return how(value) if len(count) in calls else value

    monkeypatch.setattr(WeightedLosses, "__call__", losses)


TINY = """
data:
  type: Shapes
  size: [32, 32]
  train_images: 8
  val_images: 4
  classes: [background, disk, square, triangle, striped, dotted]
  normalize: {scale: 255, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
  train_transforms: [{type: RandomFlip}, {type: RandomCrop, size: [32, 32]}]
  num_workers: 0
model:
  type: FCN8s
  backbone: {type: VGG, arch: [1, 1, 1, 1, 1], width: 2}
  fc_channels: 8
  fc6_kernel: 1
  dropout: 0.5
loss: [{type: CrossEntropy}]
optimizer: {type: Momentum, momentum: 0.9, weight_decay: 1e-4}
schedule: {type: Poly, learning_rate: 0.05, warmup_iters: 2}
train: {iters: 8, batch_size: 2, eval_iters: 4, save_iters: 2, log_iters: 2, previews: 1}
runtime: {cpu_accelerator: false}
"""


@pytest.fixture
def tiny(tmp_path):
    """A recipe that trains in a second: `tiny("key=value", …)` gives the arguments for a command."""
    recipe = tmp_path / "tiny.yml"
    recipe.write_text(TINY)

    def arguments(*options: str) -> list[str]:
        return ["-c", str(recipe), "-o", f"train.save_dir={tmp_path / 'run'}", *options]

    return arguments
