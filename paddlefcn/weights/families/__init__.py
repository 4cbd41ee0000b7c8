"""Foreign weight files by family, one file each: its names, its detection, its published normalisation.

A family is a module with ``FORMATS`` (what `import-weights --format` calls it), ``detect(container, state)``
(the format, or None), ``translate(foreign, state)`` (tensors in our names) and ``images(foreign)`` (how
its library normalises images).
"""

from __future__ import annotations

from typing import Any

from paddlefcn.weights.families import fcn_authors, own, rows

# in the order in which they are asked whether a file is theirs
FAMILIES: tuple[Any, ...] = (own, rows, fcn_authors)
