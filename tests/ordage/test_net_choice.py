import pytest
import timm
import torch

import ordage
from ordage.config import RunConfig
from ordage.model import plan_model
from ordage.net_choice import MANY, MOST_MEMBERS, NETS, choose_net


def chosen(seconds, device="cpu", samples=1000, members=None):
    plan = plan_model(RunConfig(img_size=24, in_chans=1, members=members), None)
    return choose_net(plan, torch.device(device), "fp32", seconds, samples, 16, members)


def test_the_nets_stand_in_the_order_of_their_size():
    sizes = [sum(p.numel() for p in timm.create_model(name, num_classes=0).parameters()) for name in NETS]

    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(("seconds", "samples", "name"), [(1e6, 1000, NETS[0]), (10.0, 10**9, NETS[-1])])
def test_the_more_time_an_image_has_the_larger_the_net(seconds, samples, name):
    plan, epochs = chosen(seconds, samples=samples)

    assert plan.model == name
    assert (epochs >= 20) == (name == NETS[0])
    assert f"epochs in {seconds:g} s" in plan.reason


def test_time_for_more_epochs_than_a_net_needs_goes_into_several_of_it():
    assert [chosen(seconds)[0].members for seconds in (None, 1e6)] == [1, MOST_MEMBERS]
    assert chosen(10.0, samples=10**9)[0].members == 1
    asked, epochs = chosen(1e6, members=2)
    assert (asked.name, asked.members) == (f"2 x {NETS[0]}", 2)
    assert epochs > chosen(1e6, members=8)[1] > 20
    assert chosen(None, members=3)[0].members == 3


def test_without_a_limit_a_cpu_gets_the_quickest_and_a_gpu_the_largest():
    assert chosen(None)[0].model == NETS[-1]
    assert chosen(None, "cuda")[0].model == NETS[0]  # nothing is run there


def test_a_run_says_and_saves_what_was_chosen(arrays, tmp_path, capsys):
    options = {"data": str(arrays), "img_size": 12, "device": "cpu", "out": tmp_path}

    run = ordage.fit(**options, time_limit="2s", name="a")

    said = capsys.readouterr().err
    assert f"{run.config.model} (about " in said
    assert run.config.model in NETS
    assert run.report["model"].endswith(run.config.model)
    assert run.report["model"].startswith(f"{run.config.members} x ") == (run.config.members > 1)
    assert run.config.augment == ("full" if int(said.partition("(about ")[2].split()[0]) >= MANY else "light")
    by_hand = ordage.fit(**options, model="ordage_small", epochs=1, name="b", verbosity=0)
    assert by_hand.config.model == "ordage_small"
