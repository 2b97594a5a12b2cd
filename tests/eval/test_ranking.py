import numpy as np
import pytest
import scipy.stats

from ordage.eval import rank_methods

# Demšar 2006, table 5(a): critical values of the two-tailed Nemenyi test at 0.05, by the number of methods.
CRITICAL = {3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


@pytest.mark.parametrize(("methods", "value"), CRITICAL.items())
def test_critical_difference_is_that_of_the_published_table(methods, value):
    scores = np.random.default_rng(0).random((12, methods))

    found = rank_methods(scores, [str(k) for k in range(methods)])

    assert found.critical_difference == pytest.approx(value * np.sqrt(methods * (methods + 1) / (6 * 12)), rel=1e-3)


def test_ranks_and_friedman_by_their_formulas():
    scores = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [1.0, 1.0, 3.0], [2.0, 1.0, 3.0], [1.0, 2.0, 3.0]])
    # By hand; the tie of the third shares the ranks 1 and 2.
    ranks = np.array([1 + 1 + 1.5 + 2 + 1, 2 + 3 + 1.5 + 1 + 2, 3 + 2 + 3 + 3 + 3]) / 5
    statistic = 12 * 5 / (3 * 4) * (np.sum(ranks**2) - 3 * 4**2 / 4)
    corrected = statistic / (1 - (2**3 - 2) / (5 * (3**3 - 3)))

    found = rank_methods(scores, ["a", "b", "c"])

    assert found.names == ("a", "b", "c")
    np.testing.assert_allclose(found.mean_ranks, ranks)
    assert found.p_value == pytest.approx(scipy.stats.chi2.sf(corrected, 2))
    assert found.n == 5


def test_neighbours_that_do_not_differ_are_joined_once():
    scores = np.tile([1.0, 2.0, 10.0, 11.0], (40, 1))
    scores[::2, :2] = scores[::2, 1::-1]
    scores[::2, 2:] = scores[::2, :1:-1]

    found = rank_methods(scores, list("abcd"))

    assert found.groups == ((0, 1), (2, 3))
    assert found.p_value < 1e-6


def test_methods_that_are_all_alike_are_one_group():
    found = rank_methods(np.ones((6, 4)), list("abcd"))

    assert found.p_value == 1.0
    assert found.groups == ((0, 3),)


@pytest.mark.parametrize(
    ("scores", "names", "named"),
    [
        (np.ones((4, 3)), list("abc"), r"D >= 5 data sets and M >= 3 methods, but got \(4, 3\)"),
        (np.ones((5, 2)), list("ab"), r"but got \(5, 2\)"),
        (np.ones((5, 3)), list("ab"), "`names` for each of 3 methods, but got 2"),
        (np.full((5, 3), np.nan), list("abc"), "finite"),
    ],
)
def test_invalid_arguments_are_refused(scores, names, named):
    with pytest.raises(ValueError, match=named):
        rank_methods(scores, names)
