import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordage.data.split import SHARES, clusters, leaks, read_splits, split
from ordage.errors import DataError


@st.composite
def samples(draw):
    size = draw(st.integers(1, 400))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    subjects = generator.integers(0, draw(st.integers(1, size)), size)
    digests = generator.integers(0, draw(st.integers(1, 3 * size)), size)
    strata = generator.integers(0, draw(st.integers(1, 12)), size)
    return subjects, digests, strata, seed


@settings(max_examples=150, deadline=None)
@given(samples())
def test_no_person_and_no_image_is_on_two_sides(sample):
    subjects, digests, strata, seed = sample

    part = split(strata, clusters(subjects, digests), seed=seed)

    for key in (subjects, digests):
        assert pd.Series(part).groupby(key).nunique().max() == 1


def test_clusters_join_through_either_key():
    # a and b share a person, b and c an image, d stands alone.
    assert clusters(["p", "p", "q", "r"], ["x", "y", "y", "z"]).tolist() == [0, 0, 0, 1]


def test_every_stratum_is_dealt_in_the_same_shares():
    strata = np.repeat(np.arange(8), [2000, 1000, 500, 500, 400, 300, 200, 100])
    cluster = np.arange(len(strata)) // np.where(np.arange(len(strata)) % 7 == 0, 2, 1)

    part = split(strata, clusters(cluster), seed=0)

    for name, share in SHARES.items():
        own = np.bincount(strata[part == name], minlength=8) / np.bincount(strata)
        assert np.abs(own - share).max() < 0.02


def test_a_stratum_of_one_sample_is_not_always_in_the_same_part():
    strata = np.array([0] * 50 + [1])

    parts = {split(strata, np.arange(51), seed=seed)[-1] for seed in range(60)}

    assert parts == set(SHARES)


def test_the_seed_alone_decides():
    strata = np.arange(500) % 5
    cluster = clusters(np.arange(500) // 3)

    first, again, other = (split(strata, cluster, seed=seed) for seed in (1, 1, 2))

    assert (first == again).all()
    assert (first != other).any()


def test_leaks_are_removed_from_the_earlier_part_only():
    part = np.array(["train", "val", "test", "train", "train"])
    key = np.array(["a", "a", "b", "b", "c"])

    assert leaks(part, key).tolist() == [True, False, False, True, False]


def test_a_split_file_is_read_back_by_id(tmp_path):
    file = tmp_path / "splits.csv"
    file.write_text("id,part\nb,test\na,train\n", encoding="utf-8")

    assert read_splits(str(file), pd.Series(["a", "b", "c"])).tolist() == ["train", "test", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,part\na,train\n", "columns id and part"),
        ("id,part\na,trian\n", "'trian'"),
        ("id,part\nz,train\n", "none"),
    ],
)
def test_a_split_file_that_does_not_fit_is_refused(tmp_path, content, message):
    file = tmp_path / "splits.csv"
    file.write_text(content, encoding="utf-8")

    with pytest.raises(DataError, match=message):
        read_splits(str(file), pd.Series(["a"]))
