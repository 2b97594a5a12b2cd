import dataclasses
import itertools

import pytest
import torch

import ordage
from ordage.config import RunConfig
from ordage.errors import MissingError, UsageError
from ordage.eval import OrdinalScale
from ordage.model import build_model, make_loss, plan_model
from ordage.muon import Muon
from ordage.optimizers import make_optimizer, open_options
from ordage.schedule import Schedule

CPU = torch.device("cpu")


def made(samples=10_000, **options):
    config = RunConfig(**{"model": "ordage_tiny", "img_size": 24, "in_chans": 1, **options})
    plan = plan_model(config, None)
    model = build_model(plan, make_loss("softmax", OrdinalScale.tens(95)), None)
    config = dataclasses.replace(config, **open_options(config, plan, model.backbone, CPU, samples))
    return config, model, make_optimizer(model, config)


def groups_by_name(model, optimizer):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: group for group in optimizer.param_groups for parameter in group["params"]}


def test_the_built_in_nets_get_muon_and_others_adamw():
    assert type(made()[2]) is Muon
    _, _, optimizer = made(model="mobilenetv3_small_100", pretrained=False)
    assert type(optimizer) is torch.optim.AdamW
    assert type(made(opt="sgd")[2]) is torch.optim.SGD
    with pytest.raises(UsageError, match=r"--opt muno: .*did you mean 'muon'"):
        ordage.fit(data="demo", opt="muno")


def test_norms_and_biases_do_not_decay():
    _, model, optimizer = made(weight_decay=0.3)

    groups = groups_by_name(model, optimizer)
    assert groups.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        assert groups[name]["weight_decay"] == (0.3 if parameter.ndim > 1 else 0.0), name


def test_layer_decay_takes_the_rate_down_towards_the_input():
    config, model, optimizer = made(layer_decay=0.5, lr=0.1)
    Schedule(optimizer, total=100, warmup=0).before_step(0)

    rate = {name: group["lr"] for name, group in groups_by_name(model, optimizer).items()}
    assert config.lr == rate["head.weight"] == pytest.approx(0.1)
    depths = [rate[f"backbone.{name}.0.weight"] for name in ("stem", "stages.0.0", "stages.1.1", "stages.2.1")]
    for below, above in itertools.pairwise(depths):
        assert below == pytest.approx(above / 2)


def test_batches_shrink_until_an_epoch_has_fifty_steps():
    sizes = {samples: made(samples=samples)[0].batch_size for samples in (100_000, 6_400, 6_399, 1_600, 20)}

    assert sizes == {100_000: 128, 6_400: 128, 6_399: 64, 1_600: 32, 20: 16}
    assert made(batch_size=7)[0].batch_size == 7


SMALL = {"img_size": 24, "in_chans": 1, "model": "ordage_tiny", "device": "cpu", "verbosity": 0, "epochs": 1}


def test_without_a_moving_average_the_weights_themselves_are_kept(arrays, tmp_path):
    def kept_and_last(**options):
        run = ordage.fit(data=str(arrays), out=tmp_path, name=f"ema{options}", **SMALL, **options)
        kept = ordage.load(run.path).model.state_dict()
        return [(kept[name], value) for name, value in run.load_state()["model"].items() if name.endswith("weight")]

    assert all(torch.equal(kept, last) for kept, last in kept_and_last(ema=0.0))
    assert not any(torch.equal(kept, last) for kept, last in kept_and_last(ema=0.9))


def test_deterministic_algorithms_are_asked_for_by_each_run_anew(arrays, tmp_path):
    for name, wanted in (("a", True), ("b", False)):
        ordage.fit(data=str(arrays), out=tmp_path, name=name, deterministic=wanted, **SMALL)
        assert torch.are_deterministic_algorithms_enabled() == wanted


@pytest.mark.slow
def test_a_compiled_model_learns_the_same(arrays, tmp_path):
    options = {**SMALL, "data": str(arrays), "model": "seed_cnn", "img_size": 12, "opt": "sgd", "out": tmp_path}
    options["precision"] = "fp32"
    plain = ordage.fit(**options, name="a")

    compiled = ordage.fit(**options, name="b", compile=True)

    for name, value in plain.load_state()["model"].items():
        torch.testing.assert_close(compiled.load_state()["model"][name], value, rtol=1e-3, atol=1e-5)


def test_a_compiler_that_is_not_there_is_one_clear_error(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "/nowhere/g++"))
    torch._dynamo.reset()

    with pytest.raises(MissingError, match=r"--compile: torch\.compile cannot, leave it out: .*compiler"):
        ordage.fit(**{**SMALL, "model": "seed_cnn", "img_size": 13}, data=str(arrays), out=tmp_path, compile=True)
