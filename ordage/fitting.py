"""`fit`: from options to a trained, evaluated run; also what one cell of a comparison does."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ordage.eval import ConstantBaselines, Evaluation, OrdinalScale, evaluate

from .config import RunConfig, TrainingConfig
from .data.dataset import Dataset, prepare
from .data.layouts import read
from .errors import UsageError
from .model import Plan, parse_loss, plan_model
from .progress import Reporter
from .runs import Run, describe_environment, find_resumable, open_directory
from .training import make_accelerator, predict_part, train

if TYPE_CHECKING:
    from accelerate import Accelerator

C = TypeVar("C", bound=TrainingConfig)

__all__ = ["Prepared", "evaluation_of", "fit", "merge_options", "prepare_run", "run_cell"]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What all runs of one command share."""

    plan: Plan
    dataset: Dataset
    accelerator: Accelerator


def merge_options(config: TrainingConfig | Mapping[str, Any] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are given, those by keyword before those of ``config``, paths made absolute."""
    given = config.to_dict() if isinstance(config, TrainingConfig) else dict(config or {})
    given.update(options)
    for name in ("image_root", "weights", "splits"):
        if given.get(name) is not None:
            given[name] = os.path.abspath(given[name])
    if "data" in given:
        given["data"] = "demo" if given["data"] in (None, "demo") else os.path.abspath(given["data"])
    return given


def fit(
    config: RunConfig | Mapping[str, Any] | None = None,
    /,
    *,
    out: str | os.PathLike[str] = "runs",
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    verbosity: int = 1,
    **options: Any,
) -> Run:
    """Train one model and judge it on the test part: what ``ordage fit`` does.

    Args:
        config: options as an object or a mapping; keyword ``options`` win over it.
        out: folder of all runs.
        name: directory of this run under ``out``; made from date, model and loss without one.
        resume: go on with the run of that name, else with the newest unfinished run that agrees with the options.
        overwrite: delete a run of that name first.
        verbosity: 0 says nothing, 1 a few lines on stderr, 2 a line an epoch.
        **options: any field of `RunConfig`, such as ``data="faces", loss="corn", epochs=5``.

    Returns:
        The run, with ``report``, ``predictions("test")`` and the files in ``path``.

    Raises:
        OrdageError: with one line on what is wrong; its subclasses tell usage, data, numerics and environment apart.
    """
    reporter = Reporter(verbosity)
    given = merge_options(config, options)
    asked = RunConfig.parse(given)
    path, goes_on = choose_directory(Path(out), name, given, asked, resume=resume, overwrite=overwrite)
    if path is not None and goes_on:
        run = Run(path)
        asked = agree(run.config, asked, given)
        if run.finished:
            reporter.note(f"{path}: already finished")
            return run
    parse_loss(asked.loss)
    prepared, resolved = prepare_run(asked, reporter)
    run = Run(path or fresh_directory(Path(out), f"{prepared.plan.model}_{file_name(asked.loss)}"))
    run_cell(resolved, prepared, run, reporter)
    return run


def prepare_run(config: C, reporter: Reporter) -> tuple[Prepared, C]:
    """Read and decode the data, choose model and device; return them with the options resolved."""
    accelerator = make_accelerator(config)
    manifest = read(config)
    native = None if manifest.images is None else manifest.images.shape[1:]
    plan = plan_model(config, native)
    dataset = prepare(manifest, plan.spec, config, reporter)
    resolved = dataclasses.replace(
        config,
        layout=manifest.layout,
        model=plan.model,
        img_size=plan.spec.size,
        in_chans=plan.spec.chans,  # type: ignore[arg-type]  # a specification has no other than 1 and 3
    )
    reporter.note(
        f"{plan.model} ({plan.reason}) at {plan.spec.size}x{plan.spec.size}x{plan.spec.chans}, "
        f"{'pretrained' if plan.pretrained else 'from scratch'}, on {accelerator.device}; "
        f"{len(dataset.classes)} classes, judged on {len(dataset.bins)} bins"
    )
    return Prepared(plan, dataset, accelerator), resolved


def run_cell(config: RunConfig, prepared: Prepared, run: Run, reporter: Reporter) -> None:
    """Train, predict and evaluate one run on data that is ready."""
    dataset = prepared.dataset
    run.start(config, describe_environment(str(prepared.accelerator.device)))
    dataset.write_splits(run.path / "splits.csv")
    dataset.manifest.rejected.write(run.path / "rejected.csv")
    result = train(config, prepared.plan, dataset, run, prepared.accelerator, reporter)

    meta = {"loss": config.loss, "seed": config.seed, "model": prepared.plan.model}
    evaluations = {}
    for part in ("val", "test"):
        predictions = predict_part(run, dataset, part, prepared.accelerator, meta)
        run.save_predictions(part, predictions)
        evaluations[part] = evaluate(predictions, bins=dataset.bins, baselines=constants_of(dataset))
    run.write_report(
        {
            "loss": config.loss,
            "seed": config.seed,
            "model": prepared.plan.model,
            "data": dataset.summary(),
            "training": dataclasses.asdict(result),
            "val": evaluations["val"].to_dict(),
            "test": evaluations["test"].to_dict(),
        }
    )


def constants_of(dataset: Dataset) -> ConstantBaselines:
    """Return the constant guesses that the training part suggests."""
    train = dataset.index("train")
    ages = dataset.manifest.ages[train]
    if np.isfinite(ages).all():
        return ConstantBaselines.fit(dataset.bins, age=ages)
    return ConstantBaselines.fit(dataset.bins, target=dataset.classes.mapping_to(dataset.bins)[dataset.target[train]])


def choose_directory(
    out: Path, name: str | None, given: Mapping[str, Any], asked: TrainingConfig, *, resume: bool, overwrite: bool
) -> tuple[Path | None, bool]:
    """Return the directory that is named or found, and whether it holds earlier work to go on from."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    if name is not None:
        return out / name, open_directory(out / name, resume=resume, overwrite=overwrite)
    if overwrite:
        raise UsageError("--overwrite: say which run by --name")
    if not resume:
        return None, False
    found = find_resumable(out, {option: value for option, value in asked.to_dict().items() if option in given}, asked)
    if found is None:
        raise UsageError(f"--resume: nothing in {out} agrees with these options; name it by --name")
    return found, True


def agree(saved: C, asked: C, given: Mapping[str, Any]) -> C:
    """Return the saved options, once those given now do not contradict them."""
    for option in given:
        was, wanted = getattr(saved, option), getattr(asked, option)
        if was != wanted and wanted not in (None, "auto"):
            flag = "--" + option.replace("_", "-")
            raise UsageError(f"{flag} {wanted}: what is to be resumed has {was}; leave it out, or start another")
    return saved


def fresh_directory(out: Path, what: str) -> Path:
    """Return a directory name from the time and ``what`` that is not taken."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    names = (f"{stamp}_{what}{f'_{count}' if count else ''}" for count in range(1000))
    return next(out / name for name in names if not (out / name).exists())


def file_name(text: str) -> str:
    """Return ``text`` with nothing in it that a file system takes amiss."""
    return re.sub(r"[^\w.-]+", "-", text)


def evaluation_of(run: Run, *, part: str = "test", bins: str | None = None) -> Evaluation:
    """Evaluate a run's saved predictions, on other bins where asked."""
    predictions = run.predictions(part)
    report = run.report
    saved = OrdinalScale.from_dict(report[part]["scale"])
    if bins is not None:
        try:
            return evaluate(predictions, bins=OrdinalScale.parse(bins))
        except ValueError as error:
            raise UsageError(f"--bins {bins}: {error}") from None
    constants = report[part]["baselines"]
    baselines = ConstantBaselines(
        saved,
        saved.labels.index(constants["majority_bin"]),
        saved.labels.index(constants["median_bin"]),
        math.nan if constants["median_age"] is None else constants["median_age"],
    )
    return evaluate(predictions, bins=saved, baselines=baselines)
