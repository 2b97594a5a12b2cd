"""Cross-entropy against labels that are smoothed over the two neighbouring classes, as a loss for ordage."""

from ordage.losses import OrdinalLoss, reduce_loss, register, softmax_log_probs


@register("mine")
class NeighbourSmoothingLoss(OrdinalLoss):
    """The own class counts ``1 - smoothing``, each neighbour half of the rest; at the ends the missing half stays.

    Args:
        num_classes: Number of ordered classes K.
        smoothing: How much the neighbours count together, above 0 (that is the loss ``softmax``) and at most 1.
        **options: See `OrdinalLoss`.

    Raises:
        ValueError: if an argument has a wrong type or value.
    """

    summary = "cross-entropy, the label smoothed over its two neighbours"
    source = "ordage-plugin-loss, an example"
    paper_decoder = "mode"

    def __init__(self, num_classes, *, smoothing=0.1, **options):
        super().__init__(num_classes, **options)
        if not isinstance(smoothing, int | float) or not 0 < smoothing <= 1:
            raise ValueError(f"Expected `smoothing` to be a number above 0, at most 1, but got {smoothing!r}")
        self.smoothing = smoothing

    def compute_loss(self, logits, target, **options):
        """Return the loss; weights, ignored samples, soft targets and the reduction are the work of `reduce_loss`."""

        def hard(z, y):  # (N, K) logits in float32 or wider and (N,) classes to (N,) losses
            log_probs = softmax_log_probs(z)
            own, younger, older = (
                log_probs.gather(-1, (y + step).clamp(0, self.num_classes - 1).unsqueeze(-1)) for step in (0, -1, 1)
            )
            return -((1 - self.smoothing) * own + self.smoothing * (younger + older) / 2).squeeze(-1)

        return reduce_loss(hard, logits, target, num_classes=self.num_classes, **options)

    def compute_log_probs(self, logits):
        """Return the distribution that the logits stand for; the head has one logit a class unless told otherwise."""
        return softmax_log_probs(logits)

    def extra_repr(self):
        """Return the options, for ``repr``."""
        return f"{super().extra_repr()}, smoothing={self.smoothing}"
