"""Several nets of a kind that are trained side by side."""

import dataclasses

import pytest
import torch

import ordage
from ordage.cell import prepare_run
from ordage.config import RunConfig
from ordage.data.layouts import read
from ordage.devices import make_accelerator
from ordage.eval import OrdinalScale
from ordage.export_formats import FORMATS
from ordage.learner import Learner
from ordage.model import OrdinalModel, build_model, load_model, make_loss, plan_model, save_model
from ordage.optimizers import make_optimizer, open_options
from ordage.progress import Reporter

TENS = OrdinalScale.tens(95)
SMALL = {"img_size": 24, "in_chans": 1, "model": "ordage_tiny", "device": "cpu"}


def built(loss="softmax", members=3, weights=None):
    plan = plan_model(RunConfig(**SMALL, members=members, weights=weights), None)
    return build_model(plan, make_loss(loss, TENS), weights), plan


def alone(model):
    """Return models of one member each."""
    parts = zip(model.backbone.members, model.head.members, strict=True)
    return [
        OrdinalModel(backbone, head, plan_model(RunConfig(**SMALL), None).spec, model.tta) for backbone, head in parts
    ]


@pytest.mark.parametrize("loss", ["softmax", "coral", "clm"])
@pytest.mark.parametrize("tta", ["none", "shift"])
def test_the_answer_is_the_mean_of_what_each_says(loss, tta):
    model, _ = built(loss)
    model.tta = tta
    pixels = torch.randint(0, 256, (5, 1, 24, 24), dtype=torch.uint8)

    said = torch.stack([member.eval()(pixels) for member in alone(model)])

    torch.testing.assert_close(model.eval()(pixels), said.mean(0))
    assert said.std(0).min() > 0  # they differ


@pytest.mark.parametrize("loss", ["dldl-v2", "weighted-kappa"])  # the latter looks at the batch as a whole
def test_each_learns_what_it_would_learn_alone(arrays, loss):
    given = {**SMALL, "data": str(arrays), "loss": loss, "precision": "fp32", "opt": "sgd", "lr": 0.05, "ema": 0.0}

    def learner_of(members):
        config = RunConfig.parse({**given, "members": members})
        prepared, config = prepare_run(config, read(config), [loss], Reporter(0))
        return Learner(config, prepared.plan, prepared.dataset, make_accelerator(config), None)

    def train(learner):
        learner.begin_epoch(0)
        for place, batch in enumerate(learner.epoch_batches(0)):
            learner.step(batch, place, 1)
        return learner.model

    together = learner_of(2)
    singles = [learner_of(1), learner_of(1)]
    for single, member in zip(singles, alone(together.model), strict=True):
        single.model.load_state_dict(member.state_dict())
    before = [parameter.detach().clone() for parameter in together.model.parameters()]

    train(together)

    for single, member in zip(singles, alone(together.model), strict=True):
        expected = train(single).state_dict()
        for name, value in member.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    moved = [(new - old).abs().max() for new, old in zip(together.model.parameters(), before, strict=True)]
    assert min(moved) > 0


def test_files_hold_all_and_give_the_first_as_weights(tmp_path):
    model, plan = built()
    pixels = torch.randint(0, 256, (5, 1, 24, 24), dtype=torch.uint8)
    save_model(tmp_path, model, plan, "softmax", TENS, TENS)

    assert torch.equal(load_model(tmp_path).model(pixels), model.eval()(pixels))
    again, _ = built(members=1, weights=str(tmp_path / "model.safetensors"))
    for name, value in model.backbone.members[0].state_dict().items():
        assert torch.equal(again.backbone.state_dict()[name], value), name


def test_layer_decay_reaches_into_each():
    config = RunConfig(**SMALL, members=2, layer_decay=0.5, lr=0.1)
    plan = plan_model(config, None)
    model = build_model(plan, make_loss("softmax", TENS), None)
    config = dataclasses.replace(config, **open_options(config, plan, model.backbone, torch.device("cpu"), 10_000))

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = make_optimizer(model, config).param_groups
    scale = {names[id(parameter)]: group.get("lr_scale", 1.0) for group in groups for parameter in group["params"]}

    assert scale.keys() == dict(model.named_parameters()).keys()
    for member in range(2):
        depths = [scale[f"backbone.members.{member}.stages.{stage}.1.0.weight"] for stage in range(1, 4)]
        assert depths == pytest.approx([depths[-1] / 4, depths[-1] / 2, depths[-1]])
        assert scale[f"head.members.{member}.weight"] == 1


@pytest.mark.slow
def test_a_run_of_several_is_judged_loaded_and_exported(arrays, tmp_path):
    run = ordage.fit(**SMALL, data=str(arrays), members=2, epochs=1, out=tmp_path, verbosity=0)

    assert run.report["model"] == "2 x ordage_tiny"
    assert run.config.members == 2
    predictor = ordage.load(run.path)
    assert predictor.model.members == 2
    FORMATS["onnx"].write(predictor, tmp_path / "model.onnx")
    images = torch.randint(0, 256, (6, 24, 24, 1), dtype=torch.uint8).numpy()
    ages = FORMATS["onnx"].open(tmp_path / "model.onnx")(images)[0]
    torch.testing.assert_close(torch.from_numpy(ages), torch.from_numpy(predictor.of_pixels(images).age).float())
