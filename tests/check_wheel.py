"""Check an installed wheel, from outside the repository: every module imports, and the main job runs.

Run by the interpreter that the wheel is installed for, with the folder of that installation as its argument.
"""

import json
import pkgutil
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np

import ordage
import ordage.eval
import ordage.losses


def main(installation: str) -> None:
    for package in (ordage, ordage.losses, ordage.eval):
        assert package.__file__ is not None
        assert Path(package.__file__).is_relative_to(installation), f"{package.__name__} came from {package.__file__}"
    modules = [
        module.name for module in pkgutil.walk_packages(ordage.__path__, "ordage.") if "__main__" not in module.name
    ]
    for name in modules:
        import_module(name)
    for folder in ("", "losses", "eval"):
        assert (Path(ordage.__path__[0]) / folder / "py.typed").is_file()

    with tempfile.TemporaryDirectory() as folder:
        generator = np.random.default_rng(0)
        ages = generator.integers(0, 80, 200)
        images = (generator.integers(0, 60, (200, 16, 16)) + 2 * ages[:, None, None]).astype(np.uint8)
        np.savez(Path(folder, "faces.npz"), X=images, y=ages)
        command = [sys.executable, "-m", "ordage", "fit", "faces.npz", "--epochs", "1", "--json", "-q"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert json.loads(result.stdout)["results"][0]["test"]["n"] > 0
        command = [sys.executable, "-m", "ordage", "inspect", "faces.npz", "--html", "page.html", "-q"]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        assert "</html>" in Path(folder, "page.html").read_text(encoding="utf-8")  # its templates are in the wheel
    print(f"the wheel holds {len(modules)} modules, all of which import, trains, and writes pages")


if __name__ == "__main__":
    main(sys.argv[1])
