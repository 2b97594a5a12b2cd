import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest

from ordage.eval import OrdinalScale, Predictions, decode

SCALE = OrdinalScale.parse("0-10,11-20,21+")


def fields(rows=4, **changes):
    """Fields of valid predictions, some of them replaced."""
    rng = np.random.default_rng(0)
    valid = {
        "ids": np.array([f"image {i}" for i in range(rows)]),
        "log_probs": np.log(rng.dirichlet(np.ones(3), rows)).astype(np.float32),
        "scale": SCALE,
        "age": np.array([5, np.nan, 30, 12.5][:rows]),
        "target": np.array([0, 1, 2, 1][:rows]),
    }
    return valid | changes


def everything():
    return Predictions(
        **fields(),
        subject=["ann", "bob", "", "ann"],
        groups={
            "gender": ["f", "m", "m", "f"],
            "decade": np.array([0, 1, 3, 1]),
            "odd / name.npy": [1.5, np.nan, 2, 3],
        },
        meta={"loss": "coral", "seed": 3, "paper_decoder": "median", "nested": {"list": [1, None]}},
        violation=np.array([True, False, False, True]),
        age_std=[2.5, np.nan, 4, 1],
        point=[4.5, 11, 33, 12],
    )


def assert_same(one, other):
    assert one.scale == other.scale
    assert one.meta == other.meta
    assert list(one.groups) == list(other.groups)
    for name in ("ids", "log_probs", "age", "target", "subject", "violation", "age_std", "point"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name, column in one.groups.items():
        np.testing.assert_array_equal(column, other.groups[name])
        assert column.dtype == other.groups[name].dtype


def test_what_was_saved_is_loaded(tmp_path):
    said = everything()
    said.save(tmp_path / "predictions.npz")

    assert_same(Predictions.load(tmp_path / "predictions.npz"), said)


def test_what_may_be_left_out_is_still_absent_after_loading(tmp_path):
    Predictions(**fields()).save(tmp_path / "p.npz")

    loaded = Predictions.load(tmp_path / "p.npz")

    assert loaded.subject is None
    assert loaded.violation is None
    assert loaded.groups == {}


def test_saving_replaces_a_file_and_leaves_nothing_else(tmp_path):
    Predictions(**fields()).save(tmp_path / "p.npz")
    everything().save(tmp_path / "p.npz")

    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]
    assert_same(Predictions.load(tmp_path / "p.npz"), everything())


def test_failed_saving_keeps_the_old_file(tmp_path):
    Predictions(**fields()).save(tmp_path / "p.npz")
    said = everything()
    said.meta["loss"] = {"not", "json"}

    with pytest.raises(TypeError):
        said.save(tmp_path / "p.npz")

    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]
    assert Predictions.load(tmp_path / "p.npz").subject is None


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_pickles_are_refused(tmp_path):
    everything().save(tmp_path / "good.npz")
    header = np.load(tmp_path / "good.npz")["header"]
    np.savez(tmp_path / "bad.npz", header=header, ids=np.array([Bomb(tmp_path / "boom")], dtype=object))
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))

    for name in ("bad.npz", "bare.npz"):
        with pytest.raises(ValueError, match=f"{name}.*written by `Predictions.save`"):
            Predictions.load(tmp_path / name)
    assert not (tmp_path / "boom").exists()


def test_files_hold_no_pickles(tmp_path):
    everything().save(tmp_path / "p.npz")

    with zipfile.ZipFile(tmp_path / "p.npz") as archive:
        names = archive.namelist()
    with np.load(tmp_path / "p.npz", allow_pickle=False) as archive:
        assert len([archive[name.removesuffix(".npy")] for name in names]) == len(names)


def test_foreign_files_are_refused(tmp_path):
    np.savez(tmp_path / "foreign.npz", X=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "empty.npz").touch()
    everything().save(tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:500])

    for name in ("foreign.npz", "array.npy", "empty.npz", "cut.npz"):
        with pytest.raises(ValueError, match=f"{name}.*written by `Predictions.save`"):
            Predictions.load(tmp_path / name)


def test_missing_file_is_reported_as_such(tmp_path):
    with pytest.raises(FileNotFoundError):
        Predictions.load(tmp_path / "none.npz")


LOG_HALF = np.log(0.5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"log_probs": np.zeros((4, 3))}, "row of `log_probs` to sum to 1, but row 0 sums to 3"),
        ({"log_probs": np.full((4, 3), 100.0)}, "row 0 sums to inf"),
        ({"log_probs": np.full((4, 3), -np.inf)}, "row 0 sums to 0"),
        ({"log_probs": [[0, -np.inf, -np.inf]] * 2 + [[np.nan, 0, 0]] * 2}, "`log_probs` without NaN, but row 2"),
        ({"log_probs": [[LOG_HALF, LOG_HALF]] * 4}, "`log_probs` with 3 columns"),
        ({"log_probs": [LOG_HALF, LOG_HALF]}, r"`log_probs` of shape \(N, K\)"),
        ({"log_probs": np.zeros((0, 3))}, r"`log_probs` of shape \(N, K\) with N >= 1"),
        ({"ids": ["a"]}, r"`ids` of shape \(4,\)"),
        ({"ids": [["a"]] * 4}, r"`ids` of shape \(4,\)"),
        ({"age": [1, 2, 3]}, r"`age` of shape \(4,\)"),
        ({"age": [1, 2, 3, np.inf]}, "`age` to be finite or NaN, but row 3 is infinite"),
        ({"target": [0, 1, 3, 2]}, r"class of `target` to be in 0..2, but row 2 is 3"),
        ({"target": [0, -1, 2, 2]}, r"class of `target` to be in 0..2, but row 1 is -1"),
        ({"target": [0.0, 1.0, 2.0, 2.0]}, "`target` to hold integer classes, but its dtype is float64"),
        ({"target": [0, 1]}, r"`target` of shape \(4,\)"),
        ({"subject": ["a"]}, r"`subject` of shape \(4,\)"),
        ({"groups": {"gender": ["f"]}}, r"`groups\['gender'\]` of shape \(4,\)"),
        ({"violation": [True]}, r"`violation` of shape \(4,\)"),
        ({"violation": [0, 1, 0, 1]}, "`violation` to hold booleans"),
        ({"meta": {"path": object()}}, "`meta` to hold only what JSON can hold"),
        ({"meta": {"score": float("nan")}}, "`meta` to hold only what JSON can hold"),
    ],
)
def test_invalid_fields_are_refused_by_name(changes, named):
    with pytest.raises(ValueError, match=named):
        Predictions(**fields(**changes))


def test_bad_row_far_down_is_found():
    rows = 200_000
    log_probs = np.full((rows, 3), -np.log(3))
    log_probs[150_001] = 0

    with pytest.raises(ValueError, match="row 150001 sums to 3"):
        Predictions(np.arange(rows), log_probs, SCALE, np.full(rows, 5), np.zeros(rows, dtype=int))


def test_impossible_classes_are_allowed():
    said = Predictions(**fields(log_probs=[[0, -np.inf, -np.inf]] * 4))

    assert said.probs.tolist() == [[1, 0, 0]] * 4


def test_missing_subjects_of_any_kind_become_clusters_of_their_own():
    subjects = pd.Series(["ann", None, "ann", pd.NA, float("nan"), "bob"], dtype=object)
    said = Predictions.from_probs(np.full((6, 3), 1 / 3), SCALE, age=np.arange(6), subject=subjects)

    assert said.subject.tolist() == ["ann", "", "ann", "", "", "bob"]
    clusters = said.clusters
    assert clusters[0] == clusters[2]
    assert len(set(clusters.tolist())) == 5


def test_without_subjects_there_are_no_clusters():
    assert Predictions(**fields()).clusters is None


def test_columns_of_pandas_are_taken_as_they_are():
    table = pd.DataFrame({"gender": pd.Categorical(["f", "m"]), "when": pd.to_datetime(["2020-01-01", "2021-01-01"])})
    said = Predictions.from_probs(
        np.full((2, 3), 1 / 3), SCALE, age=pd.Series([1, 2]), ids=pd.Series(["a", "b"]), groups=dict(table.items())
    )

    assert said.groups["gender"].tolist() == ["f", "m"]
    assert said.groups["when"].dtype.kind == "U"
    assert said.ids.tolist() == ["a", "b"]


def test_from_probs_refuses_negative_probabilities_and_nan():
    for bad in (-0.1, np.nan):
        with pytest.raises(ValueError, match="`probs` to be 0 or larger and not NaN, but row 1"):
            Predictions.from_probs([[0.5, 0.25, 0.25], [0.6, 0.5, bad]], SCALE, age=[1, 2])


def test_from_probs_needs_a_truth():
    with pytest.raises(ValueError, match="`age`, `target` or both"):
        Predictions.from_probs([[0.5, 0.25, 0.25]], SCALE)


def test_from_probs_takes_the_class_of_the_age():
    assert Predictions.from_probs([[0.5, 0.25, 0.25]], SCALE, age=[15]).target.tolist() == [1]
    assert np.isnan(Predictions.from_probs([[0.5, 0.25, 0.25]], SCALE, target=[1]).age).all()


def test_coarser_scale_sums_probabilities_and_moves_the_truth():
    years = OrdinalScale.years(0, 40)
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(41), 50)
    age = rng.integers(0, 41, 50).astype(float)
    said = Predictions.from_probs(probs, years, age=age, subject=np.arange(50) % 7, meta={"seed": 1}).on(SCALE)

    np.testing.assert_allclose(said.probs[:, 1], probs[:, 11:21].sum(axis=1), rtol=1e-5)
    assert said.target.tolist() == SCALE.class_of(age).tolist()
    assert said.age.tolist() == age.tolist()
    assert said.scale == SCALE
    assert said.meta == {"seed": 1}


def test_class_decides_on_the_coarser_scale_where_the_age_is_unknown():
    said = Predictions.from_probs(
        np.full((2, 41), 1 / 41), OrdinalScale.years(0, 40), age=[np.nan] * 2, target=[10, 11]
    )

    assert said.on(SCALE).target.tolist() == [0, 1]


def test_age_beyond_the_finer_scale_still_reaches_its_own_bin():
    said = Predictions.from_probs(np.full((1, 16), 1 / 16), OrdinalScale.years(0, 15), age=[35])

    assert said.target.tolist() == [15]
    assert said.on(SCALE).target.tolist() == [2]


def test_same_scale_gives_the_same_predictions():
    said = Predictions(**fields())

    assert said.on(SCALE) is said


@pytest.mark.parametrize("rows", [np.array([True, False, True, False]), [0, 2], np.array([0, 2])])
def test_select_takes_every_column_along(rows):
    part = everything().select(rows)

    assert part.ids.tolist() == ["image 0", "image 2"]
    assert part.subject.tolist() == ["ann", ""]
    assert part.violation.tolist() == [True, False]
    assert part.age_std.tolist() == [2.5, 4]
    assert part.point.tolist() == [4.5, 33]
    assert part.groups["decade"].tolist() == [0, 3]
    assert part.target.tolist() == [0, 2]
    assert len(part) == 2


@pytest.mark.parametrize(
    ("rows", "named"), [([False] * 4, "at least one of the 4"), ([], "at least one"), ([True], "shape")]
)
def test_select_refuses_an_empty_or_short_selection(rows, named):
    with pytest.raises(ValueError, match=named):
        everything().select(rows)


def test_points_belong_to_the_nearest_bin_and_ages_to_their_own():
    said = Predictions.from_points([10.4, 10.6, -3, 99], SCALE, age=[10.9, 10.4, 30, 21])

    assert said.log_probs.argmax(axis=1).tolist() == [0, 1, 0, 2]
    assert said.target.tolist() == [0, 0, 2, 2]
    assert said.meta["point_predictor"] is True
    for how in ("mode", "median", "mean"):
        assert decode(said, how).values.tolist() == [10.4, 10.6, -3, 99]  # as they were, and not the bins' values


@pytest.mark.parametrize(
    ("point", "age", "named"),
    [([1.0, np.nan], [1, 2], "without NaN, but entry 1"), ([1.0], [1, 2], "`point`"), ([1.0, 2.0], [1, np.nan], "NaN")],
)
def test_points_must_be_numbers_as_many_as_ages(point, age, named):
    with pytest.raises(ValueError, match=named):
        Predictions.from_points(point, SCALE, age=age)
