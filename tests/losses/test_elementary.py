import pytest
import torch
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ordage.losses import elementary


@pytest.fixture(params=[0, 16], ids=["whole rows", "in parts"])
def register(request, monkeypatch):
    """Rows of four numbers as a processor sees them whose registers are shorter, or longer."""
    monkeypatch.setattr(elementary, "REGISTER", request.param)


def draw(*shape, seed=0, scale=3.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


@pytest.mark.usefixtures("register")
class TestSoftmax:
    def test_values_are_those_of_torch(self):
        z = draw(6, 4)

        with torch.no_grad():
            torch.testing.assert_close(elementary.softmax(z), F.softmax(z, dim=-1))
            torch.testing.assert_close(elementary.log_softmax(z), F.log_softmax(z, dim=-1))

    @pytest.mark.parametrize(
        ("forward", "gradient"),
        [(F.softmax, elementary.softmax_gradient), (F.log_softmax, elementary.log_softmax_gradient)],
    )
    def test_gradient_is_that_of_autograd(self, forward, gradient):
        z, outer = draw(6, 4).requires_grad_(), draw(6, 4, seed=1)
        output = forward(z, dim=-1)
        (expected,) = torch.autograd.grad(output, z, outer)

        with torch.no_grad():
            torch.testing.assert_close(gradient(outer.clone(), output.detach().clone()), expected)

    def test_exact_gradient_has_the_digits_of_the_class_with_all_the_probability(self):
        # p is 1 for float32, but 1 - p is 3 exp(-20): the gradient there is minus the sum of the others.
        z = torch.tensor([[20.0, 0.0, 0.0, 0.0]])
        outer = torch.tensor([[7.1, 1.3, 2.9, 0.4]])
        leaf = z.double().requires_grad_()
        (expected,) = torch.autograd.grad(F.softmax(leaf, dim=-1), leaf, outer.double())

        with torch.no_grad():
            rough, exact = (
                elementary.softmax_gradient(outer.clone(), elementary.softmax(z), exact=exact)
                for exact in (False, True)
            )

        torch.testing.assert_close(exact.double(), expected, rtol=1e-5, atol=0)
        assert abs(rough[0, 0] / expected[0, 0] - 1) > 1e-2


@pytest.mark.parametrize("samples", [4, 4096], ids=["few numbers", "many"])
def test_exponential_in_place(samples):
    x = draw(samples, 4)
    expected = x.exp()

    with torch.no_grad():
        result = elementary.exp_over(x)

    assert result is x
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("largest", [20.0, 1e4], ids=["one exponential", "would overflow"])
@pytest.mark.parametrize("samples", [4, 4096], ids=["few numbers", "many"])
def test_softplus_and_its_slope(samples, largest):
    x = draw(samples, 4)
    x[0] = torch.tensor([largest, 0.0, -80.0, -torch.inf])
    expected, slopes_expected = torch.logaddexp(x, torch.zeros(())), 1 / (1 + torch.exp(-x))

    with torch.no_grad():
        values, slopes = elementary.softplus_over(x.float())
        slopes = slopes()

    torch.testing.assert_close(values.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(slopes.double(), slopes_expected, rtol=1e-5, atol=0)


def test_softplus_of_what_is_not_a_number_concerns_only_that():
    x = draw(4096, 4).float()
    x[1, 2] = torch.nan
    with torch.no_grad():
        values, slopes = elementary.softplus_over(x.clone())
        wrong = torch.stack([values, slopes()]).isnan()

    assert wrong.sum() == 2
    assert wrong[:, 1, 2].all()


class TestNumber:
    def test_one_that_was_made_in_inference_mode_may_be_recorded(self):
        with torch.inference_mode():
            elementary.number(0.375, torch.zeros(1))
        x = torch.ones(1, requires_grad=True)

        (elementary.number(0.375, x.detach()) * x).backward()

        assert x.grad == 0.375

    def test_one_that_was_made_under_a_transform_does_not_outlive_it(self):
        def scaled(x):
            return (x * elementary.number(0.625, x)).sum()

        assert torch.func.grad(scaled)(torch.ones(3)).tolist() == [0.625] * 3
        assert torch.func.vmap(scaled)(torch.ones(2, 3)).tolist() == [1.875] * 2
        assert scaled(torch.ones(3)) == 1.875

    def test_one_that_was_made_among_fake_tensors_is_not_handed_to_real_ones(self):
        real = torch.zeros(1)
        with FakeTensorMode():
            assert isinstance(elementary.number(0.875, torch.zeros(1)), FakeTensor)
            assert isinstance(elementary.number(0.875, real), FakeTensor)
        assert elementary.number(0.875, real) == 0.875
        with FakeTensorMode():  # nor the other way round
            torch.zeros(1) * elementary.number(0.875, torch.zeros(1))

    def test_types_do_not_share_one(self):
        numbers = [elementary.number(0.1, torch.zeros(1, dtype=dtype)) for dtype in (torch.float32, torch.float64)]

        assert [number.item() for number in numbers] == [torch.tensor(0.1).item(), 0.1]


@pytest.mark.usefixtures("register")
@pytest.mark.parametrize("gradient", [elementary.softmax_gradient, elementary.log_softmax_gradient])
def test_gradient_of_what_lies_in_memory_column_by_column(gradient):
    outer, log_probs = draw(4, 6).t(), F.log_softmax(draw(6, 4, seed=1), dim=-1)
    output = log_probs if gradient is elementary.log_softmax_gradient else log_probs.exp()

    with torch.no_grad():
        expected = gradient(outer.contiguous(), output.clone())
        torch.testing.assert_close(gradient(outer.clone(), output.clone()), expected)
