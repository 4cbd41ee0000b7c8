"""Foreign weight files by family, one file each: its names, its detection, its published normalisation.

A family is a module with ``FORMATS`` (what `import-weights --format` calls it), ``detect(container,
state, metadata)`` (the format, or None), ``translate(foreign, state)`` (tensors in our names; may also say
which network it is) and ``images(foreign)`` (how its library normalises images).
"""

from __future__ import annotations

from typing import Any

from paddlefcn.weights.families import fcn_authors, own, paddleseg, rows, smp, timm_nets, torchvision_nets

# in the order in which they are asked whether a file is theirs
FAMILIES: tuple[Any, ...] = (own, rows, paddleseg, smp, timm_nets, torchvision_nets, fcn_authors)
