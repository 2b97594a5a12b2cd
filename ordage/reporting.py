"""`report`: all that is written about results, made from what the runs have saved, without training."""

from __future__ import annotations

import dataclasses
import webbrowser
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .comparison import Arm, Cell, Comparison
from .comparison.standings import summarise, write_summary
from .config import REFERENCE, RunConfig
from .drawing import draw
from .errors import DataError, UsageError
from .files import write_whole
from .runs import Run

if TYPE_CHECKING:
    from .data.manifest import Manifest
    from .judging import Judged
    from .report.content import Content

__all__ = ["PAGE", "open_page", "report", "report_comparison", "report_judged", "report_run"]

PAGE = "report.html"


def report(paths: Sequence[Path], out: Path | None = None) -> Path:
    """Write ``report.html``, ``summary.md`` and ``figures`` anew: what ``ordage report`` does.

    Args:
        paths: a run, a comparison, or several runs on one test part, which are then compared.
        out: folder to write into; that of the only run or comparison without, and ``report`` for several.

    Returns:
        The page.

    Raises:
        DataError: something that is no finished run, or runs that were not tested on the same images.
        UsageError: a comparison among several.
    """
    for path in paths:
        if not path.is_dir():
            raise DataError(f"{path}: no such folder; expected a run or a comparison")
    if len(paths) == 1 and (paths[0] / "cells").is_dir():
        comparison = Comparison(paths[0])
        return report_comparison(comparison, out=out)
    if len(paths) == 1:
        return report_run(Run(paths[0]), out=out)
    if among := [path for path in paths if (path / "cells").is_dir()]:
        raise UsageError(f"{among[0]}: is a comparison, which is reported by itself; name runs, or its cells")
    from .report.content import comparison_content

    cells = _cells([Run(path) for path in paths])
    arms = dict.fromkeys(cell.arm for cell in cells)
    found = {**summarise(list(arms), cells), "failed": [], "tuning": [], "protocol": {}}
    folder = out or Path("report")
    folder.mkdir(parents=True, exist_ok=True)
    write_summary(folder / "summary.csv", found)
    return _write(comparison_content(found, cells), folder, None)


def report_run(run: Run, manifest: Manifest | None = None, *, out: Path | None = None) -> Path:
    """Write about a finished run.

    Args:
        run: which.
        manifest: its samples, where they have been read already.
        out: folder to write into; its own without.
    """
    from .report.content import run_content

    return _write(run_content(run), out or run.path, manifest)


def report_comparison(comparison: Comparison, manifest: Manifest | None = None, *, out: Path | None = None) -> Path:
    """Write about a comparison.

    Args:
        comparison: which; its finished cells are brought together anew.
        manifest: its samples, where they have been read already.
        out: folder to write into; its own without.
    """
    from .report.content import comparison_content, environment_of

    cells = [cell for cell in comparison.cells if cell.run.finished]
    environment = environment_of(comparison.path)
    content = comparison_content(comparison.standings(), cells, given=comparison.config.given, environment=environment)
    return _write(content, out or comparison.path, manifest)


def report_judged(judged: Judged, other: Judged | None, path: Path, page: Path) -> Path:
    """Write the page of an evaluation.

    Args:
        judged: what was judged.
        other: what it was held against.
        path: the run that it was judged from, or a table of answers.
        page: the file to write.
    """
    from .report.content import judged_content
    from .report.result_page import result_page

    content = judged_content(judged, other, Run(path) if path.is_dir() else None)
    write_whole(page, result_page(content, judged.manifest))
    return page


def _write(content: Content, folder: Path, manifest: Manifest | None) -> Path:
    from .report.result_page import result_page

    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "summary.md", content.to_markdown())
    draw([model.judged for model in content.models], folder / "figures", content.drawings)
    write_whole(folder / PAGE, result_page(content, manifest))
    return folder / PAGE


def open_page(path: Path) -> None:
    """Show a page in the browser.

    Raises:
        DataError: there is no browser.
    """
    if not webbrowser.open(path.resolve().as_uri()):
        raise DataError(f"--open: no browser was found; the page is {path}")


def _cells(runs: Sequence[Run]) -> list[Cell]:
    """Return runs as cells: those that differ by seed, fold and machine alone are one arm."""
    groups: dict[RunConfig, list[tuple[Run, RunConfig]]] = {}
    for run in runs:
        config = run.config
        shared = dataclasses.replace(config, seed=0, fold=None, device=None, devices="1", log=())
        groups.setdefault(shared, []).append((run, config))
    models = {config.model for config in groups}
    plain = {config: config.loss if len(models) == 1 else f"{config.loss}, {config.model}" for config in groups}
    several = {name for name, count in Counter(plain.values()).items() if count > 1}
    # Those that differ by something else are told apart by where they lie.
    names = {
        config: f"{name} ({groups[config][0][0].path})" if name in several else name for config, name in plain.items()
    }
    references = {config.model: names[config] for config in groups if config.loss == REFERENCE}
    cells: dict[tuple[str, int, int | None], Cell] = {}
    for shared, members in groups.items():
        against = references.get(shared.model) if shared.loss != REFERENCE else None
        arm = Arm(names[shared], members[0][1], against)
        for run, config in members:
            cell = Cell(arm, config, run)
            if cell.key in cells:
                raise UsageError(
                    f"{run.path}: is {cell.title} once more, as is {cells[cell.key].run.path}; name one of them"
                )
            cells[cell.key] = cell
    return list(cells.values())
