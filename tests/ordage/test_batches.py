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
