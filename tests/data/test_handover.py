"""Results through shared memory: valid as long as they are held, and their memory used again after that."""

import multiprocessing
import os

import numpy as np
import pytest

from paddlefcn.data.handover import SMALLEST, Receiver, Sender

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="results go through the pipe here")


@pytest.fixture
def ends():
    there, here = multiprocessing.Pipe()
    yield Sender(there), Receiver(here)
    there.close()
    here.close()


def result(number, size=SMALLEST):
    return np.full((2, size), number, np.uint8), [f"name {number}"], np.arange(5) + number


def check(received, number, size=SMALLEST):
    expected = result(number, size)
    np.testing.assert_array_equal(received[0], expected[0])
    assert received[1] == expected[1]
    np.testing.assert_array_equal(received[2], expected[2])


def test_what_is_held_stays_as_it_was(ends):
    sender, receiver = ends
    held = []
    for number in range(5):
        sender.send(result(number))
        held.append(receiver.receive())
        sender.recycle(receiver.released())
    for number, received in enumerate(held):
        check(received, number)
        received[0][:] = 77  # and is the holder's to write to
    assert len(sender._pieces) == 5


def test_memory_that_was_let_go_is_used_again(ends):
    sender, receiver = ends
    for number in range(6):
        sender.send(result(number))
        check(receiver.receive(), number)
        sender.recycle(receiver.released())
    assert len(sender._pieces) == 1
    assert len(receiver._pieces) == 1


def test_a_part_of_an_array_holds_all_of_it(ends):
    sender, receiver = ends
    sender.send(result(1))
    part = receiver.receive()[0][1, 5:9]
    assert receiver.released() == []
    sender.send(result(2))
    receiver.receive()
    np.testing.assert_array_equal(part, 1)


def test_larger_results_take_the_place_of_smaller_memory(ends):
    sender, receiver = ends
    for number, size in enumerate([SMALLEST, 3 * SMALLEST, 2 * SMALLEST, 5 * SMALLEST, SMALLEST]):
        sender.send(result(number, size))
        check(receiver.receive(), number, size)
        sender.recycle(receiver.released())
    assert len(sender._pieces) == len(receiver._pieces) == 1


def test_little_results_and_results_without_arrays_come_through(ends):
    sender, receiver = ends
    for value in (None, "text", ValueError("oops"), np.arange(3)):
        sender.send(("result", value))
        kind, received = receiver.receive()
        assert kind == "result"
        assert repr(received) == repr(value)
    assert not sender._pieces


def test_no_descriptor_is_left_open(ends):
    sender, receiver = ends
    before = len(os.listdir("/proc/self/fd"))
    for number in range(4):
        sender.send(result(number, (number + 1) * SMALLEST))
        receiver.receive()
        sender.recycle(receiver.released())
    # one piece, mapped on both sides: a mapping has a descriptor of its own
    assert len(os.listdir("/proc/self/fd")) <= before + 2
