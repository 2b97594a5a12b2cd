import itertools
import math

import mpmath
import pytest
import torch
from dlordinal.output_layers import CLM
from hypothesis import given, settings
from hypothesis import strategies as st

from ordage.losses import OrderedHead
from ordage.losses.clm import ClmLoss, clm_log_probs, clm_loss

LINKS = ["logit", "probit", "cloglog"]
DTYPES = [torch.float32, torch.float64]

quick = settings(deadline=None, database=None, max_examples=50)
links = st.sampled_from(LINKS)
rows = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=12)
all_links = pytest.mark.parametrize("link", LINKS)
all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

# Both logits far on one side, around the middle, confident and right: from 1e-3 apart to the whole range.
PAIRS = [
    (upper, upper - gap)
    for upper, gap in itertools.product(
        [-29.0, -17.25, -8.5, -3.0, -0.75, 0.0, 0.5, 2.0, 6.25, 12.0, 21.0, 30.0],
        [1e-3, 4e-3, 0.03, 0.1, 0.19, 0.22, 0.4, 1.0, 2.5, 6.0, 12.5, 20.0, 41.0],
    )
    if upper - gap >= -30
]


def survival(link, t):
    """1 - F(t) of the link, as McCullagh 1980 writes it."""
    if link == "logit":
        return 1 / (1 + mpmath.exp(t))
    return mpmath.ncdf(-t) if link == "probit" else mpmath.exp(-mpmath.exp(t))


def likelihood(link, upper, lower):
    """F(theta_y - f) - F(theta_{y-1} - f), with upper = f - theta_{y-1}, lower = f - theta_y, None beyond the ends."""
    return (1 if upper is None else survival(link, -upper)) - (0 if lower is None else survival(link, -lower))


def exact(link, upper, lower):
    """Loss and its derivatives by the given logits, in that order."""

    def loss(*logits):
        logits = iter(logits)
        pair = [None if side is None else next(logits) for side in (upper, lower)]
        return -mpmath.log(likelihood(link, *pair))

    # Enough digits for the difference of two numbers that are 1e-200 away from one.
    with mpmath.workdps(300):
        point = [mpmath.mpf(side) for side in (upper, lower) if side is not None]
        value = loss(*point)
        if len(point) == 1:
            return value, [mpmath.diff(loss, point[0])]
        return value, [mpmath.diff(loss, tuple(point), order) for order in ((1, 0), (0, 1))]


def relative_error(actual, expected, scale):
    return float(abs(mpmath.mpf(actual) - expected) / abs(scale))


def value_and_grad(logits, target, link):
    logits = logits.clone().requires_grad_()
    losses = clm_loss(logits, target, link=link, reduction="none")
    losses.sum().backward()
    return losses.detach(), logits.grad


@pytest.mark.parametrize(
    ("link", "older"),
    [
        ("logit", lambda p: math.log(p / (1 - p))),
        ("probit", lambda p: math.sqrt(2) * float(mpmath.erfinv(2 * p - 1))),
        ("cloglog", lambda p: -math.log(-math.log(p))),
    ],
)
def test_value_by_hand(link, older):
    # P(y > 0) = 3/4 and P(y > 1) = 1/4, so the classes have 1/4, 1/2 and 1/4.
    logits = torch.tensor([older(0.75), older(0.25)]).expand(3, 2)

    losses = clm_loss(logits, torch.tensor([0, 1, 2]), link=link, reduction="none")

    torch.testing.assert_close(losses, torch.tensor([4.0, 2.0, 4.0]).log())


@all_links
def test_probabilities_equal_dlordinal(link):
    scores = torch.linspace(-2, 2, 9, dtype=torch.float64)
    reference = CLM(5, link).double()
    with torch.no_grad():
        reference.thresholds_b_.fill_(-1.25)
        reference.thresholds_a_.copy_(torch.tensor([0.5, 0.8, 1.1]))
    thresholds = torch.tensor([-1.25, 0.25, 0.64, 1.21], dtype=torch.float64).cumsum(0)
    # Its thresholds minus the score are minus our logits.
    logits = scores[:, None] - thresholds

    expected = reference(scores[:, None]).detach()

    torch.testing.assert_close(clm_log_probs(logits, link=link).exp(), expected, rtol=1e-6, atol=1e-9)
    for label in range(5):
        losses = clm_loss(logits, torch.full((9,), label), link=link, reduction="none")
        torch.testing.assert_close(losses, -expected[:, label].log(), rtol=1e-6, atol=1e-9)


@all_links
@all_dtypes
def test_value_and_gradient_of_inner_classes_have_all_digits(link, dtype):
    logits = torch.tensor(PAIRS, dtype=dtype)

    losses, grad = value_and_grad(logits, torch.ones(len(PAIRS), dtype=torch.long), link)

    smallest = torch.finfo(dtype).tiny / 1e-6
    for row, loss, slopes in zip(logits.tolist(), losses.tolist(), grad.tolist(), strict=True):
        value, derivatives = exact(link, *row)
        largest = max(map(abs, derivatives))
        if value > smallest:
            assert relative_error(loss, value, value) < 1e-5, row
        if largest > smallest:
            assert max(map(relative_error, slopes, derivatives, [largest] * 2)) < 1e-5, row


@all_links
@all_dtypes
@pytest.mark.parametrize("label", [0, 1])
def test_value_and_gradient_of_end_classes_have_all_digits(link, dtype, label):
    logits = torch.linspace(-30, 30, 41, dtype=dtype)[:, None]

    losses, grad = value_and_grad(logits, torch.full((41,), label), link)

    smallest = torch.finfo(dtype).tiny / 1e-6
    for logit, loss, slope in zip(logits[:, 0].tolist(), losses.tolist(), grad[:, 0].tolist(), strict=True):
        value, (derivative,) = exact(link, None, logit) if label == 0 else exact(link, logit, None)
        if value > smallest:
            assert relative_error(loss, value, value) < 1e-5, logit
        if abs(derivative) > smallest:
            assert relative_error(slope, derivative, derivative) < 1e-5, logit


@all_links
@all_dtypes
@pytest.mark.parametrize("label", [0, 1, 2])
def test_value_and_gradient_are_finite_in_any_order(link, dtype, label):
    values = [0.0, 1e-7, 1e-6, 1e-3, 1.0, 20.0, 49.9, 50.0, 50.1, 88.0, 90.0, 1e3, 9999.0, 1e4]
    points = torch.tensor(sorted({sign * value for value in values for sign in (1, -1)}), dtype=dtype)
    logits = torch.cartesian_prod(points, points)

    losses, grad = value_and_grad(logits, torch.full((len(logits),), label), link)

    assert bool((losses >= 0).all())
    assert bool(losses.isfinite().all())
    assert bool(grad.isfinite().all())


@all_links
@all_dtypes
def test_gradient_pulls_logits_in_the_wrong_order_back(link, dtype):
    points = torch.tensor([-40.0, -30, -16, -5, -1, -1e-7, 0, 1e-7, 0.5, 3, 9, 20, 30, 40], dtype=dtype)
    upper, lower = torch.cartesian_prod(points, points).unbind(-1)
    wrong = upper - lower < 1e-6
    logits = torch.stack([upper[wrong], lower[wrong]], dim=-1)

    _, grad = value_and_grad(logits, torch.ones(len(logits), dtype=torch.long), link)

    assert bool((grad[:, 0] <= 0).all())
    assert bool((grad[:, 1] >= 0).all())
    assert bool((grad[:, 1] - grad[:, 0] > 0.01).all())


@all_links
def test_loss_is_continuous_where_the_order_turns(link):
    middle = torch.linspace(-20, 20, 41, dtype=torch.float64)
    target = torch.ones(41, dtype=torch.long)
    halves = [0.5e-6 * (1 + sign * 1e-3) for sign in (1, -1)]

    apart, held = (
        clm_loss(torch.stack([middle + half, middle - half], dim=-1), target, link=link, reduction="none")
        for half in halves
    )

    # The logarithm of the gap changes by 2e-3 on the way.
    torch.testing.assert_close(held, apart, rtol=1e-6, atol=2.5e-3)


@all_links
def test_gradient_is_the_derivative_near_and_far_and_in_the_wrong_order(link):
    gaps = torch.tensor([5.0, 0.5, 0.03, 0.01, 0.0, -3.0], dtype=torch.float64)
    upper, gap = torch.cartesian_prod(torch.tensor([-3.0, 0.0, 0.25, 4.0], dtype=torch.float64), gaps).unbind(-1)
    logits = torch.stack([upper, upper - gap], dim=-1).requires_grad_()

    for label in range(3):
        target = torch.full((len(logits),), label)
        tied = (gap == 0) & (label == 1)  # finite differences would step over the edge of the smallest gap
        rows_to_check = logits.detach()[~tied].requires_grad_()
        assert torch.autograd.gradcheck(
            lambda z, y=target[~tied]: clm_loss(z, y, link=link, reduction="none"), rows_to_check, rtol=1e-4
        )


@all_links
@pytest.mark.parametrize("start", [(-1.0, 1.0), (-12.0, -9.0), (8.0, 12.0), (0.5, 0.5)])
def test_descent_restores_the_order(link, start):
    logits = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        clm_loss(logits, torch.tensor(1), link=link).backward()
        optimizer.step()

    assert not ClmLoss(3).violations(logits)
    assert logits[0] - logits[1] > 0.5


def test_cloglog_goes_on_in_a_straight_line():
    logits = torch.tensor([[-50.0], [-51.0], [-1e4]], dtype=torch.float64)

    losses, grad = value_and_grad(logits, torch.ones(3, dtype=torch.long), "cloglog")

    torch.testing.assert_close(losses, math.exp(50) * torch.tensor([1.0, 2.0, 9951.0], dtype=torch.float64))
    torch.testing.assert_close(grad[:, 0], torch.full((3,), -math.exp(50), dtype=torch.float64))


@all_links
def test_soft_targets_give_the_expected_loss_in_any_order(link):
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(30, 5, dtype=torch.float64, generator=generator)
    soft = torch.randn(30, 6, dtype=torch.float64, generator=generator).softmax(-1)

    losses = [clm_loss(logits, torch.full((30,), k), link=link, reduction="none") for k in range(6)]

    expected = (torch.stack(losses, dim=-1) * soft).sum(-1)
    torch.testing.assert_close(clm_loss(logits, soft, link=link, reduction="none"), expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda link: clm_loss(torch.zeros(1, 2), torch.tensor([0]), link=link),
        lambda link: clm_log_probs(torch.zeros(2), link=link),
        lambda link: ClmLoss(3, link=link),
    ],
)
def test_unknown_link_is_named(call):
    with pytest.raises(ValueError, match="Expected `link` to be one of 'logit', 'probit', 'cloglog', but got 'probti'"):
        call("probti")


def test_link_is_an_option_of_the_module():
    loss = ClmLoss(3, link="cloglog", reduction="none")
    logits, target = torch.tensor([[1.0, -1.0], [0.5, 0.0]]), torch.tensor([1, 2])

    assert "link='cloglog'" in repr(loss)
    assert torch.equal(loss(logits, target), clm_loss(logits, target, link="cloglog", reduction="none"))
    assert torch.equal(loss.log_probs(logits), clm_log_probs(logits, link="cloglog"))


class TestLogProbs:
    @quick
    @given(rows, links)
    def test_are_a_distribution_whatever_the_logits(self, row, link):
        log_probs = clm_log_probs(torch.tensor(row), link=link)

        assert bool((log_probs <= 1e-6).all())
        assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-5)

    @quick
    @given(rows, links)
    def test_have_a_finite_gradient_whatever_the_logits(self, row, link):
        logits = torch.tensor(row, requires_grad=True)

        log_probs = clm_log_probs(logits, link=link)
        torch.where(log_probs.isfinite(), log_probs, 0).sum().backward()

        assert bool(logits.grad.isfinite().all())

    @quick
    @given(st.floats(-30, 30), st.lists(st.floats(1e-3, 20), min_size=0, max_size=8), links, st.sampled_from(DTYPES))
    def test_are_minus_the_loss_for_logits_in_order(self, first, falls, link, dtype):
        logits = first - torch.tensor([0.0, *falls], dtype=dtype).cumsum(0)
        num_classes = len(logits) + 1

        losses = clm_loss(logits.expand(num_classes, -1), torch.arange(num_classes), link=link, reduction="none")

        torch.testing.assert_close(losses, -clm_log_probs(logits, link=link))

    @all_links
    def test_of_equal_logits_are_probability_zero_between_them_with_a_gradient(self, link):
        logits = torch.zeros(3, requires_grad=True)

        log_probs = clm_log_probs(logits, link=link)
        log_probs[0].backward()

        assert bool((log_probs[1:3] == -torch.inf).all())
        assert log_probs[[0, 3]].exp().sum().item() == pytest.approx(1)
        assert bool(logits.grad.isfinite().all())

    @all_links
    def test_do_not_depend_on_the_order_of_the_logits(self, link):
        logits = torch.tensor([2.0, 0.5, -1.0])

        assert torch.equal(clm_log_probs(logits[[1, 2, 0]], link=link), clm_log_probs(logits, link=link))


class TestHead:
    @all_links
    def test_prior_keeps_its_digits_in_both_tails(self, link):
        prior = torch.tensor([1e-7, 0.3, 0.7 - 3e-7, 1e-7, 1e-7], dtype=torch.float64)
        loss = ClmLoss(5, link=link)

        logits = loss.prior_logits(prior)

        torch.testing.assert_close(loss.log_probs(logits).exp(), prior, rtol=1e-7, atol=0)

    @all_links
    def test_float64_prior_gives_a_head_of_the_default_type(self, link):
        prior = torch.full((4,), 0.25, dtype=torch.float64)
        head = ClmLoss(4, link=link).make_head(3, prior=prior)

        assert isinstance(head, OrderedHead)
        assert {parameter.dtype for parameter in head.parameters()} == {torch.float32}

    @all_links
    def test_learns_thresholds_and_direction(self, link):
        torch.manual_seed(0)
        features = torch.randn(400, 3)
        score = features @ torch.tensor([2.0, -1.0, 0.0])
        target = torch.bucketize(score, torch.tensor([-1.5, 0.0, 2.0]))
        loss = ClmLoss(4, link=link)
        head = loss.make_head(3, prior=target.bincount() / 400)
        optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            loss(head(features), target).backward()
            optimizer.step()

        with torch.no_grad():
            logits = head(features)
        assert not loss.violations(logits).any()
        assert (loss.log_probs(logits).argmax(-1) == target).float().mean() > 0.95

    def test_violations_are_counted_by_sample(self):
        logits = torch.tensor([[1.0, 0.0, -1.0], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])

        assert ClmLoss(4).violations(logits).tolist() == [False, True, False]
