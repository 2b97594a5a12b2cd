"""The whole test that a loss needs, unless it promises more than the contract."""

from ordage.losses.testing import check_loss


def test_mine_keeps_the_contract():
    """Values, gradients, shapes, errors, weights, dtypes: see CHECKS."""
    check_loss("mine")
