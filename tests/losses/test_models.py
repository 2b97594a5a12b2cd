"""The models that others make, with a loss's head: those that take it, and why others do not."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from ordage.losses import CoralLoss, CornLoss, OrderedHead, SoftmaxLoss, create, replace_head

LOSSES = {"coral": {"monotone": True}, "corn": {}, "softmax": {}}
CLASSES = 5
PRIOR = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15])

# A small member of each family, and the side of the images that it is shown. Without one it is built and run at its own
# size on the device "meta", which knows shapes and gradients but computes nothing.
TIMM = {
    "resnet18": 32,
    "mobilenetv3_small_050": 32,
    "efficientnet_lite0": 32,
    "tf_efficientnetv2_b0": 32,
    "convnext_atto": 32,
    "vit_tiny_patch16_224": 32,
    "deit3_small_patch16_224": 32,
    "swin_tiny_patch4_window7_224": None,
    "regnety_002": 32,
    "vgg11": None,
    "densenet121": 32,
    "mixer_s32_224": None,
    "edgenext_xx_small": 32,
    "fastvit_t8": 64,
    "caformer_s18": None,  # two linear layers in its classifier
    "efficientvit_b0": 32,
    "efficientvit_m0": 224,  # a norm in its classifier
    "mobilevit_xxs": 64,
    "ghostnet_050": 32,
    "inception_v3": None,
    "resmlp_12_224": None,
    "rexnet_100": 32,
    "lcnet_035": 32,
    "poolformer_s12": None,
}
TORCHVISION = {
    "resnet18": 32,
    "mobilenet_v3_small": 32,
    "efficientnet_b0": 32,
    "convnext_tiny": 32,
    "vit_b_16": None,
    "swin_t": 32,
    "densenet121": 32,
    "vgg11": None,
    "alexnet": None,
    "shufflenet_v2_x0_5": 32,
    "mnasnet0_5": 32,
    "regnet_y_400mf": 32,
}


def timm_model(name, **options):
    side = TIMM.get(name)
    if side and name.startswith(("vit", "deit")):
        options["img_size"] = side
    try:
        with torch.device("cpu" if side else "meta"):
            model = timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, NotImplementedError):  # older versions of timm compute something while they build
        model = timm.create_model(name, pretrained=False, **options).to("meta")
    return model.train(), side or model.pretrained_cfg["input_size"][-1]


def torchvision_model(name, **options):
    side = TORCHVISION.get(name)
    with torch.device("cpu" if side else "meta"):
        model = torchvision.models.get_model(name, weights=None, **options)
    return model.train(), side or 224


def make(loss):
    return create(loss, CLASSES, **LOSSES[loss])


def replaced(model, loss):
    """Replace the head; return the parameters that went and those that came."""
    before = list(model.parameters())
    assert replace_head(model, loss) is model
    after = list(model.parameters())
    old, new = set(before) - set(after), set(after) - set(before)
    return [parameter for parameter in before if parameter in old], [p for p in after if p in new]


def check_training(model, side, loss, new):
    """Check that images give logits, and the loss of them a gradient for every parameter of the head."""
    device = new[0].device
    loss.to(device)
    logits = model(torch.rand(2, 3, side, side, device=device))
    loss(logits, torch.tensor([0, 4], device=device)).backward()
    assert logits.shape == (2, loss.out_features)
    for parameter in new:
        assert parameter.grad is not None
        assert device.type == "meta" or parameter.grad.any()


def check_every_loss(model, side):
    inputs = None
    for name in LOSSES:
        loss = make(name)
        old, new = replaced(model, loss)
        if inputs is None:  # what went is the linear layer with a thousand outputs, and nothing else
            inputs = old[0].shape[1]
            assert [parameter.shape for parameter in old] in ([(1000, inputs), (1000,)], [(1000, inputs)])
        assert sum(p.numel() for p in new) == sum(p.numel() for p in loss.make_head(inputs).parameters())
        check_training(model, side, loss, new)


class TestTimm:
    @pytest.mark.parametrize("name", TIMM)
    def test_every_family_takes_one_head_after_the_other(self, name):
        model, side = timm_model(name)

        check_every_loss(model, side)

        assert model.num_classes == CLASSES

    @pytest.mark.parametrize(
        ("name", "options", "width"),
        [
            ("resnet18", {}, 512),
            ("resnet18", {"global_pool": "catavgmax"}, 1024),  # two poolings, one behind the other
            ("mobilenetv3_small_050", {}, 1024),  # a layer between the pooling and the classifier
            ("vgg11", {}, 4096),
            ("efficientvit_b0", {}, 1280),
            ("efficientvit_m0", {}, 192),
            ("vit_tiny_patch16_224", {"global_pool": "avg"}, 192),
        ],
    )
    def test_model_without_a_classifier_gets_one_of_the_right_width(self, name, options, width):
        model, side = timm_model(name, num_classes=0, **options)
        loss = make("corn")

        _, new = replaced(model, loss)

        assert new[-2].shape == (CLASSES - 1, width)
        assert model.num_classes == CLASSES - 1
        check_training(model, side, loss, new)

    @pytest.mark.parametrize("num_classes", [0, 1000])
    def test_new_classifier_has_the_dtype_and_the_device_of_the_model(self, num_classes):
        for device, dtype in (("cpu", torch.bfloat16), ("meta", torch.float32)):
            model = timm_model("resnet18", num_classes=num_classes)[0].to(device=device, dtype=dtype)

            replace_head(model, CornLoss(CLASSES))

            assert (model.fc.weight.device.type, model.fc.weight.dtype) == (device, dtype)

    @pytest.mark.parametrize("num_classes", [0, 10])
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("deit_tiny_distilled_patch16_224", "VisionTransformerDistilled has 2 classifiers, which"),
            ("levit_128s", "LevitDistilled has 2 classifiers, which"),
            ("crossvit_tiny_240", "CrossVit has 2 classifiers, in ModuleList"),
            ("volo_d1_224", "VOLO has an auxiliary classifier"),
            ("dla34", "DLA has a 1x1 convolution on the pooled features for its classifier"),
            ("resnetv2_50x1_bit", "ResNetV2 has a 1x1 convolution on the pooled features for its classifier"),
        ],
    )
    def test_refusal_names_the_model_and_leaves_it_alone(self, name, words, num_classes):
        model, _ = timm_model(name, num_classes=num_classes)
        before = [(name, type(part)) for name, part in model.named_modules()]

        with pytest.raises(ValueError, match=rf"but {words}.*make it with num_classes=0 and use `loss\.make_head\("):
            replace_head(model, CornLoss(CLASSES))

        assert [(name, type(part)) for name, part in model.named_modules()] == before
        assert model.num_classes == num_classes

    @pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "levit_128s", "volo_d1_224", "dla34"])
    def test_what_the_refusal_advises_works(self, name):
        model, side = timm_model(name, num_classes=0)
        loss = CornLoss(CLASSES)
        with torch.device("meta"):
            head = loss.make_head(model.head_hidden_size)

        check_training(nn.Sequential(model, head), side, loss, list(head.parameters()))

    @pytest.mark.skipif(not timm.is_model("mobilenetv5_300m_enc"), reason="this timm has no such encoder")
    def test_encoder_is_refused(self):
        model, _ = timm_model("mobilenetv5_300m_enc")

        with pytest.raises(ValueError, match=r"but MobileNetV5Encoder is an encoder without a classifier"):
            replace_head(model, CornLoss(CLASSES))


class TestTorchvision:
    @pytest.mark.parametrize("name", TORCHVISION)
    def test_every_family_takes_one_head_after_the_other(self, name):
        check_every_loss(*torchvision_model(name))

    @pytest.mark.parametrize(
        ("name", "auxiliary", "side"), [("googlenet", ("aux1", "aux2"), 224), ("inception_v3", ("AuxLogits",), 299)]
    )
    def test_auxiliary_heads_stay_until_they_are_replaced_too(self, name, auxiliary, side):
        model, _ = torchvision_model(name, init_weights=False, aux_logits=True)
        loss = CornLoss(CLASSES).to("meta")
        images = torch.empty(2, 3, side, side, device="meta")

        _, new = replaced(model, loss)
        check_training(model.eval(), side, loss, new)
        main, *others = model.train()(images)
        assert [tuple(logits.shape) for logits in (main, *others)] == [(2, 4), *[(2, 1000)] * len(auxiliary)]

        for part in auxiliary:
            replace_head(model.get_submodule(part), loss)
        assert [tuple(logits.shape) for logits in model(images)] == [(2, 4)] * (1 + len(auxiliary))

    def test_squeezenet_is_refused(self):
        model, _ = torchvision_model("squeezenet1_1")

        message = r"SqueezeNet ends in a 1x1 convolution, `classifier\.1`, on a feature map; use `loss\.make_head\("
        with pytest.raises(ValueError, match=message):
            replace_head(model, CornLoss(CLASSES))


def net(*layers):
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), *layers)


class TestAnyModule:
    def test_what_stands_around_the_classifier_stays(self):
        model = net(nn.LayerNorm(6), nn.Dropout(), nn.Linear(6, 1000), nn.Identity())
        others = [model[index] for index in (0, 1, 2, 3, 5)]

        replace_head(model, CornLoss(CLASSES))

        assert [model[index] for index in (0, 1, 2, 3, 5)] == others
        assert model[4].weight.shape == (4, 6)

    @pytest.mark.parametrize("name", LOSSES)
    def test_starts_from_the_prior(self, name):
        loss = make(name)

        model = replace_head(nn.Sequential(nn.ReLU(), nn.Linear(6, 1000)), loss, prior=PRIOR)

        torch.testing.assert_close(loss.log_probs(model(torch.zeros(6))).exp(), PRIOR)

    def test_mode_is_that_of_the_old_layer_and_the_head_of_a_frozen_model_learns(self):
        model = net(nn.Linear(6, 10)).eval().requires_grad_(False)

        replace_head(model, CoralLoss(CLASSES, monotone=True))

        assert not any(part.training for part in model.modules())
        assert all(parameter.requires_grad for parameter in model[2].parameters())
        assert not model[0].weight.requires_grad

    def test_layer_that_is_registered_twice_is_replaced_twice(self):
        model = net(nn.Linear(6, 10))
        model.classifier = model[2]

        replace_head(model, CornLoss(CLASSES))

        assert model.classifier is model[2]
        assert model[2].out_features == 4

    @pytest.mark.parametrize("again", [copy.deepcopy, lambda model: model])
    @pytest.mark.parametrize("monotone", [True, False])
    def test_head_of_coral_is_replaced_as_a_whole(self, monotone, again):
        if not monotone:
            pytest.importorskip("coral_pytorch")
        coral = CoralLoss(CLASSES, monotone=monotone)
        by_hand = net(coral.make_head(6))
        for model in (again(replace_head(net(nn.Linear(6, 10)), coral)), again(by_hand)):
            replace_head(model, SoftmaxLoss(CLASSES))

            assert type(model[2]) is nn.Linear
            assert model[2].weight.shape == (5, 6)

    def test_saved_weights_load_into_another_model_with_the_same_head(self):
        first, second = (replace_head(net(nn.Linear(6, 10)), make("coral")) for _ in range(2))
        assert isinstance(first[2], OrderedHead)

        second.load_state_dict(first.state_dict())

        features = torch.rand(3, 8)
        torch.testing.assert_close(first(features), second(features))

    def test_wrong_prior_leaves_the_model_alone(self):
        model, _ = timm_model("resnet18", num_classes=0)

        with pytest.raises(ValueError, match="`prior`"):
            replace_head(model, CornLoss(CLASSES), prior=[0.5, 0.5])

        assert isinstance(model.fc, nn.Identity)

    @pytest.mark.parametrize(
        ("model", "words"),
        [
            (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), "Sequential has no nn.Linear"),
            (nn.Identity(), "Identity has no nn.Linear"),
            (nn.Linear(6, 10), "Linear is itself a layer"),
            (OrderedHead(6, 10), "OrderedHead is itself a layer"),
            (net(nn.LayerNorm(6)), r"Sequential has `2` \(LayerNorm\) behind its last nn\.Linear, `0`"),
            (net(nn.MultiheadAttention(6, 2)), r"Sequential has `2\.out_proj` .* behind its last nn\.Linear, `0`"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
    )
    def test_model_without_a_linear_classifier_is_refused(self, model, words):
        with pytest.raises(ValueError, match=rf"but {words}.*; use `loss\.make_head\(in_features\)` by hand"):
            replace_head(model, CornLoss(CLASSES))

    def test_arguments_of_another_type_are_refused(self):
        with pytest.raises(ValueError, match=r"Expected `model` to be a torch.nn.Module, but got 'resnet18' \(str\)"):
            replace_head("resnet18", CornLoss(CLASSES))
        with pytest.raises(ValueError, match=r"Expected `loss` to be an OrdinalLoss, but got 'corn' \(str\)"):
            replace_head(net(nn.Linear(6, 10)), "corn")
