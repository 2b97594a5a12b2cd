"""The run directory: the only reader and writer of its files."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ordage.eval import Calibration, Predictions

from .calibration import read_calibration, write_calibration
from .config import RunConfig, read_yaml
from .errors import DataError
from .files import write_whole

__all__ = ["CONFIG", "REPORT", "Run", "describe_environment", "write_config", "write_json"]

CONFIG = "config.yaml"
ASKED = "asked.yaml"
REPORT = "report.json"


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


class Run:
    """A run directory.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the directory; nothing is read or written yet."""
        self.path = Path(path)

    def __repr__(self) -> str:
        """Return a short description."""
        return f"Run({str(self.path)!r})"

    # -- set up ------------------------------------------------------------------------------------------------------

    def start(self, config: RunConfig, environment: Mapping[str, Any]) -> None:
        """Write what the run is asked to do and where it runs."""
        (self.path / "command.txt").write_text(shlex.join(sys.argv) + "\n", encoding="utf-8")
        write_json(self.path / "environment.json", environment)
        write_config(self.path, config.to_dict())

    @property
    def config(self) -> RunConfig:
        """The resolved options, as saved."""
        return RunConfig.parse(read_yaml(self.path / CONFIG))

    def save_asked(self, config: RunConfig) -> None:
        """Write which options the user gave; all others were left to ordage."""
        write_whole(self.path / ASKED, yaml.safe_dump(config.given, sort_keys=False, allow_unicode=True))

    @property
    def asked(self) -> dict[str, Any]:
        """The options that the user gave, as far as that is known."""
        file = self.path / ASKED
        return read_yaml(file) if file.exists() else self.config.given

    @property
    def begun(self) -> bool:
        """Whether its options are saved."""
        return (self.path / CONFIG).exists()

    @property
    def finished(self) -> bool:
        """Whether training and evaluation are done."""
        return (self.path / REPORT).exists()

    # -- training ----------------------------------------------------------------------------------------------------

    @property
    def best(self) -> Path:
        """Folder of the model that was best on validation."""
        return self.path / "checkpoints" / "best"

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Write ``metrics.csv``, a row an epoch."""
        file = io.StringIO()
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path / "metrics.csv", file.getvalue())

    @property
    def metrics(self) -> list[dict[str, str]]:
        """The rows of ``metrics.csv``."""
        with (self.path / "metrics.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Save what resuming needs; a kill at any moment leaves the state before or this one."""
        import torch

        folder = self.path / "checkpoints" / "last"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(dict(state), folder / "state.pt.part")
        (folder / "state.pt.part").replace(folder / "state.pt")

    def load_state(self) -> dict[str, Any] | None:
        """Return the saved state, ``None`` where there is none; nothing that could run code is loaded."""
        import torch

        file = self.path / "checkpoints" / "last" / "state.pt"
        if not file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling raises whatever the bytes lead it to
            raise DataError(
                f"{file}: cannot be resumed from ({type(error).__name__}); start again with --overwrite"
            ) from None
        return state

    # -- results -----------------------------------------------------------------------------------------------------

    def save_predictions(self, part: str, predictions: Predictions) -> None:
        """Write the predictions on a part."""
        predictions.save(self.path / f"predictions_{part}.npz")

    def predictions(self, part: str = "test") -> Predictions:
        """Return the predictions on ``val`` or ``test``."""
        file = self.path / f"predictions_{part}.npz"
        if not file.exists():
            raise DataError(f"{file}: not there; is the run finished?")
        try:
            return Predictions.load(file)
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: {' '.join(str(error).split())}") from None

    def seen_digests(self) -> list[str]:
        """Hashes of the images that the model was trained or validated on."""
        with (self.path / "splits.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return [row["digest"] for row in csv.DictReader(file) if row["part"] in ("train", "val")]

    def save_calibration(self, calibration: Calibration) -> None:
        """Write what was learned on validation about the model's own answers, beside the model."""
        write_calibration(self.best, calibration)

    @property
    def calibration(self) -> Calibration | None:
        """What stands beside the model; None where nothing does."""
        return read_calibration(self.best)

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Write ``report.json``, which also marks the run as finished."""
        write_json(self.path / REPORT, report)

    @property
    def report(self) -> dict[str, Any]:
        """What ``report.json`` says."""
        try:
            content: dict[str, Any] = json.loads((self.path / REPORT).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{self.path}: no {REPORT}; is it a finished run?") from None
        except ValueError as error:
            raise DataError(f"{self.path / REPORT}: not JSON ({error})") from None
        return content


def write_config(folder: Path, options: Mapping[str, Any]) -> None:
    """Write ``config.yaml``, which ``--config`` reads back."""
    write_whole(folder / CONFIG, yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True))


def describe_environment(device: Any) -> dict[str, Any]:
    """Return versions and machine, for ``environment.json``."""
    import torch

    packages = (
        "ordage",
        "torch",
        "torchvision",
        "timm",
        "accelerate",
        "coral-pytorch",
        "scikit-learn",
        "numpy",
        "scipy",
    )
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in packages},
        "device": str(device),
        "accelerator": accelerator,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
