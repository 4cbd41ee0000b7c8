"""Files that are either complete or not there."""

from __future__ import annotations

import os
from pathlib import Path


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes beside the target and renames, so that a kill or a full disk leaves no torn file."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # the process id keeps two processes that write the same file from sharing the partial one
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
