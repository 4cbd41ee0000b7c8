"""Weights that are not as they were written, or that are no numbers, are never scored nor exported."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from paddlefcn.commands import main


@pytest.mark.parametrize("command", ["val", "export"])
def test_a_flipped_bit_in_best_and_weights_that_are_not_finite_are_refused(tiny, tmp_path, capsys, command):
    options = tiny("train.iters=1", "train.previews=0")
    assert main(["train", *options]) == 0
    weights = tmp_path / "run" / "best" / "model.safetensors"
    state, content = load_file(weights), bytearray(weights.read_bytes())
    more = ["--output", str(tmp_path / "out")] if command == "export" else []
    content[-3] ^= 1
    weights.write_bytes(content)
    assert main([command, *options, "--weights", str(tmp_path / "run"), *more]) == 2
    assert "does not match its checksum" in capsys.readouterr().err
    name = next(name for name, value in state.items() if value.ndim == 4)
    state[name] = np.full_like(state[name], np.nan)
    save_file(state, tmp_path / "nan.safetensors")
    assert main([command, *options, "--weights", str(tmp_path / "nan.safetensors"), *more]) == 2
    assert f"{name} holds values that are not finite" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
