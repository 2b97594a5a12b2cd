import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import ordage
from ordage.errors import MissingError, UsageError
from ordage.trackers import check_trackers


def test_tensorboard_shows_the_figures_of_each_epoch(arrays, tmp_path):
    run = ordage.fit(
        data=str(arrays), model="seed_cnn", device="cpu", epochs=2, log=("tensorboard",), out=tmp_path, verbosity=0
    )

    shown = EventAccumulator(str(run.path / "ordage")).Reload()
    for name in ("val_mae", "val_bin_accuracy", "train_loss", "lr"):
        expected = [(int(row["epoch"]), pytest.approx(float(row[name]), rel=1e-5)) for row in run.metrics]
        assert [(event.step, event.value) for event in shown.Scalars(name)] == expected


def test_a_tracker_that_is_not_known_or_not_there_is_said_before_any_work(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"--log tensorbord: .*did you mean 'tensorboard'"):
        ordage.fit(data="demo", log=("tensorbord",), out=tmp_path)
    monkeypatch.setattr("ordage.trackers.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"--log wandb: .* pip install 'ordage\[wandb\]'"):
        check_trackers(["wandb"])
    assert not list(tmp_path.iterdir())
