import os

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from ordage.config import RunConfig
from ordage.errors import DataError, MissingError, UsageError
from ordage.eval import OrdinalScale
from ordage.model import (
    OrdinalModel,
    build_model,
    load_model,
    make_loss,
    parse_loss,
    plan_model,
    read_state_dict,
    save_model,
)
from ordage.predictor import load
from ordage.transforms import ImageSpec

TENS = OrdinalScale.tens(95)


def planned(**options):
    return plan_model(RunConfig(**options), None)


def built(loss="softmax", weights=None, classes=TENS, **options):
    plan = planned(weights=weights, **options)
    return build_model(plan, make_loss(loss, classes), weights), plan


def test_seed_cnn_flattens_place_by_place_as_keras_does():
    net = timm.create_model("seed_cnn", in_chans=1, num_classes=1, img_size=12).eval()
    images = torch.rand(2, 1, 12, 12)
    row, column, channel = 3, 5, 7
    net.head.weight.data.zero_()[0, (row * 8 + column) * 32 + channel] = 1.0
    net.head.bias.data.zero_()

    for memory_format in (torch.contiguous_format, torch.channels_last):
        seen = net(images.contiguous(memory_format=memory_format))
        torch.testing.assert_close(seen[:, 0], net.forward_features(images)[:, channel, row, column])


def test_seed_cnn_has_the_parameters_of_the_first_try():
    model, _ = built(model="seed_cnn", img_size=28, in_chans=1)

    # 3x3x1x64 + 64, 3x3x64x32 + 32, and 24x24x32 features to 10 classes + 10
    assert sum(p.numel() for p in model.parameters()) == 640 + 18_464 + 184_330 == 203_434


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5), (2, 3)])
def test_the_built_in_nets_halve_a_map_by_the_average_of_overlapping_maxima(height, width):
    halve = timm.create_model("ordage_tiny").stages[1][0]
    x = torch.randn(2, 3, height, width)

    out = halve(x)

    assert out.shape == (2, 3, height // 2, width // 2)
    for row in range(height // 2):
        for column in range(width // 2):
            rows = [r for r in (2 * row, 2 * row + 1) if r + 2 <= height]
            columns = [c for c in (2 * column, 2 * column + 1) if c + 2 <= width]
            maxima = [x[:, :, r : r + 2, c : c + 2].amax((2, 3)) for r in rows for c in columns]
            torch.testing.assert_close(out[:, :, row, column], sum(maxima) / len(maxima))


@pytest.mark.parametrize("loss", ["softmax", "coral", "corn", "mean-variance"])
@pytest.mark.parametrize(
    ("name", "size"),
    [("ordage_tiny", 28), ("ordage_small", 64), ("mobilenetv3_small_100", 64), ("vit_tiny_patch16_224", 64)],
)
def test_any_backbone_takes_the_head_of_any_loss(name, size, loss):
    model, plan = built(loss, model=name, img_size=size, pretrained=False)

    logits = model.eval()(torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8))

    assert logits.shape == (2, make_loss(loss, TENS).out_features)
    assert not plan.pretrained


def test_pixels_are_normalised_inside_the_model_as_the_weights_want_it():
    model, plan = built(model="mobilenetv3_small_100", img_size=32, pretrained=False)
    cfg = timm.get_pretrained_cfg("mobilenetv3_small_100")
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.mean, cfg.std))

    expected = model.eval().head(model.backbone((pixels / 255 - mean) / std))

    torch.testing.assert_close(model(pixels), expected, rtol=1e-4, atol=1e-4)
    assert plan.spec.interpolation == cfg.interpolation


@pytest.mark.parametrize("chans", [1, 3])
@pytest.mark.parametrize("kind", ["safetensors", "state dict"])
def test_weights_from_a_file_are_those_of_the_backbone(tmp_path, chans, kind):
    torch.manual_seed(1)
    source = timm.create_model("mobilenetv3_small_100", num_classes=7)
    file = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    (save_file if kind == "safetensors" else torch.save)(source.state_dict(), file)

    model, plan = built(model="mobilenetv3_small_100", img_size=32, in_chans=chans, weights=str(file))

    own, given = model.backbone.state_dict(), source.state_dict()
    assert torch.equal(own["blocks.0.0.conv_dw.weight"], given["blocks.0.0.conv_dw.weight"])
    stem = given["conv_stem.weight"]
    torch.testing.assert_close(own["conv_stem.weight"], stem if chans == 3 else stem.sum(1, keepdim=True))
    assert plan.pretrained


def test_weights_of_another_net_are_refused(tmp_path):
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), tmp_path / "w.safetensors")

    with pytest.raises(DataError, match="does not fit mobilenetv3_small_100"):
        built(model="mobilenetv3_small_100", img_size=32, weights=str(tmp_path / "w.safetensors"))


def test_a_weight_file_that_holds_a_part_is_no_silent_random_start(tmp_path):
    state = timm.create_model("mobilenetv3_small_100", num_classes=0).state_dict()
    save_file({"conv_stem.weight": state["conv_stem.weight"]}, tmp_path / "w.safetensors")

    with pytest.raises(DataError, match=r"\d+ of its tensors are not in the file, the first: blocks\.0\.0\."):
        built(model="mobilenetv3_small_100", img_size=32, weights=str(tmp_path / "w.safetensors"))


def test_a_checkpoint_of_ordage_is_a_weight_file(tmp_path):
    model, plan = built(model="ordage_tiny", img_size=24)
    save_model(tmp_path, model, plan, "softmax", TENS, TENS)

    again, _ = built("corn", model="ordage_tiny", img_size=24, weights=str(tmp_path / "model.safetensors"))

    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, again.backbone.state_dict()[name]), name


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("3", 3), ("true", True), ("[1, 2]", [1, 2])])
def test_values_of_loss_options_are_read_as_people_write_them(text, value):
    assert parse_loss(f"mean-variance:variance_weight={text}") == ("mean-variance", {"variance_weight": value})


def test_a_weight_file_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"state_dict": Evil()}, tmp_path / "w.pth")

    with pytest.raises(DataError, match="nothing else is loaded"):
        read_state_dict(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_pretrained_weights_that_cannot_be_had_are_never_replaced_by_random_ones():
    with pytest.raises(MissingError, match=r"resnet18 cannot be downloaded .* --weights FILE, .* --no-pretrained"):
        built(model="resnet18", img_size=32)


@pytest.mark.parametrize("loss", ["softmax", "coral", "corn", "mean-variance", "coral:monotone=true"])
def test_every_loss_starts_from_the_same_constant_answer(loss):
    prior = torch.softmax(torch.linspace(-4, 1, len(TENS)), 0)
    criterion = make_loss(loss, TENS)

    head = criterion.make_head(6, prior=prior)

    torch.testing.assert_close(criterion.log_probs(head(torch.zeros(6))).exp(), prior, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "size", "usual", "small"),
    [
        ("resnet18", 64, 2, 8),  # its stem shrinks the map by four: a convolution and a pool
        ("mobilenetv3_small_100", 64, 2, 4),
        ("tf_efficientnet_lite0", 64, 2, 4),
        ("convnext_atto", 64, 2, 4),
        ("densenet121", 64, 2, 8),
        ("repvgg_a0", 64, 2, 4),
    ],
)
def test_a_small_stem_keeps_the_map_large_and_the_weights_fitting(tmp_path, name, size, usual, small):
    options = {"model": name, "img_size": size, "pretrained": False}
    torch.manual_seed(0)
    first, _ = built(**options)
    torch.manual_seed(0)
    second, plan = built(**options, stem="small")
    pixels = torch.zeros(2, 3, size, size, dtype=torch.uint8)

    maps = [model.backbone.forward_features(pixels.float()).shape[-1] for model in (first.eval(), second.eval())]

    assert maps == [usual, small]
    assert all(torch.equal(first.state_dict()[key], value) for key, value in second.state_dict().items())
    save_model(tmp_path, second, plan, "softmax", TENS, TENS)
    assert torch.equal(load_model(tmp_path).model(pixels), second(pixels))


def test_a_weight_file_tells_its_backbone_by_its_name(tmp_path):
    files = [tmp_path / "resnet18.a1_in1k.safetensors", tmp_path / "best.pt"]
    for file in files:
        file.touch()
    plan = planned(weights=str(files[0]))

    assert (plan.model, plan.pretrained, plan.reason) == ("resnet18", True, "as the weight file is named")
    with pytest.raises(UsageError, match=r"best\.pt: say by --model which backbone they are of"):
        planned(weights=str(files[1]))
    with pytest.raises(DataError, match="no such file"):
        planned(weights=str(tmp_path / "nowhere.pt"))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "ordage_tiny"])
def test_a_stem_that_cannot_be_made_small_is_said(name):
    with pytest.raises(UsageError, match="--stem small: "):
        built(model=name, img_size=224 if "vit" in name else 24, pretrained=False, stem="small")


def test_a_saved_model_says_the_same_after_loading(tmp_path):
    model, plan = built("coral", model="ordage_tiny", img_size=24, in_chans=1)
    save_model(tmp_path, model, plan, "coral", TENS, TENS)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 1), dtype=np.uint8)

    loaded = load_model(tmp_path)
    said = load(tmp_path)(pixels)

    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    assert torch.equal(loaded.model(batch), model.eval()(batch))
    expected = make_loss("coral", TENS).log_probs(model(batch)).detach().numpy()
    np.testing.assert_allclose(said.log_probs, expected, atol=1e-6)
    assert loaded.spec == plan.spec


@pytest.mark.parametrize("spoil", ["model.json", "model.safetensors"])
def test_a_broken_model_folder_is_one_clear_error(tmp_path, spoil):
    model, plan = built(model="ordage_tiny", img_size=24)
    save_model(tmp_path, model, plan, "softmax", TENS, TENS)
    (tmp_path / spoil).write_bytes(b"{}")

    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path)


def test_a_folder_without_a_model_is_said(tmp_path):
    with pytest.raises(DataError, match=r"no model\.json; expected a folder that `ordage fit` wrote"):
        load(tmp_path)


@pytest.mark.parametrize("tta", ["none", "flip", "shift"])
def test_a_prediction_is_the_mean_over_its_views(tta):
    torch.manual_seed(0)
    spec = ImageSpec(8, 1)
    model = OrdinalModel(nn.Flatten(), nn.Linear(64, 5), spec, tta).eval()
    pixels = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    edge = nn.functional.pad(pixels.float(), (1, 1, 1, 1), mode="replicate")
    mirrored = edge.flip(-1)
    views = {
        "none": [pixels],
        "flip": [pixels, pixels.flip(-1)],
        "shift": [view for side in (edge, mirrored) for view in (side[..., 1:9, 0:8], side[..., 0:8, 1:9])],
    }[tta]
    plain = OrdinalModel(model.backbone, model.head, spec).eval()

    torch.testing.assert_close(model(pixels), sum(plain(view) for view in views) / len(views))
    model.train()  # in training there is one view
    torch.testing.assert_close(model(pixels), plain(pixels))
