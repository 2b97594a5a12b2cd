import math

import numpy as np
import pytest
import torch
from dlordinal import soft_labelling as dlordinal
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ordage.losses.soft_labels import (
    LABELS,
    beta_labels,
    binomial_labels,
    exponential_labels,
    gaussian_labels,
    geometric_labels,
    poisson_labels,
    sord_labels,
    triangular_labels,
)

quick = settings(deadline=None, database=None, max_examples=50)
sizes = st.integers(2, 60)
# Values of classes apart from each other: running sums of steps.
class_values = st.lists(st.floats(0.1, 20), min_size=2, max_size=12).map(lambda steps: np.cumsum(steps).tolist())

SIZES = [*range(2, 61), 101, 200, 1000]
VALUES = torch.tensor([0.0, 1.0, 5.0, 6.5, 20.0], dtype=torch.float64)


def check_table(table):
    """Rows that sum to one, none negative, each with its maximum at its own class and nowhere else."""
    assert table.dtype == torch.float64
    assert table.dim() == 2
    assert table.shape[0] == table.shape[1]
    assert bool((table >= 0).all())
    torch.testing.assert_close(table.sum(-1), torch.ones(len(table), dtype=torch.float64), rtol=0, atol=1e-12)
    others = table.clone().fill_diagonal_(-1)
    assert bool((table.diagonal() > others.amax(-1)).all())


def check_falls_away_from_the_class(table):
    steps = table.diff(dim=-1)
    assert bool((steps.tril(-1) >= 0).all())
    assert bool((steps.triu() <= 0).all())


def close(table, expected, **tolerance):
    torch.testing.assert_close(table, torch.as_tensor(np.asarray(expected, dtype=float)), **tolerance)


def by_formula(size, weight):
    """Rows of ``weight(own class, class)``, each divided by its sum."""
    rows = [[weight(j, k) for k in range(size)] for j in range(size)]
    return [[value / math.fsum(row) for value in row] for row in rows]


class TestEveryTable:
    @pytest.mark.parametrize("name", LABELS)
    @pytest.mark.parametrize("size", SIZES)
    def test_rows_are_distributions_with_their_only_maximum_at_their_class(self, name, size):
        table = LABELS[name](size)

        assert len(table) == size
        check_table(table)
        check_falls_away_from_the_class(table)

    @pytest.mark.parametrize("name", [name for name in LABELS if name != "poisson"])
    @pytest.mark.parametrize("size", SIZES)
    def test_mirrors_itself(self, name, size):
        table = LABELS[name](size)

        torch.testing.assert_close(table, table.flip(0, 1), rtol=1e-9, atol=1e-15)

    def test_names_are_those_of_the_functions(self):
        assert [table.__name__ for table in LABELS.values()] == [f"{name}_labels" for name in LABELS]

    @pytest.mark.parametrize("name", LABELS)
    @pytest.mark.parametrize("size", [1, 2.0, "3", True, None])
    def test_number_of_classes_must_be_an_integer_of_at_least_two(self, name, size):
        with pytest.raises(ValueError, match=r"`num_classes` to be an integer of at least 2, but got "):
            LABELS[name](size)


class TestBinomial:
    @pytest.mark.parametrize("size", [2, 3, 10, 101])
    def test_is_the_binomial_distribution_at_the_stated_probability(self, size):
        classes = np.arange(size)
        expected = [stats.binom.pmf(classes, size - 1, (j + 0.5) / size) for j in classes]

        close(binomial_labels(size), expected, rtol=1e-9, atol=1e-15)

    def test_row_in_the_middle_is_that_of_the_literature(self):
        # p = 1/2 under both rules.
        close(binomial_labels(7)[3], dlordinal.get_binomial_soft_labels(7)[3])


class TestPoisson:
    @pytest.mark.parametrize("size", [2, 3, 10, 101])
    def test_is_the_truncated_poisson_distribution_at_the_stated_rate(self, size):
        classes = np.arange(size)
        pmf = [stats.poisson.pmf(classes, j + 0.5) for j in classes]

        close(poisson_labels(size), [row / row.sum() for row in pmf], rtol=1e-9, atol=1e-15)


class TestBeta:
    @pytest.mark.parametrize("size", [2, 3, 10, 50])
    @pytest.mark.parametrize("spread", [0.4, 0.59, 3.0])
    def test_is_the_beta_density_with_its_mode_at_the_class(self, size, spread):
        x = (np.arange(size) + 0.5) / size
        expected = []
        for mode in x:
            nu = mode * (1 - mode) * size**2 / spread**2
            log_density = stats.beta.logpdf(x, nu * mode + 1, nu * (1 - mode) + 1)
            density = np.exp(log_density - log_density.max())
            expected.append(density / density.sum())

        close(beta_labels(size, spread), expected, rtol=1e-8, atol=1e-15)

    @pytest.mark.parametrize("size", [3, 6])
    def test_is_the_formula_of_the_divergence(self, size):
        def weight(j, k):
            m, x = (j + 0.5) / size, (k + 0.5) / size
            divergence = m * math.log(m / x) + (1 - m) * math.log((1 - m) / (1 - x))
            return math.exp(-m * (1 - m) * size**2 / 0.7**2 * divergence)

        close(beta_labels(size, spread=0.7), by_formula(size, weight))

    @pytest.mark.parametrize("spread", [1.0, 2.0, 5.0])
    def test_spread_is_the_standard_deviation_in_classes(self, spread):
        row = beta_labels(101, spread)[50]
        classes = torch.arange(101)

        variance = (row * (classes - (row * classes).sum()).square()).sum()

        assert variance.sqrt().item() == pytest.approx(spread, rel=0.02)

    def test_default_spread_is_the_closest_to_the_tables_of_the_paper(self):
        tables = {size: dlordinal.get_beta_soft_labels(size) for size in range(3, 15)}

        def difference(spread):
            return np.mean([abs(beta_labels(size, spread).numpy() - tables[size]).mean() for size in tables])

        spreads = [hundredth / 100 for hundredth in range(40, 81)]
        assert min(spreads, key=difference) == 0.59
        assert difference(0.59) < 0.033
        torch.testing.assert_close(beta_labels(9), beta_labels(9, spread=0.59))

    @pytest.mark.parametrize("size", range(3, 15))
    def test_difference_from_the_table_of_the_paper(self, size):
        difference = abs(beta_labels(size).numpy() - dlordinal.get_beta_soft_labels(size))

        # The paper's table for 14 classes is twice as wide as its others.
        assert difference.max() < (0.33 if size == 14 else 0.28)
        if 9 <= size < 14:
            assert difference[[(size - 1) // 2, size // 2]].max() < 0.01

    def test_standard_deviation_of_the_table_of_the_paper_doubles_at_14_classes(self):
        def deviation(size):
            row, classes = dlordinal.get_beta_soft_labels(size)[size // 2], np.arange(size)
            return math.sqrt((row * (classes - (row * classes).sum()) ** 2).sum())

        assert deviation(14) > 1.7 * deviation(13)

    @quick
    @given(sizes, st.floats(0.01, 100))
    def test_maximum_is_at_the_class_whatever_the_spread(self, size, spread):
        table = beta_labels(size, spread)

        check_table(table)
        check_falls_away_from_the_class(table)

    @pytest.mark.parametrize("spread", [1e-200, 1e-5])
    def test_no_spread_is_one_hot(self, spread):
        close(beta_labels(50, spread), np.eye(50))


class TestExponential:
    @quick
    @given(sizes, st.floats(0.05, 4), st.floats(0.05, 50))
    def test_equals_dlordinal(self, size, exponent, temperature):
        table = exponential_labels(size, exponent, temperature)

        check_table(table)
        close(table, dlordinal.get_exponential_soft_labels(size, exponent, temperature), rtol=1e-9, atol=1e-15)

    def test_is_the_formula(self):
        expected = by_formula(6, lambda j, k: math.exp(-(abs(j - k) ** 1.5) / 3))

        close(exponential_labels(6, exponent=1.5, temperature=3.0), expected)

    @pytest.mark.parametrize("options", [{"exponent": 1e3}, {"temperature": 1e-300}], ids=["exponent", "temperature"])
    def test_extremes_are_no_nan(self, options):
        check_table(exponential_labels(50, **options))


class TestTriangular:
    @pytest.mark.parametrize("neighbor", [1e-4, 0.01, 0.1, 0.2, 2 / 9])
    def test_is_the_triangular_distribution_of_the_stated_base(self, neighbor):
        half = 0.5 / (1 - math.sqrt(2 * neighbor))
        expected = []
        for j in range(6):
            edges = stats.triang.cdf(np.arange(7) - 0.5, c=0.5, loc=j - half, scale=2 * half)
            expected.append(np.diff(edges) / (edges[-1] - edges[0]))

        close(triangular_labels(6, neighbor), expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("neighbor", [0.01, 0.1, 0.2])
    def test_rows_between_the_ends_equal_dlordinal(self, neighbor):
        expected = dlordinal.get_triangular_soft_labels(8, neighbor)

        close(triangular_labels(8, neighbor)[1:-1], expected[1:-1], rtol=0, atol=1e-6)

    @quick
    @given(sizes, st.floats(0, 2 / 9, exclude_min=True))
    def test_maximum_is_at_the_class_whatever_the_neighbors_get(self, size, neighbor):
        table = triangular_labels(size, neighbor)

        check_table(table)
        torch.testing.assert_close(table, table.flip(0, 1))

    @pytest.mark.parametrize("neighbor", [0, -0.1, 0.2223, math.nan, "0.1"])
    def test_more_than_the_bound_is_an_error(self, neighbor):
        with pytest.raises(ValueError, match=r"`neighbor` to be a number above 0 and at most 2/9 .*, but got "):
            triangular_labels(5, neighbor)


class TestGeometric:
    @quick
    @given(sizes, st.floats(1e-3, 0.49))
    def test_equals_dlordinal(self, size, alpha):
        close(geometric_labels(size, alpha), dlordinal.get_geometric_soft_labels(size, alpha), rtol=1e-9, atol=1e-15)

    @quick
    @given(sizes, st.floats(0, 0.5, exclude_min=True, exclude_max=True))
    def test_maximum_is_at_the_class_whatever_the_others_get(self, size, alpha):
        table = geometric_labels(size, alpha)

        check_table(table)
        assert table.diagonal().tolist() == [1 - alpha] * size

    @pytest.mark.parametrize("alpha", [0, 0.5, 1.0, -0.1, math.nan, "0.1"])
    def test_alpha_that_could_outweigh_the_class_is_an_error(self, alpha):
        with pytest.raises(ValueError, match=r"`alpha` to be a number strictly between 0 and 1/2 .*, but got "):
            geometric_labels(5, alpha)


class TestGaussian:
    @pytest.mark.parametrize("sigma", [0.5, 2, 10.0])
    def test_is_the_normal_density_at_the_values(self, sigma):
        density = np.array([stats.norm.pdf(VALUES.numpy(), loc, sigma) for loc in VALUES.tolist()])

        close(gaussian_labels(VALUES, sigma), density / density.sum(-1, keepdims=True))

    def test_on_classes_of_one_unit_it_is_an_exponential_table(self):
        close(gaussian_labels(range(9), sigma=3.0), exponential_labels(9, exponent=2.0, temperature=18.0))

    @quick
    @given(class_values, st.floats(0.01, 1e3))
    def test_maximum_is_at_the_class_whatever_the_values_and_the_width(self, values, sigma):
        table = gaussian_labels(values, sigma)

        check_table(table)
        check_falls_away_from_the_class(table)

    @pytest.mark.parametrize("sigma", [1e-300, 1e-3])
    def test_no_width_is_one_hot(self, sigma):
        close(gaussian_labels(VALUES, sigma), np.eye(5))


class TestSord:
    @pytest.mark.parametrize(
        ("distance", "phi"), [("absolute", lambda a, b: abs(a - b)), ("squared", lambda a, b: (a - b) ** 2)]
    )
    def test_is_the_formula_of_the_paper(self, distance, phi):
        values = VALUES.tolist()
        expected = by_formula(5, lambda j, k: math.exp(-0.3 * phi(values[j], values[k])))

        close(sord_labels(VALUES, distance, scale=0.3), expected)

    def test_absolute_on_classes_of_one_unit_is_the_exponential_table(self):
        close(sord_labels(range(9)), exponential_labels(9))

    def test_squared_is_the_gaussian_table(self):
        close(sord_labels(VALUES, "squared", scale=1 / 8), gaussian_labels(VALUES, sigma=2.0))

    @quick
    @given(class_values, st.sampled_from(["absolute", "squared"]), st.floats(1e-3, 1e3))
    def test_maximum_is_at_the_class_whatever_the_values_and_the_scale(self, values, distance, scale):
        table = sord_labels(values, distance, scale)

        check_table(table)
        check_falls_away_from_the_class(table)

    @pytest.mark.parametrize("distance", ["absolute", "squared"])
    def test_huge_scale_is_one_hot(self, distance):
        close(sord_labels(VALUES, distance, scale=1e308), np.eye(5))

    def test_unknown_distance_is_an_error(self):
        with pytest.raises(
            ValueError, match=r"`distance` to be one of 'absolute', 'squared', but got 'square'.*'squared'"
        ):
            sord_labels(VALUES, "square")


BY_VALUE = pytest.mark.parametrize(
    "make",
    [
        gaussian_labels,
        lambda values, scale=1.0: sord_labels(values, "absolute", scale),
        lambda values, scale=1.0: sord_labels(values, "squared", scale),
    ],
    ids=["gaussian", "sord absolute", "sord squared"],
)


@BY_VALUE
class TestTablesOfValues:
    def test_values_may_be_of_any_type_and_in_any_order(self, make):
        values = [3, 0, 20, 1]
        expected = make(torch.tensor(values, dtype=torch.float64))

        check_table(expected)
        for given_as in (values, np.array(values), torch.tensor(values), torch.tensor(values, dtype=torch.float16)):
            close(make(given_as), expected)

    def test_sequence_is_not_rounded_to_single_precision(self, make):
        values = [0.1, 0.7, 1.3]

        close(make(values), make(torch.tensor(values, dtype=torch.float64)), rtol=0, atol=0)

    def test_thousand_classes(self, make):
        table = make(torch.arange(1000.0))

        check_table(table)
        torch.testing.assert_close(table, table.flip(0, 1))

    def test_values_are_not_read(self, make):
        # A tensor on "meta" has none.
        table = make(torch.empty(7, device="meta"))

        assert (table.shape, table.dtype, table.device.type) == ((7, 7), torch.float64, "meta")

    @pytest.mark.filterwarnings("ignore")  # what the compiler has to say about itself
    def test_compiles_to_one_graph(self, make):
        torch.compiler.reset()
        compiled = torch.compile(make, fullgraph=True, backend="aot_eager")

        for scale in (1.0, 0.25, 3):
            close(compiled(VALUES, scale), make(VALUES, scale))

    @pytest.mark.parametrize(
        "values",
        [
            torch.tensor([3.0]),
            torch.tensor(3.0),
            torch.zeros(2, 2),
            torch.tensor([True, False]),
            torch.tensor([0j, 1j]),
            [1.0],
            ["a", "b"],
            [[0, 1], [2]],
            None,
        ],
    )
    def test_other_than_numbers_in_one_dimension_are_an_error(self, make, values):
        with pytest.raises(
            ValueError, match=r"`class_values` to hold at least 2 numbers in one dimension, but got (?!tensor)"
        ):
            make(values)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda value: beta_labels(5, spread=value), "spread"),
        (lambda value: exponential_labels(5, exponent=value), "exponent"),
        (lambda value: exponential_labels(5, temperature=value), "temperature"),
        (lambda value: gaussian_labels(VALUES, sigma=value), "sigma"),
        (lambda value: sord_labels(VALUES, scale=value), "scale"),
    ],
    ids=["spread", "exponent", "temperature", "sigma", "scale"],
)
@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan, "1", None])
def test_option_must_be_a_finite_number_above_zero(make, argument, value):
    with pytest.raises(ValueError, match=rf"`{argument}` to be a finite number above 0, but got "):
        make(value)
