"""What the fuzz tests share: how many cases, what a case may do, and mutated bytes.

A case fails if another error than ours comes out, if it takes longer than a deadline, or if it needs more
memory than a bound.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import struct
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from paddlefcn.errors import RunError, UserError

sys.path.append(str(Path(__file__).resolve().parent / "data"))  # image_bombs, raw_server

CASES = int(os.environ.get("PADDLEFCN_FUZZ_CASES", "400"))
KINDS = 15  # kinds of input in test_fuzz.py, test_fuzz_files.py and test_fuzz_texts.py, which share the cases
SECONDS = 20  # a case that takes longer hangs
MEGABYTES = 800  # what a case may allocate at most

COUNTS: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)

fuzz = settings(
    max_examples=max(1, CASES // KINDS),
    deadline=None,  # measured below: the first case of a kind also imports
    database=None,
    # the suite's cases are the same every time; a long run looks for new ones
    derandomize="PADDLEFCN_FUZZ_CASES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def bounded_memory():
    """Allocations beyond the bound fail here as they would on a smaller machine."""
    resource = pytest.importorskip("resource")
    if not os.path.exists("/proc/self/statm"):
        yield
        return
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEGABYTES * 2**20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
    print()
    for kind in [*COUNTS]:
        counts = COUNTS.pop(kind)
        print(f"{kind}: {sum(counts.values())} cases, {dict(counts)}")


@contextlib.contextmanager
def _alarm():
    """Ends a case that hangs, so that the search goes on to the smallest one that does."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number, frame):
        raise AssertionError(f"a case that takes more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def allowed(kind: str, act) -> None:
    """Runs a case: a result or one of our errors, in one line, in time."""
    start = time.monotonic()
    try:
        with _alarm():
            act()
        outcome = "accepted"
    except (UserError, RunError) as error:
        outcome = type(error).__name__
        text = str(error)
        assert text.strip(), "an error without a message"
        assert len(text) < 10_000, f"an error of {len(text)} characters"
    assert time.monotonic() - start < SECONDS
    COUNTS[kind][outcome] += 1


@st.composite
def mutated(draw, contents):
    """One of the contents, cut, overwritten, repeated or with bytes put in, a few times."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, 4))):
        # half of the changes go to the first bytes, where headers are
        end = min(len(content), 512) if draw(st.booleans()) else len(content)
        at = draw(st.integers(0, max(0, end)))
        how = draw(st.sampled_from(("cut", "set", "flip", "put", "repeat", "number")))
        if how == "cut":
            del content[at : at + draw(st.sampled_from((1, 4, 64, 10**9)))]
        elif how == "set" and at < len(content):
            content[at] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x7B)))
        elif how == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "put":
            content[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif how == "repeat":
            content[at:at] = content[at : at + 64] * draw(st.sampled_from((1, 3, 200)))
        elif how == "number":  # sizes and offsets
            value = draw(st.sampled_from((0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63)))
            packed = struct.pack(draw(st.sampled_from("<>")) + "Q", value)
            content[at : at + 4] = packed[:4] if draw(st.booleans()) else packed[-4:]
    return bytes(content)
