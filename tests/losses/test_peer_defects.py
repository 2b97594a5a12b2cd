"""Defects that were found in other implementations of these losses. Each is asserted absent here, for every loss."""

import subprocess
import sys

import pytest
import torch

from ordage.losses import CoralLoss, CornLoss, available, coral_log_probs, create, median
from ordage.losses.soft_labels import LABELS


@pytest.fixture(params=available())
def loss(request):
    return create(request.param, 5)


def batch(loss, samples=10):
    logits = torch.randn(samples, loss.out_features, generator=torch.Generator().manual_seed(1))
    return logits, torch.arange(samples) % loss.num_classes


def value_and_grad(loss, logits, target):
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, target)
    value.backward()
    return value.detach(), leaf.grad


def test_confident_right_answer_in_bfloat16_has_a_loss():
    # logsigmoid(x) - x cancels: the loss of -6 becomes 0 where the truth is 0.00248.
    for name in ("coral", "corn", "or-cnn"):
        value, grad = value_and_grad(create(name, 2), torch.tensor([[-6.0]], dtype=torch.bfloat16), torch.tensor([0]))

        assert value.item() == pytest.approx(0.00247569, rel=1e-4)
        assert grad.item() == pytest.approx(0.00247262, rel=0.01)


def test_confident_right_answer_in_float32_has_a_gradient():
    # The same form has the gradient 0 at -20.
    for name in ("coral", "corn", "or-cnn"):
        _, grad = value_and_grad(create(name, 2), torch.tensor([[-20.0]]), torch.tensor([0]))

        assert grad.item() == pytest.approx(2.0611537e-09, rel=1e-5)


def test_confident_wrong_answer_has_a_gradient():
    # Sigmoid first and cross-entropy after it has the gradient 0 from a logit of 17 on.
    for name in ("coral", "corn", "or-cnn"):
        value, grad = value_and_grad(create(name, 2), torch.tensor([[17.0], [100.0]]), torch.tensor([0, 0]))

        assert value.item() == pytest.approx((17 + 100) / 2, rel=1e-6)
        assert grad.flatten().tolist() == pytest.approx([0.5, 0.5], rel=1e-6)


def test_large_logits_do_not_overflow(loss):
    # exp() without a shift is infinite at 89, and the loss NaN.
    logits, target = batch(loss)
    for scale in (89.0, 1e4):
        value, grad = value_and_grad(loss, logits.clamp(-1, 1) * scale, target)

        assert value.isfinite()
        assert bool(grad.isfinite().all())


def test_certain_wrong_class_keeps_its_logarithm_and_its_gradient():
    # log(1 - p + 1e-8) stops at 18 and has no gradient there.
    value, grad = value_and_grad(create("cdw-ce", 3, alpha=1.0), torch.tensor([[0.0, 0.0, 60.0]]), torch.tensor([0]))

    assert value.item() == pytest.approx(2 * (60 - 0.6931472), rel=1e-6)
    assert grad.flatten().tolist() == pytest.approx([-1, -1, 2], rel=1e-5)


def test_class_out_of_range_is_an_error(loss):
    # Trained on silently: label 99 of 5 counts as "older than all".
    logits, target = batch(loss)
    target[3] = 99
    with pytest.raises(ValueError, match=r"`target` to hold classes from 0 to 4, or -100 for samples to ignore, .*99"):
        loss(logits, target)


def test_ignored_samples_are_left_out(loss):
    # -100 counted as the youngest class.
    logits, target = batch(loss)
    some = target.clone()
    some[::2] = -100
    value, grad = value_and_grad(loss, logits, some)

    torch.testing.assert_close(value, loss(logits[1::2], target[1::2]))
    assert not grad[::2].any()


def test_batch_of_ignored_samples_is_zero_and_not_a_division_by_zero(loss):
    logits, target = batch(loss)
    value, grad = value_and_grad(loss, logits, torch.full_like(target, -100))

    assert value == 0
    assert not grad.any()


def test_empty_batch_is_an_error(loss):
    with pytest.raises(ValueError, match="`target` to hold at least one sample"):
        loss(torch.zeros(0, loss.out_features), torch.zeros(0, dtype=torch.int64))


def test_target_of_another_shape_is_not_broadcast(loss):
    # (N, 1) against (N, K - 1) levels broadcasts without a word.
    logits, target = batch(loss)
    with pytest.raises(ValueError, match=r"`target` to hold integer classes of shape \(10,\)"):
        loss(logits, target[:, None])


def test_logits_of_another_width_are_an_error(loss):
    logits, target = batch(loss)
    with pytest.raises(ValueError, match="`logits` to have shape"):
        loss(torch.cat([logits, logits], -1), target)


def test_nothing_is_learned_from_the_first_batch(loss):
    # The weights of one peer are made by its first batch, and fixed from then on.
    logits, target = batch(loss)
    fresh = create(loss.name, 5)
    loss(logits[:2], torch.zeros(2, dtype=torch.int64))

    assert torch.equal(loss(logits, target), fresh(logits, target))
    assert not loss.state_dict()


def test_logits_whose_rows_sum_to_one_are_logits(loss):
    # One peer takes them for probabilities and refuses.
    logits, target = batch(loss)
    logits = logits - logits.mean(-1, keepdim=True) + 1 / loss.out_features

    assert loss(logits, target).isfinite()


def test_inputs_are_not_changed(loss):
    logits, target = batch(loss)
    before = logits.clone(), target.clone()
    value_and_grad(loss, logits, target)
    with torch.no_grad():
        loss(logits, target)

    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])


def test_options_move_with_the_module(loss):
    # A weight kept as a plain attribute stays behind on the CPU.
    moved = create(loss.name, 5, class_weights=[1, 2, 3, 4, 5]).to("meta")

    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}


def test_class_probabilities_are_never_negative():
    # Differences of probabilities that are not in order: -0.04 was seen.
    logits = torch.tensor([[0.3, 0.5, 0.1]]).logit()

    assert CoralLoss(4).violations(logits).item()
    assert bool((coral_log_probs(logits).exp() >= 0).all())


def test_decoded_class_and_distribution_agree():
    # A decoder of its own counts thresholds over 1/2 where the distribution that is reported says otherwise.
    for name in ("coral", "or-cnn"):
        logits = 3 * torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
        assert torch.equal(median(create(name, 5).log_probs(logits)), (logits > 0).sum(-1))


def test_size_of_a_step_need_not_depend_on_the_labels_in_the_batch():
    # CORN's divisor is the number of tasks that the labels reach.
    logits = torch.zeros(2, 4)
    young, old = torch.tensor([0, 0]), torch.tensor([4, 4])
    by_samples = CornLoss(5, normalization="samples")

    assert by_samples(logits, old) == pytest.approx(4 * by_samples(logits, young))
    assert CornLoss(5)(logits, old) == pytest.approx(CornLoss(5)(logits, young))


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("num_classes", [2, 10, 11, 15, 101])
def test_mode_of_every_soft_label_is_its_own_class_for_any_number_of_classes(name, num_classes):
    # Tables that end at 14 classes, that have ties, or whose ends belong to their neighbours.
    labels = LABELS[name](num_classes)

    assert labels.argmax(-1).tolist() == list(range(num_classes))
    assert bool((labels.topk(2).values.diff() < 0).all())
    torch.testing.assert_close(labels.sum(-1), torch.ones(num_classes, dtype=labels.dtype))


def test_import_sets_no_seed_and_prints_nothing():
    code = "import torch; torch.manual_seed(3); import ordage.losses; print(torch.initial_seed())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "3\n"
    assert not done.stderr
