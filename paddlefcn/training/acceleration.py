"""Whether a run trains on the accelerator: as the recipe says, and as it began."""

from __future__ import annotations

import json
from pathlib import Path

from paddlefcn.accelerator import AcceleratorError, accelerator_for
from paddlefcn.errors import ConfigError

RECORD = "cpu_accelerator"  # in environment.json


def choose_accelerator(setting: bool | str, device: str, run: Path | None) -> tuple[bool, list[str]]:
    """Whether to use it, and lines for the log. A run goes on as it began, because its bits depend on it.

    Args:
        setting: `runtime.cpu_accelerator`: True, False or "auto".
        device: where the run computes.
        run: folder of the run that goes on; None for a new one.

    Raises:
        ConfigError: the recipe asks for something else than the run began with.
        AcceleratorError: the run began with it, or the recipe asks for it, and it cannot be had.
    """
    began = None if run is None else _began(run)
    if began is None:
        return accelerator_for(setting, device, _say)
    if setting not in ("auto", began):
        raise ConfigError(
            f"runtime.cpu_accelerator: {str(setting).lower()}, but {run} was started with "
            f"{str(began).lower()}; resume with auto, which goes on as it began"
        )
    try:
        return accelerator_for(began, device, _say)
    except AcceleratorError as error:
        raise AcceleratorError(
            f"{error}; {run} was started with the accelerator and goes on with it"
        ) from error


def _began(run: Path) -> bool | None:
    """What a run was started with; None where it wrote nothing yet."""
    try:
        environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # runs from before there was an accelerator
    return bool(environment.get(RECORD, False)) if isinstance(environment, dict) else None


def _say(line: str) -> None:
    print(line, flush=True)
