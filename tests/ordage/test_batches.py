import time

import numpy as np
import torch

from ordage.data.batches import Batches


def gathered(batches, order, size):
    return [
        (batch.source[batch.index].numpy(), batch.target.numpy()) for batch in batches.take(torch.tensor(order), size)
    ]


def make(resident):
    images = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 3), dtype=np.uint8)
    row, target = np.arange(10, 40), np.arange(30) % 7
    batches = Batches(images, row, target, torch.device("cpu"))
    batches.resident = resident  # on a CPU every set is; this path is that of a set too large for its device
    return batches, images[row], target


def test_both_paths_give_the_rows_in_the_order_asked_for():
    order = np.random.default_rng(1).permutation(30)[:23].tolist()
    for resident in (True, False):
        batches, images, target = make(resident)

        found = gathered(batches, order, 8)

        assert [len(answer) for _, answer in found] == [8, 8, 7]
        np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in found]), images[order])
        np.testing.assert_array_equal(np.concatenate([answer for _, answer in found]), target[order])


def test_no_order_gives_no_batch():
    for resident in (True, False):
        assert gathered(make(resident)[0], [], 8) == []


class Slow(torch.Tensor):
    """Images, a batch of which takes at least a while to fetch."""

    while_ = 0.05
    waiting = None  # a clock, which is given time to start: the fetching begins a moment before the waiting

    def __getitem__(self, index):
        deadline = time.perf_counter() + 1
        while self.waiting and not self.waiting._begun and time.perf_counter() < deadline:
            time.sleep(0.001)
        time.sleep(self.while_)
        return super().__getitem__(index)


def test_waiting_for_a_batch_is_counted_and_what_lies_ready_is_not():
    batches, _, _ = make(resident=False)
    batches._images = batches._images.as_subclass(Slow)
    batches._images.waiting = batches.waiting

    gathered(batches, [0, 1, 2], 3)  # one batch, which nothing can be done before

    assert batches.waiting.pop_seconds() >= Slow.while_
    assert batches.waiting.pop_seconds() == 0
    resident, _, _ = make(resident=True)
    gathered(resident, [0, 1, 2], 3)
    assert resident.waiting.pop_seconds() == 0
