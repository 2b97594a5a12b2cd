import pytest

from ordage.losses import available
from ordage.losses.testing import CHECKS, factory

VARIANTS = [
    *((name, {}) for name in available()),
    ("coral", {"monotone": True}),
    ("corn", {"normalization": "samples"}),
    ("mean-variance", {"mean_weight": 0.0, "variance_weight": 1.0}),
    ("clm", {"link": "probit"}),
    ("clm", {"link": "cloglog"}),
    ("sord", {"distance": "squared"}),
    ("unimodal", {"unimodal_weight": 1.0, "min_variance": 0.01}),
    ("cdw-ce", {"alpha": 0.5}),
    ("regression", {"penalty": "l2"}),
    ("regression", {"penalty": "huber", "delta": 0.5}),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[":".join([name, *map(str, options.values())]) for name, options in VARIANTS]
)
def test_contract(name, options, check):
    CHECKS[check](factory(name, **options))
