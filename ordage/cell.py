"""One cell of work: a loss and a seed on prepared data. `fit` runs one, `compare` many on the same preparation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from typing import TypeVar

from ordage.eval import Calibration, ConstantBaselines, evaluate

from . import processes
from .config import RunConfig, TrainingConfig
from .data.dataset import Dataset, prepare
from .data.manifest import Manifest
from .devices import make_accelerator
from .diagnosis import Evidence, diagnose
from .lr_finder import find_lr
from .model import Plan, build_model, make_loss, parse_loss, plan_model
from .net_choice import MANY, choose_net
from .optimizers import check_optimizer, open_options
from .prediction import predict_part
from .progress import Reporter
from .runs import Run, describe_environment
from .trackers import tracked
from .training import train

__all__ = ["Prepared", "prepare_run", "run_cell"]

FITTED = 2000  # training images on which it is looked at how well the model fits them

C = TypeVar("C", bound=TrainingConfig)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What all runs of one command share."""

    plan: Plan
    dataset: Dataset


def prepare_run(
    config: C, manifest: Manifest, losses: Iterable[str], reporter: Reporter, *, check_weights: bool = True
) -> tuple[Prepared, C]:
    """Choose model and device, decode the data, and try what training will need, before anything is written.

    Args:
        config: the options.
        manifest: the samples.
        losses: every loss that will be trained.
        reporter: says what was chosen.
        check_weights: whether to create the backbone once, weights included; a resumed run needs none.

    Returns:
        What the runs share, and the options with nothing left open.
    """
    for loss in losses:
        parse_loss(loss)
    check_optimizer(config.opt)
    device = make_accelerator(config).device
    native = None if manifest.images is None else manifest.images.shape[1:]
    plan = plan_model(config, native)
    dataset = prepare(manifest, plan.spec, config, reporter)
    samples = len(dataset.index("train"))
    for loss in losses:
        criterion = make_loss(loss, dataset.classes)
    model = build_model(
        plan if check_weights else dataclasses.replace(plan, pretrained=False),
        criterion,
        config.weights if check_weights else None,
    )
    options = processes.from_first(lambda: open_options(config, plan, model.backbone, device, samples))
    if config.model == "auto" and config.weights is None:
        precision, batch_size = options["precision"], options["batch_size"]
        plan, epochs = processes.from_first(
            lambda: choose_net(plan, device, precision, config.seconds, samples, batch_size, config.members)
        )
        if config.augment is None and epochs is not None and epochs >= MANY:
            options["augment"] = "full"
    resolved = dataclasses.replace(
        config,
        layout=manifest.layout,
        model=plan.model,
        members=plan.members,
        img_size=plan.spec.size,
        in_chans=plan.spec.chans,  # type: ignore[arg-type]  # a specification has no other than 1 and 3
        **options,
    )
    rate = "a rate to be found" if resolved.lr == "find" else f"{resolved.lr:g}"
    reporter.note(
        f"{plan.name} ({plan.reason}) at {plan.spec.size}x{plan.spec.size}x{plan.spec.chans}, "
        f"{'pretrained' if plan.pretrained else 'from scratch'}, on {device} in {resolved.precision}, "
        f"{resolved.opt} at {rate} in batches of {resolved.batch_size}, augmentation {resolved.augment}; "
        f"{len(dataset.classes)} classes, judged on {len(dataset.bins)} bins"
    )
    return Prepared(plan, dataset), resolved


def run_cell(config: RunConfig, prepared: Prepared, run: Run, reporter: Reporter) -> None:
    """Train, predict and evaluate one run on data that is ready."""
    dataset = prepared.dataset
    # One a cell: it would keep the models of all cells before it.
    accelerator = make_accelerator(config, run.path, config.log)
    begun = time.perf_counter()
    if config.lr == "find":
        found = run.config.lr if run.begun else find_lr(config, prepared.plan, dataset, accelerator, reporter)
        config = dataclasses.replace(config, lr=found)
        reporter.note(f"learning rate {found:g}")
    searched = time.perf_counter() - begun

    def begin() -> None:
        run.path.mkdir(parents=True, exist_ok=True)
        dataset.write_splits(run.path / "splits.csv")
        run.start(config, describe_environment(accelerator.device))
        dataset.manifest.rejected.write(run.path / "rejected.csv")

    processes.from_first(begin)
    with tracked(config, run, accelerator):
        result = train(config, prepared.plan, dataset, run, accelerator, reporter, spent=searched)

    meta = {"loss": config.loss, "seed": config.seed, "model": prepared.plan.name}
    constants = constants_of(dataset)
    said = {part: predict_part(run, dataset, part, accelerator, meta) for part in ("val", "test")}
    calibration = Calibration.fit(said["val"])
    if processes.is_first():
        run.save_calibration(calibration)
        for part, predictions in said.items():
            run.save_predictions(part, predictions)
    evaluations = {
        "val": evaluate(said["val"], bins=dataset.bins, baselines=constants),
        "test": evaluate(said["test"], bins=dataset.bins, baselines=constants, calibration=calibration),
    }
    fitted = predict_part(run, dataset, "train", accelerator, meta, most=FITTED)
    evidence = Evidence(
        config=config,
        pretrained=prepared.plan.pretrained,
        dataset=dataset,
        rows=run.metrics,
        fitted=evaluate(fitted, bins=dataset.bins, n_resamples=0),
        val=evaluations["val"],
    )
    report = {
        "loss": config.loss,
        "seed": config.seed,
        "model": prepared.plan.name,
        "data": dataset.summary(),
        "training": dataclasses.asdict(result),
        "val": evaluations["val"].to_dict(),
        "test": evaluations["test"].to_dict(),
        "fitted": evidence.fitted.test,
        "diagnosis": diagnose(evidence),
    }
    processes.from_first(lambda: run.write_report(report))


def constants_of(dataset: Dataset) -> ConstantBaselines:
    """Return the constant guesses that the training part suggests."""
    train = dataset.index("train")
    target = dataset.classes.mapping_to(dataset.bins)[dataset.target[train]]
    return ConstantBaselines.fit(dataset.bins, target=target, age=dataset.manifest.ages[train])
