"""A model and what changes it: the data, the loss, the augmentation, the optimiser. `training` makes steps with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from . import processes
from .augmentation import AUGMENTATIONS, DRAWS
from .balance import class_shares, class_weights, draw_epoch
from .data.batches import Batch, Batches
from .devices import seed_generators
from .errors import DataError, MissingError, UsageError
from .memory import clear_device_cache, in_pieces, should_reduce_batch_size
from .model import OrdinalModel, Plan, build_model, make_loss
from .moving_average import MovingAverage
from .optimizers import make_optimizer
from .step_graph import StepGraph, fits_a_graph, waits_for_the_device

if TYPE_CHECKING:
    from ordage.losses import OrdinalLoss

    from .config import RunConfig
    from .data.dataset import Dataset

__all__ = ["Learner", "TrainingBatch"]

# Pixels up to which batches are changed at once: calling the operators takes longer than their work.
TOGETHER = {"cpu": 2**18, "cuda": 2**22}
WARM_UP = 2  # steps before one is recorded: libraries choose their kernels in them, and the optimiser makes its state


@dataclass(frozen=True)
class TrainingBatch:
    """A batch as the model sees it in training.

    Attributes:
        images: ``(B, C, H, W)``, augmented, 0 to 255.
        target: ``(B,)`` classes.
    """

    images: Tensor
    target: Tensor


class Learner:
    """What a step of training needs, and the step.

    Everything random is a function of the seed and the position: the order of an epoch of ``(seed, epoch)``,
    augmentation and dropout of ``(seed, step)``, where some steps are augmented together. No generator's state needs
    saving.

    Attributes:
        criterion: the loss.
        model: backbone and head, in channels-last memory on the device.
        optimizer: over its parameters.
        batches: the training part.
        val_batches: the validation part.
        batch_size: samples of a step, of all processes together.
        steps: of an epoch; the rest of a permutation waits for the next epoch, so all batches are alike.
    """

    def __init__(
        self, config: RunConfig, plan: Plan, dataset: Dataset, accelerator: Accelerator, weights: str | None
    ) -> None:
        """Build the model with ``weights`` from a file, or as ``plan`` says.

        Raises:
            UsageError: a batch that the processes cannot share.
            DataError: too few images.
        """
        self._config, self._accelerator = config, accelerator
        device = accelerator.device
        train, val = dataset.index("train"), dataset.index("val")
        self.batches = Batches(dataset.images, dataset.row[train], dataset.target[train], device)
        self.val_batches = Batches(dataset.images, dataset.row[val], dataset.target[val], device)
        wanted = config.batch_size or 64  # nothing is left open by `open_options`
        group = processes.count()
        if wanted % group:
            raise UsageError(f"--batch-size {wanted}: {group} processes need a multiple of their number")
        self.batch_size = min(wanted, len(self.batches) // group * group)
        if self.batch_size < 2 or min(len(self.batches), len(self.val_batches)) < group:
            raise DataError(
                f"{dataset.manifest.source}: {len(train)} images to train on and {len(val)} to validate; batch "
                "statistics need 2 or more, and every process at least one"
            )
        self._share = self.batch_size // group  # of a batch that this process works on
        self._mine = slice(processes.rank() * self._share, (processes.rank() + 1) * self._share)
        together = TOGETHER.get(device.type, TOGETHER["cpu"])
        self._together = max(1, together // (self.batch_size * plan.spec.size**2))
        self.steps = len(self.batches) // self.batch_size

        torch.manual_seed(config.seed)
        weighting = None if config.class_weights is None else class_weights(config.class_weights, dataset)
        drawing = class_weights("balanced", dataset) if config.sampling == "balanced" else None
        self.criterion = make_loss(config.loss, dataset.classes, weighting).to(device)
        model = build_model(plan, self.criterion, weights, prior=class_shares(dataset, weighting, drawing))
        self.model = model.to(memory_format=torch.channels_last).to(device)
        # A copy, made before the model's way of going forward is changed for this device.
        self._average = MovingAverage(self.model, config.ema, self.steps) if config.ema else None
        self._parameters = list(self.model.parameters())
        optimizer = make_optimizer(self.model, config)
        # What accelerate adds is the scaler of fp16; without one it would look for a package on disk in every step.
        self.optimizer = optimizer if accelerator.scaler is None else accelerator.prepare_optimizer(optimizer)
        if config.compile:
            self.model.compile()
        self._autocast = accelerator.prepare_model(self.model, evaluation_mode=True)  # `join` joins the processes
        self._joined = self._autocast
        # Several processes would have to exchange their gradients inside, and the scaler of fp16 asks for a number.
        self._recordable = config.record and device.type == "cuda" and group == 1 and accelerator.scaler is None
        self._records_optimizer = fits_a_graph(self.optimizer)
        self._graph: StepGraph | None = None
        self._eager_steps = 0  # since something else began to be trained
        self._frozen = False

        self._augment = AUGMENTATIONS[config.augment or "none"]
        # Losses differ in scale a hundredfold (K = 101 at zero logits: softmax 4.6, CORAL 69, CORN 0.69). Gradients
        # are brought to the scale of softmax, so that one learning rate means the same to each under any optimiser.
        self._loss_scale = _loss_scale(self.criterion)
        self._sampler, self._noise = torch.Generator(), torch.Generator(device)
        self._chances = None if drawing is None else drawing[self.batches.target.cpu()]

    def begin_epoch(self, epoch: int) -> None:
        """Switch to training; the backbone stays as it is in the first epochs where it is frozen."""
        frozen = epoch < (self._config.freeze or 0)
        if frozen != self._frozen:  # a recorded step would go on as before
            self._frozen, self._graph, self._eager_steps = frozen, None, 0
        self.model.backbone.requires_grad_(not frozen)
        self.model.train()
        if frozen:
            self.model.backbone.eval()

    def join(self) -> None:
        """Let the processes of a group exchange the gradients of what is to be trained from now on."""
        if processes.count() == 1:
            return
        self._joined = nn.parallel.DistributedDataParallel(self._autocast)
        if self._average is not None:
            self._average.forget_tensors()

    def epoch_batches(self, epoch: int, first: int = 0) -> Iterator[TrainingBatch]:
        """Yield this process's share of the batches of an epoch, from step ``first`` on."""
        self._sampler.manual_seed(_mix(self._config.seed, epoch))
        order = draw_epoch(len(self.batches), self.steps * self.batch_size, self._chances, self._sampler)
        order = order.view(self.steps, self.batch_size)[:, self._mine]
        # Small batches are changed several at once, and always the same ones, wherever a run is resumed.
        step = first - first % self._together
        for several in self.batches.take(order[step:].reshape(-1), self._together * self._share):
            draws = self._draws(epoch * self.steps + step, len(several.target) // self._share)
            images = self._augmented(several, draws)
            pairs = zip(torch.split(images, self._share), torch.split(several.target, self._share), strict=True)
            for batch in starmap(TrainingBatch, pairs):
                if step >= first:
                    yield batch
                step += 1

    def _augmented(self, several: Batch, draws: Tensor) -> Tensor:
        try:
            return self._augment(several.source, several.index, draws)
        except RuntimeError as error:
            if self._graph is None or not should_reduce_batch_size(error):
                raise
        # A recorded step keeps its memory between steps. Where that is missing here, steps are made as they come.
        self._recordable, self._graph = False, None
        for parameter in self._parameters:
            parameter.grad = None
        clear_device_cache(garbage_collection=True)
        return self._augment(several.source, several.index, draws)

    def _draws(self, updates: int, count: int) -> Tensor:
        """Return what decides how each image of this process's share is changed in ``count`` steps from one on."""
        self._noise.manual_seed(_mix(self._config.seed, updates, 2))
        draws = torch.rand(count, self.batch_size, DRAWS, generator=self._noise, device=self._noise.device)
        return draws[:, self._mine].reshape(-1, DRAWS)

    def step(self, batch: TrainingBatch, updates: int, pieces: int) -> tuple[Tensor, int]:
        """Change the model by a batch; the device is not waited for.

        Args:
            batch: this process's share of it.
            updates: steps before this one.
            pieces: in which the share is worked on; twice as many whenever memory runs out.

        Returns:
            The loss on the device, and the number of pieces.

        Raises:
            MissingError: memory does not suffice, or nothing to compile with.
        """
        # One process alone can go over a batch again; the others of a group would wait for it forever.
        most = self._share // 2 if processes.count() == 1 else 1
        graph = self._recorded(batch) if self._recordable and pieces == 1 else None
        try:
            if graph is None:
                loss, pieces = self._eager(batch, updates, pieces, most)
            else:
                self._seed(updates)
                loss = graph(batch.images, batch.target)
        except RuntimeError as error:
            if self._config.compile and isinstance(error, torch._dynamo.exc.TorchDynamoException):
                reason = str(error).strip().splitlines()[0]
                raise MissingError(f"--compile: torch.compile cannot, leave it out: {reason}") from error
            raise
        if graph is None or not self._records_optimizer:
            self.optimizer.step()
        if self._average is not None:
            self._average.update(updates)
        return loss, pieces

    def judged(self) -> OrdinalModel:
        """Return what is validated and kept: the moving average where there is one, the same in all processes."""
        model = self.model if self._average is None else self._average.model
        if processes.count() > 1:
            for buffer in model.buffers():  # batch statistics are each process's own
                torch.distributed.broadcast(buffer, src=0)
        return model

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors that resuming needs."""
        scaler = self._accelerator.scaler
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take what `state_dict` returned."""
        self._graph, self._eager_steps = None, 0
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(saved["average"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(saved["scaler"])

    def _recorded(self, batch: TrainingBatch) -> StepGraph | None:
        """Return the step as a graph; ``None`` in the first steps, and where it cannot be recorded."""
        if self._graph is None and self._eager_steps >= WARM_UP:
            try:
                self._graph = StepGraph(self._whole_step, batch.images, batch.target, self.optimizer)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise MissingError(
                        f"a training step cannot be recorded; --no-record goes without: {str(error).splitlines()[0]}"
                    ) from error
                self._recordable = False  # no memory for a second copy of all
        return self._graph

    def _eager(self, batch: TrainingBatch, updates: int, pieces: int, most: int) -> tuple[Tensor, int]:
        """Go forward and backward as it comes; the last time before recording, look whether that will be possible."""
        found: list[tuple[Tensor, int]] = []

        def work() -> None:
            found.append(in_pieces(partial(self._gradients, batch.images, batch.target, updates), pieces, most))

        self._eager_steps += 1
        if self._recordable and self._eager_steps == WARM_UP:
            self._recordable = not waits_for_the_device(work)
        else:
            work()
        return found[-1]

    def _whole_step(self, images: Tensor, target: Tensor) -> Tensor:
        loss = self._forward_and_backward(images, target, 1)
        if self._records_optimizer:
            self.optimizer.step()
        return loss

    def _gradients(self, images: Tensor, target: Tensor, updates: int, pieces: int) -> Tensor:
        self._seed(updates)
        return self._forward_and_backward(images, target, pieces)

    def _seed(self, updates: int) -> None:
        """Seed what dropout draws from in a step."""
        seed_generators(self._accelerator.device, _mix(self._config.seed, updates, 1, processes.rank()))

    def _forward_and_backward(self, images: Tensor, target: Tensor, pieces: int) -> Tensor:
        """Go forward and backward over a batch, in as many pieces; return the loss."""
        for parameter in self._parameters:  # as `zero_grad` does, in a tenth of the time
            parameter.grad = None
        values = []
        for some, of in zip(images.tensor_split(pieces), target.tensor_split(pieces), strict=True):
            logits = self._joined(some)
            # Each member learns by itself: one may not rely on what another says.
            members = logits.unbind(1) if self.model.members > 1 else (logits,)
            losses = [self.criterion(own, of) for own in members]
            share = len(of) / self._share
            # The scale is what the backward pass begins with: to multiply the losses by it would take two calls more.
            self._backward(losses, self._loss_scale if pieces == 1 else self._loss_scale * share)
            value = losses[0].detach() if len(losses) == 1 else torch.stack(losses).detach().mean()
            values.append(value if pieces == 1 else value * share)
        return values[0] if pieces == 1 else torch.stack(values).sum()

    def _backward(self, losses: Sequence[Tensor], gradient: Tensor) -> None:
        scaler = self._accelerator.scaler
        outputs = losses if scaler is None else [scaler.scale(loss) for loss in losses]
        torch.autograd.backward(outputs, [gradient] * len(outputs))


def _loss_scale(criterion: OrdinalLoss) -> Tensor:
    """Return log K over the loss of a head that says nothing, averaged over the classes; on the device of the loss."""
    device = next((buffer.device for buffer in criterion.buffers()), torch.device("cpu"))
    logits = torch.zeros(criterion.num_classes, criterion.out_features, device=device)
    value = float(criterion(logits, torch.arange(criterion.num_classes, device=device)))
    return torch.tensor(math.log(criterion.num_classes) / value if value > 0 else 1.0, device=device)


def _mix(*numbers: int) -> int:
    """Return one seed for several small numbers, mixed by SplitMix64 so that neighbours give unrelated generators."""
    value = 0
    for number in numbers:
        value = (value ^ number) + 0x9E3779B97F4A7C15
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        value ^= value >> 31
    return value >> 1
