import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from ordage.config import CompareConfig, RunConfig

QUICK = ("--epochs", "1", "--device", "cpu", "-q")


def one_line(result):
    """The only line on stderr, which a user is meant to act on."""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("ordage: error: ")
    assert "Traceback" not in line
    return line


def test_fit_prints_the_promised_json(ordage, arrays):
    result = ordage("fit", arrays, *QUICK, "--loss", "corn", "--json")

    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    (row,) = content["results"]
    assert (row["loss"], row["seed"]) == ("corn", 0)
    assert row["test"].keys() == {"n", "bin_accuracy", "off_by_one_accuracy", "mae"}
    assert row["test"]["n"] == 60
    assert {"majority_bin_accuracy", "median_age_mae"} <= content["baselines"].keys()
    assert result.stderr == ""


def test_fit_writes_the_run_directory(ordage, arrays, tmp_path):
    result = ordage("fit", arrays, *QUICK, "--out", "here", "--name", "first")

    assert "always" in result.stdout
    run = tmp_path / "here" / "first"
    for name in (
        "config.yaml", "environment.json", "command.txt", "metrics.csv", "splits.csv", "rejected.csv", "report.json",
        "checkpoints/best/model.safetensors", "checkpoints/best/model.json", "checkpoints/last/state.pt",
        "predictions_val.npz", "predictions_test.npz",
    ):  # fmt: skip
        assert (run / name).is_file(), name
    assert not list(run.rglob("*.part"))


@pytest.mark.slow
def test_the_saved_configuration_runs_again_to_the_same_figures(ordage, arrays):
    first = ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a", "--lr", "0.003", "--json")
    again = ordage("fit", "--config", "o/a/config.yaml", "-q", "--out", "o", "--name", "b", "--json")

    figures = [json.loads(result.stdout)["results"] for result in (first, again)]
    assert figures[0] == figures[1]


def test_flags_win_over_the_configuration_file(ordage, arrays, tmp_path):
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump({"data": str(arrays), "epochs": 3, "batch-size": 32, "loss": "corn"})
    )

    ordage("fit", "--config", "c.yaml", *QUICK, "--out", "o", "--name", "a")

    saved = yaml.safe_load((tmp_path / "o/a/config.yaml").read_text())
    assert (saved["epochs"], saved["batch_size"], saved["loss"]) == (1, 32, "corn")


def test_a_directory_with_something_in_it_is_not_written_to(ordage, arrays, tmp_path):
    (tmp_path / "o/a").mkdir(parents=True)
    (tmp_path / "o/a/precious.txt").write_text("keep")

    plain = ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a")
    overwrite = ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a", "--overwrite")

    assert plain.returncode == overwrite.returncode == 2
    assert "--overwrite" in one_line(plain)
    assert (tmp_path / "o/a/precious.txt").read_text() == "keep"


def test_a_mistake_beside_overwrite_deletes_nothing(ordage, arrays, tmp_path):
    ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a")

    for wrong in (("--loss", "corall"), ("--opt", "adamww"), ("--layout", "csv"), ("--weights", "nowhere")):
        assert ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a", "--overwrite", *wrong).returncode > 0

    assert (tmp_path / "o/a/report.json").is_file()


def test_a_resumed_run_refuses_data_that_has_changed(ordage, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for row in range(60):
        pixels = generator.integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{20 + row}_0_0_2017{row}.jpg")
    ordage("fit", "data", *QUICK, "--img-size", "16", "--out", "o", "--name", "a")
    (tmp_path / "o/a/report.json").unlink()  # as if it had been stopped before the end
    (folder / "20_0_0_20170.jpg").unlink()

    result = ordage("fit", "data", "--out", "o", "--name", "a", "--resume", "-q")

    assert result.returncode == 3
    assert "have changed since" in one_line(result)


def test_without_a_command_the_help_is_shown(ordage):
    result = ordage()

    assert result.returncode == 0
    assert "compare" in result.stdout


@pytest.mark.slow
def test_overwrite_starts_anew_and_resume_of_a_finished_run_prints_it(ordage, arrays):
    first = ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a", "--json")
    refused = ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a")
    resumed = ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a", "--resume", "--json")
    contradicted = ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a", "--resume", "--loss", "corn")
    replaced = ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a", "--overwrite", "--seed", "1", "--json")

    assert refused.returncode == 2
    assert json.loads(resumed.stdout) == json.loads(first.stdout)
    assert "--loss corn: what is to be resumed has dldl-v2:mean_weight=0.1" in one_line(contradicted)
    assert json.loads(replaced.stdout)["results"][0]["seed"] == 1


def test_evaluate_judges_a_run_on_other_bins(ordage, arrays):
    ordage("fit", arrays, *QUICK, "--out", "o", "--name", "a")

    own = json.loads(ordage("evaluate", "o/a", "--json").stdout)
    other = json.loads(ordage("evaluate", "o/a", "--bins", "0-17,18+", "--json").stdout)
    shown = ordage("evaluate", "o/a")

    assert own["test"]["mae"] == other["test"]["mae"]
    assert other["scale"]["labels"] == ["0-17", "18+"]
    assert other["baselines"]["median_age_mae"] == own["baselines"]["median_age_mae"]
    assert other["test"]["off_by_one_accuracy"] == 1.0
    assert "paper" in shown.stdout


def test_losses_lists_every_loss_with_its_source(ordage):
    from ordage import losses

    lines = ordage("losses").stdout.splitlines()

    assert [line.split()[0] for line in lines] == losses.available()
    assert all(
        losses.get(name).source.rstrip(".") in line for name, line in zip(losses.available(), lines, strict=True)
    )


def test_losses_tells_the_options_as_they_are_typed(ordage):
    from ordage.model import parse_loss

    lines = {line.split()[0]: line for line in ordage("losses").stdout.splitlines()}

    assert lines["emd"].endswith("(arXiv:1611.05916)]")
    assert lines["cdw-ce"].endswith("] :alpha=2.0")
    assert lines["coral"].endswith("] :monotone=false :task_weights")
    assert parse_loss("coral:monotone=false") == ("coral", {"monotone": False})


def test_option_that_a_loss_does_not_have_is_told_with_those_it_has(ordage):
    result = ordage("fit", "demo", "--loss", "mean-variance:mean_wieght=1")

    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "ordage: error: --loss mean-variance:mean_wieght=1: mean-variance has no option 'mean_wieght'; "
        "did you mean 'mean_weight'? (its options: mean_weight, variance_weight)"
    )


@pytest.mark.parametrize(
    ("command", "said", "unsaid"),
    [
        ("evaluate", "its own test part when left out", "built-in demo set"),
        ("evaluate", "those of the run when left out", "quantile"),
        ("predict", "Needs ordage[detect].", "Needs ordage."),
        ("fit", "FLOAT|find", "demo set when left out. (default: demo) (default"),
    ],
)
def test_help_says_what_holds_for_the_command(ordage, monkeypatch, command, said, unsaid):
    monkeypatch.setenv("COLUMNS", "300")

    words = " ".join(ordage(command, "--help").stdout.split())

    assert said in words
    assert unsaid not in words


def test_the_version_is_that_of_the_installed_package(ordage):
    from importlib.metadata import version

    assert ordage("--version").stdout.strip() == f"ordage {version('ordage')}"


def broken_jpeg(folder):
    folder.mkdir()
    for row in range(20):
        Image.new("RGB", (16, 16), (row, row, row)).save(folder / f"{20 + row}_0_0_2017{row}.jpg")
    good = (folder / "20_0_0_20170.jpg").read_bytes()
    (folder / "20_0_0_20170.jpg").write_bytes(good[: len(good) // 2])
    return folder


def csv_without_age(folder):
    folder.mkdir()
    (folder / "t.csv").write_text("image,height\na.jpg,3\n")
    return folder / "t.csv"


def empty(folder):
    folder.mkdir()
    return folder


def nowhere(folder):
    return folder / "nowhere"


@pytest.mark.parametrize(
    ("make", "options", "code", "words"),
    [
        (nowhere, (), 3, "no such file or folder"),
        (empty, (), 3, "the folder is empty"),
        (broken_jpeg, (), 3, "1 of 20 samples cannot be used (5.0%), the first: 20_0_0_20170.jpg: "),
        (csv_without_age, (), 3, "no column with the ages; it has image, height; name it by --age-col"),
        (csv_without_age, ("--age-col", "heigth"), 2, "did you mean 'height'?"),
        (None, ("--loss", "corall"), 2, "did you mean 'coral'?"),
        (None, ("--loss", "coral:monoton=true"), 2, "did you mean 'monotone'?"),
        (None, ("--model", "resnet5o"), 2, "did you mean 'resnet50'?"),
        (None, ("--bins", "10-0"), 2, "--bins 10-0: Expected each class to end at or after its start"),
        (None, ("--bins", "0-10,5-20"), 2, "overlap"),
        (None, ("--opt", "adamww"), 2, "did you mean 'adamw'?"),
        (None, ("--device", "gpu"), 2, "--device gpu: expected cpu, cuda"),
        (None, ("--model", "resnet18.nobody"), 2, "--model resnet18.nobody"),
        (None, ("--loss", "coral:reduction=none"), 2, "reduction is decided by"),
        (None, ("--bins", "20-29,40-49"), 3, "lies in none of the bins"),
        (None, ("--train-on", "decades"), 2, "Expected train_on to be 'years' or 'bins', but got 'decades'"),
        (None, ("--epochs", "0"), 2, "Expected epochs to be at least 1, but got 0"),
        (None, ("--epochs", "many"), 2, "--epochs"),
        (None, ("--epoch", "1"), 2, "--epochs"),
        (None, ("--config", "nowhere.yaml"), 2, "nowhere.yaml"),
        (None, ("--weights", "nowhere.safetensors"), 3, "nowhere.safetensors: no such file"),
        (None, ("--lr", "1e30", "--opt", "sgd"), 4, "lower --lr"),
        (None, ("--device", "cuda"), 5, "this machine has cpu"),
        (
            None,
            ("--model", "resnet18", "--img-size", "32"),
            5,
            "give a file by --weights FILE, or start from",
        ),
    ],
)
def test_bad_input_gets_one_line_and_its_exit_code(ordage, arrays, tmp_path, make, options, code, words):
    data = arrays if make is None else make(tmp_path / "data")

    result = ordage("fit", data, "--out", "o", *QUICK, *options)

    assert result.returncode == code, result.stderr
    assert words in one_line(result)
    assert result.stdout == ""


def test_a_misspelt_command_gets_a_suggestion(ordage):
    result = ordage("comapre")

    assert result.returncode == 2
    assert "compare" in one_line(result)


def test_a_misspelt_option_in_the_configuration_file_gets_a_suggestion(ordage, tmp_path):
    (tmp_path / "c.yaml").write_text("epoch: 3\n")

    result = ordage("fit", "--config", "c.yaml")

    assert result.returncode == 2
    assert "did you mean 'epochs'?" in one_line(result)


def test_debug_shows_the_traceback(ordage):
    result = ordage("fit", "nowhere", "--debug")

    assert result.returncode == 3
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("ordage: error: ")


def test_rejected_samples_are_allowed_when_asked_for_and_listed(ordage, tmp_path):
    result = ordage("fit", broken_jpeg(tmp_path / "data"), *QUICK, "--out", "o", "--name", "a", "--allow-rejected")

    assert result.returncode == 0, result.stderr
    assert "20_0_0_20170.jpg" in (tmp_path / "o/a/rejected.csv").read_text()


def test_help_names_every_option_of_its_configuration(ordage):
    for command, config in (("fit", RunConfig), ("compare", CompareConfig)):
        text = ordage(command, "--help").stdout
        for name in config().to_dict():
            assert name == "data" or f"--{name.replace('_', '-')}" in text or name in ("baseline", "pretrained")


def test_help_imports_nothing_heavy():
    heavy = ("torch", "numpy", "pandas", "timm", "sklearn", "yaml")
    program = f"""
import sys
from ordage.cli import main
try:
    main(["fit", "--help"])
finally:
    print([name for name in {heavy} if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-1] == "[]"


def test_a_wrong_path_is_told_before_torch_is_imported(tmp_path):
    program = """
import sys
from ordage.cli import main
try:
    main(["fit", "nowhere"])
finally:
    print("torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)

    assert result.returncode == 3
    assert result.stdout.strip() == "False"


def test_arrays_of_classes_train_without_ages(ordage, tmp_path):
    generator = np.random.default_rng(0)
    target = np.arange(200) % 5
    images = generator.integers(0, 100, (200, 16, 16), dtype=np.uint8) + (target * 30).astype(np.uint8)[:, None, None]
    np.savez(tmp_path / "c.npz", X=images, y=target)

    plain = ordage("fit", "c.npz", "--epochs", "8", "--batch-size", "16", "--augment", "none", "-q", "--json")
    named = ordage("fit", "c.npz", *QUICK, "--bins", "0-10,11-20,21-30,31-40,41+", "--json")

    content = json.loads(plain.stdout)
    assert content["results"][0]["test"]["mae_unit"] == "bins"
    assert content["results"][0]["test"]["bin_accuracy"] > 2 * content["baselines"]["majority_bin_accuracy"]
    assert content["baselines"]["median_age_mae"] is None
    assert named.returncode == 0, named.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("cache",), "Missing command; see ordage cache --help"),
        (("cache", "clera"), "Did you mean 'clear'?; see ordage cache --help"),
        (("cache", "clear", "nosuch"), "nosuch: no such entry"),
        (("inspect", "--conflicts", "mena"), "'mena' is not one of 'drop', 'mean'; see ordage inspect --help"),
        (("inspect", "--html", "nowhere/page.html"), "--html nowhere/page.html: there is no folder nowhere"),
        (("inspect", "--rejected", "nowhere/a.csv"), "--rejected nowhere/a.csv: there is no folder nowhere"),
        (("inspect", "demo", "--folds", "5", "--fold", "7"), "--fold 7: there are 5 folds, 0 to 4"),
        (("inspect", "demo", "--write", "clean.csv"), "demo holds no image files"),
    ],
)
def test_what_cannot_be_looked_over_is_a_usage_error_in_one_line(ordage, command, words):
    result = ordage(*command)

    assert result.returncode == 2
    assert words in one_line(result)
    assert result.stdout == ""
