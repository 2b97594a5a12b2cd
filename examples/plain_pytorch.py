"""An ordinal loss in a training loop of your own: a net of timm with the head of the loss, and its median.

Run it with ``python examples/plain_pytorch.py``; it takes a few seconds.
"""

import timm
import torch
from toy_images import CLASSES, draw

from ordage.losses import create, median, replace_head


def mae() -> float:
    """Return the mean absolute error on the test images, in classes."""
    with torch.no_grad():
        return (median(loss.log_probs(model.eval()(test_images))) - test_classes).abs().float().mean().item()


torch.manual_seed(0)
images, classes = draw(640, seed=0)
test_images, test_classes = draw(320, seed=1)

loss = create("corn", num_classes=CLASSES)
model = replace_head(timm.create_model("resnet10t"), loss, prior=classes.bincount() / len(classes))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

print(f"always the median class: MAE {(classes.median() - test_classes).abs().float().mean():.2f} classes")
print(f"before training: MAE {mae():.2f} classes")
for _ in range(3):
    model.train()
    for batch in torch.randperm(len(images)).split(32):
        optimizer.zero_grad()
        loss(model(images[batch]), classes[batch]).backward()
        optimizer.step()
print(f"after training: MAE {mae():.2f} classes")
