"""Pickles of a few bytes whose work, or memory, doubles with each of them. Nothing in them is called."""

from __future__ import annotations

import struct

_TORCH = b"ctorch._utils\n_rebuild_tensor_v2\n"


def doubled(depth: int, kind: bytes) -> bytes:
    """A list (`l`) or tuple (`t`) that holds the one before twice, `depth` deep; two bytes a level more."""
    return b"(" + kind + b"".join(b"q%c0(h%ch%c%s" % (i, i, i, kind) for i in range(depth))


def long(value: int) -> bytes:
    """A LONG1 or LONG4."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a%c" % len(raw) + raw if len(raw) < 256 else b"\x8b" + struct.pack("<i", len(raw)) + raw


_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
_DTYPE = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR"
_STORAGE = b"(U\x07storagectorch\nFloatStorage\n%sU\x03cpuK\x01tQ"
_MODULUS = 2**61 - 1  # integers apart by it have one hash

HASHED = {
    "a key of nested tuples": b"}" + doubled(60, b"t") + b"Ns.",
    "keys of one dict": b"(" + doubled(60, b"t") + b"Nd.",
    "keys of items": b"}(" + doubled(60, b"t") + b"Nu.",
    "keys of an OrderedDict": b"ccollections\nOrderedDict\n(((" + doubled(60, b"t") + b"NtltR.",
}
SAID = {
    "an encoding": b"c_codecs\nencode\n(U\x01x" + doubled(60, b"l") + b"tR.",
    "a source for eval": b"cbuiltins\neval\n(" + doubled(60, b"l") + b"NtR.",
    "an order": b"cnumpy.core.numeric\n_frombuffer\n(U\x04abcd"
    + _DTYPE
    + b"K\x01\x85"
    + doubled(60, b"l")
    + b"tR.",
    "a dtype": b"cnumpy\ndtype\n(" + doubled(60, b"l") + b"tR.",
    "a shape": _ARRAY + b"(K\x01" + doubled(60, b"l") + _DTYPE + b"\x89U\x04abcdtb.",
    "a storage's key": _STORAGE % doubled(60, b"l") + b".",
    "a storage's count": b"(U\x07storagectorch\nFloatStorage\nU\x01kU\x03cpu" + doubled(60, b"l") + b"tQ.",
    "a tensor's size": _TORCH + b"(" + _STORAGE % b"U\x01k" + b"K\x00" + doubled(60, b"l") + b"K\x01\x85tR.",
}
COLLIDING = {
    "integers of one hash": b"}(" + b"".join(long(i * _MODULUS) + b"N" for i in range(1, 30_000)) + b"u.",
    "floats of one hash": b"}("
    + b"".join(b"G" + struct.pack(">d", float(i << 61)) + b"N" for i in range(1, 30_000))
    + b"u.",
    "tuples of one hash": b"}(" + b"".join(long(i * _MODULUS) + b"\x85N" for i in range(1, 30_000)) + b"u.",
}
_BIG = b"\x8b" + struct.pack("<i", 200_000) + b"\x7f" * 200_000 + b"q\x00"
_SHAPE = b"0(" + b"h\x00" * 32 + b"tq\x010"
MEASURELESS = {
    "a product of huge sizes": _BIG
    + _SHAPE
    + b"".join(_ARRAY + b"(K\x01h\x01" + _DTYPE + b"\x89U\x04abcdtb0" for _ in range(1000))
    + b"N.",
    "bytes copied over and over": b"B"
    + struct.pack("<i", 500_000)
    + b"x" * 500_000
    + b"q\x00"
    + b"c__builtin__\ntuple\nq\x01("
    + b"h\x01h\x00\x85R" * 500
    + b"l.",
    "lists without number": b"]" * 1_500_000 + b".",
    "marks without number": b"(" * 1_500_000 + b".",
}
BOMBS = {
    name: b"\x80\x02" + code
    for group in (HASHED, SAID, COLLIDING, MEASURELESS)
    for name, code in group.items()
}
