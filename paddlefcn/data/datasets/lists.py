"""List files: which pairs a split has."""

from __future__ import annotations

import collections
import io
from collections.abc import Sequence
from pathlib import Path

from paddlefcn.data.datasets.base import FilePairs, Sample
from paddlefcn.errors import DataError
from paddlefcn.files import read_text

_LONGEST_LINE = 2 * 4096  # two paths as long as Linux takes them
_LARGEST_LIST = 1 << 28


class ListFile(FilePairs):
    """List files: every line is `IMAGE LABEL`, relative to `root`.

    `separator` is what stands between the two; by default a tab if there is one in the line, else blanks.
    `train`, `val` and `test` name the list file of each split, or several of them.

    Raises:
        DataError: a missing or empty list, or a line that is no pair.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        train: str | Sequence[str] = "train.txt",
        val: str | Sequence[str] = "val.txt",
        test: str | Sequence[str] | None = None,
        separator: str | None = None,
    ) -> None:
        base = Path(root)
        if separator is not None and (not isinstance(separator, str) or not separator):
            raise ValueError(f"separator: expected text such as ',' or a tab, got {separator!r}")
        self.samples, self.remarks = [], []
        for name in split_names(split, train=train, val=val, test=test):
            path = base / name
            for number, line in read_lines(path):
                cut = separator or ("\t" if "\t" in line else None)
                parts = [part.strip() for part in line.split(cut)]
                if len(parts) != 2 or not all(parts) or "\0" in line:
                    raise DataError(
                        f"{path}:{number}: {line[:80]!r}: expected IMAGE LABEL, two paths; if a name holds "
                        f"blanks, put a tab between them or set data.separator"
                    )
                self.samples.append(Sample(parts[0], base / parts[0], base / parts[1]))
        self.remarks += doubled_names(self.samples)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(line number, text) of every line that is not blank. Raises DataError; an empty list is one."""
    try:
        text = read_text(path, _LARGEST_LIST).removeprefix("\ufeff")
        lines = [(number, line.strip()) for number, line in enumerate(io.StringIO(text, newline=None), 1)]
    except UnicodeDecodeError as error:
        raise DataError(f"list {path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (OSError, ValueError) as error:
        raise DataError(f"list {path}: {getattr(error, 'strerror', None) or error}") from None
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise DataError(f"list {path}: is empty")
    for number, line in lines:
        if len(line) > _LONGEST_LINE:
            raise DataError(f"{path}:{number}: a line of {len(line)} characters; expected paths")
    return lines


def split_names(split: str, **lists: str | Sequence[str] | None) -> list[str]:
    """The list names of a split; ValueError for a wrong kind of argument, DataError for no such split."""
    for key, value in lists.items():
        several = isinstance(value, (list, tuple)) and value and all(isinstance(name, str) for name in value)
        if value is not None and not isinstance(value, str) and not several:
            raise ValueError(f"{key}: expected a name or a list of names, got {value!r}")
    chosen = lists.get(split)
    if not chosen:
        known = ", ".join(name for name, value in lists.items() if value)
        raise DataError(f"no split {split!r}; this data set has {known} (set data.{split})")
    return [chosen] if isinstance(chosen, str) else list(chosen)


def doubled_names(samples: Sequence[Sample]) -> list[str]:
    """A line for each name that stands more than once."""
    counts = collections.Counter(sample.name for sample in samples)
    doubled = sorted((name, count) for name, count in counts.items() if count > 1)
    return [f"{name}: stands {count} times in the list; remove the other lines" for name, count in doubled]
