"""Ordinal classification as scikit-learn has it: ``fit(X, y)``, ``predict``, ``predict_proba``, for any ordered target.

``X`` are features ``(N, D)``, which a small multilayer perceptron learns from, or images ``(N, H, W)`` and
``(N, H, W, C)`` uint8 for one of the nets. Everything stays in memory; for data on disk, long training, and evaluation
with intervals there is `ordage.fit`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import timm
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from ordage import losses
from ordage.losses import median, mode

from . import nets  # noqa: F401 - importing it registers the built-in nets in timm
from .augmentation import AUGMENTATIONS, DRAWS
from .errors import did_you_mean
from .model import parse_loss

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["OrdinalClassifier"]

DECODERS = {"mode": mode, "median": median}
WARMUP = 0.1  # of all steps
BATCH = 1024  # samples that are predicted at once


class OrdinalClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier whose classes have an order: that of ``classes_``, sorted as numbers or text are.

    After `fit` it has ``classes_``, the classes in their order; ``n_features_in_``, for features; ``loss_curve_``, the
    mean loss of each epoch; and ``module_`` and ``criterion_``, what PyTorch knows.

    Args:
        loss: One of ``ordage losses``, with options after colons, such as ``"coral:monotone=true"``.
        model: For images: a built-in net, or any backbone of timm, from random weights.
        hidden: For features: the sizes of the perceptron's hidden layers.
        epochs: Passes over the training samples.
        batch_size: Samples of a step.
        learning_rate: Peak of a schedule that rises over a tenth of the steps and then falls to zero as a cosine.
        weight_decay: Of AdamW.
        augment: What training changes about images: ``"none"``, ``"light"`` or ``"full"``. The last two mirror and move
            them; choose ``"none"`` where that changes the class.
        decoder: How `predict` reads a distribution: its ``"mode"`` is most often right, its ``"median"`` least far off.
        device: As PyTorch names it.
        random_state: Seed or generator of the initial weights, the order of the samples and the augmentation.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> bins = np.digitize(y, [80, 120, 160, 220])
        >>> model = OrdinalClassifier("corn", epochs=20, random_state=0).fit(X[:300], bins[:300])
        >>> model.predict_proba(X[300:]).shape
        (142, 5)
    """

    def __init__(
        self,
        loss: str = "coral",
        *,
        model: str = "ordage_tiny",
        hidden: tuple[int, ...] = (64, 64),
        epochs: int = 60,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        augment: Literal["none", "light", "full"] = "light",
        decoder: Literal["mode", "median"] = "mode",
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        """Keep the parameters; they are looked at by `fit`."""
        self.loss = loss
        self.model = model
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.augment = augment
        self.decoder = decoder
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803 - the name the whole field uses
        """Train from random weights.

        Args:
            X: ``(N, D)`` features, or ``(N, H, W)`` or ``(N, H, W, C)`` uint8 images.
            y: ``(N,)`` classes.

        Raises:
            ValueError: arrays or parameters that do not fit, or fewer than two classes.
        """
        array, labels = self._checked(X, y)
        check_classification_targets(labels)
        self.classes_, target = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"Expected samples of at least 2 classes, but there is only one class: {self.classes_[0]!r}."
            )
        self._check_parameters()
        seed = int(check_random_state(self.random_state).randint(2**31))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._train(torch.from_numpy(array), torch.from_numpy(target.reshape(-1)))
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Return the class of each sample ``(N,)``, read by ``decoder``.

        Args:
            X: as in `fit`.
        """
        log_probs = self._log_probs(X)
        return np.asarray(self.classes_[DECODERS[self.decoder](log_probs).numpy()])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each class ``(N, K)``.

        Args:
            X: as in `fit`.
        """
        probs = self._log_probs(X).exp().numpy()
        return np.asarray(probs / probs.sum(axis=1, keepdims=True))

    def _checked(self, X: ArrayLike, *y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:  # noqa: N803
        """Return the samples as the net takes them, float64 features or uint8 images, and in `fit` the labels."""
        images = getattr(X, "ndim", 2) in (3, 4)
        rules: dict[str, Any] = {"reset": bool(y) and not images}
        rules |= {"dtype": "numeric", "allow_nd": True} if images else {"dtype": np.float64}
        array, labels = validate_data(self, X, *y, **rules) if y else (validate_data(self, X, **rules), np.empty(0))
        if not images:
            shape: tuple[int, ...] = ()
        elif array.dtype != np.uint8:
            raise ValueError(f"Expected images (N, H, W) or (N, H, W, C) of dtype uint8, but got {array.dtype}.")
        else:
            array = array[..., np.newaxis] if array.ndim == 3 else array
            shape = array.shape[1:]
        if y:
            self.image_shape_ = shape
        elif shape != self.image_shape_:
            told = "features" if not self.image_shape_ else f"images of shape {self.image_shape_}"
            raise ValueError(f"Expected {told} as in fit, but got an array of shape {np.shape(X)}.")
        array = np.ascontiguousarray(array)
        return array if array.flags.writeable else array.copy(), labels  # torch warns of what it cannot write to

    def _check_parameters(self) -> None:
        for name, known in (("decoder", DECODERS), ("augment", AUGMENTATIONS)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"Expected `{name}` to be one of {', '.join(known)}, but got {value!r}.")
        for name, least in (("epochs", 1), ("batch_size", 2 if self.image_shape_ else 1)):
            if getattr(self, name) < least:
                raise ValueError(f"Expected `{name}` to be at least {least}, but got {getattr(self, name)}.")
        if self.image_shape_ and not timm.is_model(self.model):
            raise ValueError(f"Unknown `model` {self.model!r}{did_you_mean(self.model, timm.list_models())}.")

    def _train(self, inputs: Tensor, target: Tensor) -> None:
        device = torch.device(self.device)
        name, options = parse_loss(self.loss)
        numbers = np.issubdtype(self.classes_.dtype, np.number)
        values = self.classes_.astype(float).tolist() if numbers else None
        self.criterion_ = losses.create(name, len(self.classes_), values, **options).to(device)
        body = _net(self.model, self.image_shape_) if self.image_shape_ else _perceptron(inputs, self.hidden)
        shares = torch.bincount(target, minlength=len(self.classes_)) / len(target)
        head = self.criterion_.make_head(_features(body, self.hidden, inputs), prior=shares.tolist())
        # Features are few: in float64 an answer does not depend on which others are asked for with it.
        precision = torch.float32 if self.image_shape_ else torch.float64
        self.module_ = nn.Sequential(body, head).to(device, precision).train()

        steps = math.ceil(len(target) / self.batch_size)
        optimizer = torch.optim.AdamW(self.module_.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=max(2, self.epochs * steps), pct_start=WARMUP
        )
        inputs, target = inputs.to(device), target.to(device)
        self.loss_curve_: list[float] = []
        for _ in range(self.epochs):
            total = torch.zeros((), device=device)
            for index in torch.randperm(len(target)).to(device).split(self.batch_size):  # type: ignore[no-untyped-call]
                if len(index) < 2 and self.image_shape_:
                    continue  # one image has no batch statistics
                loss = self.criterion_(self.module_(self._batch(inputs, index)), target[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach() * len(index)
            self.loss_curve_.append(float(total) / len(target))
        self.module_.eval()

    def _batch(self, inputs: Tensor, index: Tensor) -> Tensor:
        if not self.image_shape_:
            return inputs[index]
        draws = torch.rand(len(index), DRAWS).to(inputs.device)
        return _scaled(AUGMENTATIONS[self.augment](inputs, index, draws))

    @torch.inference_mode()
    def _log_probs(self, X: ArrayLike) -> Tensor:  # noqa: N803
        check_is_fitted(self)
        array, _ = self._checked(X)
        found = []
        for batch in torch.from_numpy(array).split(BATCH):  # type: ignore[no-untyped-call]
            inputs = batch.to(self.device)
            inputs = _scaled(inputs.permute(0, 3, 1, 2)) if self.image_shape_ else inputs
            found.append(self.criterion_.log_probs(self.module_(inputs)).double().cpu())
        return torch.cat(found)


class _Standardize(nn.Module):
    """Features less their mean, over their standard deviation; those that never change are 0."""

    mean: Tensor
    factor: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        deviation, mean = torch.std_mean(features, dim=0, correction=0)
        constant = deviation <= 1e-7 * mean.abs()
        self.register_buffer("mean", mean)
        self.register_buffer("factor", torch.where(constant, 0, 1 / deviation.masked_fill(constant, 1)))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) * self.factor


def _perceptron(features: Tensor, hidden: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = [_Standardize(features)]
    width = features.shape[1]
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        width = size
    return nn.Sequential(*layers)


def _net(model: str, shape: tuple[int, ...]) -> nn.Module:
    cfg = timm.get_pretrained_cfg(model)
    options = {"img_size": shape[:2]} if cfg is not None and cfg.fixed_input_size else {}
    net: nn.Module = timm.create_model(model, num_classes=0, in_chans=shape[2], **options)
    return net


def _features(body: nn.Module, hidden: tuple[int, ...], inputs: Tensor) -> int:
    if isinstance(body, nn.Sequential) and isinstance(body[0], _Standardize):
        return hidden[-1] if hidden else inputs.shape[1]
    return int(getattr(body, "head_hidden_size", None) or body.num_features)  # type: ignore[arg-type]


def _scaled(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1
