import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from ordage.errors import UsageError
from ordage.estimator import OrdinalClassifier


def checks():
    """All of scikit-learn's checks but that of the array API, which it leaves out itself unless asked for."""
    found = estimator_checks_generator(OrdinalClassifier(epochs=30, random_state=0))
    return [(estimator, check) for estimator, check in found if "array_api" not in str(check)]


# No check is expected to fail.
@pytest.mark.parametrize(("estimator", "check"), checks(), ids=lambda item: getattr(item, "__name__", None))
def test_it_is_a_classifier_by_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


def test_these_are_many_checks():
    assert len(checks()) > 50


@pytest.fixture(scope="module")
def diabetes():
    """442 patients, the disease's progression in five ordered classes."""
    features, progression = load_diabetes(return_X_y=True)
    return features, np.digitize(progression, [80, 120, 160, 220])


def test_a_grid_search_over_the_loss_finds_one_that_is_as_good_as_logistic_regression(diabetes):
    features, target = diabetes
    search = GridSearchCV(
        OrdinalClassifier(hidden=(16,), epochs=25, weight_decay=0.3, decoder="median", random_state=0),
        {"loss": ["softmax", "coral", "corn"]},
        scoring="neg_mean_absolute_error",
        cv=4,
    ).fit(features, target)
    scaled = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    plain = cross_val_score(scaled, features, target, scoring="neg_mean_absolute_error", cv=4).mean()

    assert search.best_params_["loss"] in ("softmax", "coral", "corn")
    assert search.best_score_ > plain - 0.05
    assert search.predict(features).shape == target.shape


def test_the_median_errs_less_and_the_mode_is_right_more_often(diabetes):
    features, target = diabetes
    fitted = OrdinalClassifier("corn", hidden=(16,), epochs=25, random_state=0).fit(features, target)
    probs = fitted.predict_proba(features)
    by_mode, by_median = (fitted.set_params(decoder=how).predict(features) for how in ("mode", "median"))

    np.testing.assert_array_equal(by_mode, probs.argmax(axis=1))
    np.testing.assert_array_equal(by_median, (probs.cumsum(axis=1) >= 0.5).argmax(axis=1))
    assert (by_mode == target).mean() >= (by_median == target).mean()
    assert mean_absolute_error(target, by_median) <= mean_absolute_error(target, by_mode)
    assert fitted.set_params(decoder="mode").score(features, target) == (by_mode == target).mean()


def test_classes_keep_their_names_and_their_order(diabetes):
    features, target = diabetes
    names = np.array(["a little", "b more", "c much", "d very much", "e most"])[target]
    fitted = OrdinalClassifier("coral", epochs=3, random_state=0).fit(features, names)
    numbered = OrdinalClassifier("coral", epochs=3, random_state=0).fit(features, target)

    assert fitted.classes_.tolist() == sorted(set(names))
    np.testing.assert_array_equal(fitted.predict_proba(features), numbered.predict_proba(features))


def test_one_state_gives_one_model_and_leaves_torch_alone(diabetes):
    features, target = diabetes
    before = torch.get_rng_state()
    first, again, other = (
        OrdinalClassifier(epochs=2, random_state=seed).fit(features, target).predict_proba(features)
        for seed in (0, 0, 1)
    )

    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    assert torch.equal(torch.get_rng_state(), before)


def test_a_fitted_model_survives_pickle_and_a_clone_is_not_fitted(diabetes):
    features, target = diabetes
    fitted = OrdinalClassifier("clm", epochs=2, random_state=0).fit(features, target)

    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(features), fitted.predict(features))
    assert not hasattr(clone(fitted), "module_")
    assert clone(fitted).get_params() == fitted.get_params()


@pytest.mark.parametrize("colour", [False, True])
def test_images_are_learned_too(drawn, colour):
    images = drawn.images if colour else drawn.images.mean(axis=-1).astype(np.uint8)
    decade = np.minimum(drawn.ages // 20, 3)
    fitted = OrdinalClassifier("corn", epochs=12, random_state=0).fit(images[:240], decade[:240])

    probs = fitted.predict_proba(images[240:])
    assert probs.shape == (60, 4)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert fitted.loss_curve_[-1] < 0.8 * fitted.loss_curve_[0]
    constant = np.bincount(decade[:240]).argmax()
    assert np.abs(fitted.predict(images[240:]) - decade[240:]).mean() < np.abs(constant - decade[240:]).mean()


def test_what_does_not_fit_is_told(drawn, diabetes):
    features, target = diabetes
    images, decade = drawn.images[:40], np.arange(40) % 3
    fitted = OrdinalClassifier(epochs=1).fit(images, decade)

    with pytest.raises(ValueError, match="dtype uint8, but got float64"):
        OrdinalClassifier().fit(images / 255, decade)
    with pytest.raises(ValueError, match=r"images of shape \(24, 24, 3\) as in fit"):
        fitted.predict(images[:, :12])
    with pytest.raises(ValueError, match=r"images of shape \(24, 24, 3\) as in fit"):
        fitted.predict(features)
    with pytest.raises(UsageError, match="did you mean 'coral'"):
        OrdinalClassifier("corall").fit(features, target)
    with pytest.raises(ValueError, match="`decoder` to be one of mode, median"):
        OrdinalClassifier(decoder="mean").fit(features, target)
    with pytest.raises(ValueError, match="`epochs` to be at least 1"):
        OrdinalClassifier(epochs=0).fit(features, target)
    with pytest.raises(ValueError, match="only one class"):
        OrdinalClassifier().fit(features, np.zeros(len(features), int))
    with pytest.raises(ValueError, match="did you mean 'ordage_tiny'"):
        OrdinalClassifier(model="ordage_tny").fit(images, decade)


def test_batches_of_one_are_learned_from(diabetes):
    features, target = diabetes
    fitted = OrdinalClassifier(epochs=2, batch_size=1, random_state=0).fit(features[:60], target[:60])

    assert fitted.loss_curve_[1] < fitted.loss_curve_[0]
