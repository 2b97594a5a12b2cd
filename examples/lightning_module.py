"""An ordinal loss in a LightningModule: the loss is a submodule, so that it moves to the device with the net.

Run it with ``pip install lightning && python examples/lightning_module.py``; it takes a few seconds.
"""

import lightning
import timm
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from toy_images import CLASSES, draw

from ordage.losses import create, median, replace_head


class OrdinalNet(lightning.LightningModule):
    """A net of timm with the head of an ordinal loss."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.loss = create(name, num_classes=CLASSES)
        self.model = replace_head(timm.create_model("resnet10t"), self.loss)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Return the loss of a batch of images ``(N, 3, H, W)`` and classes ``(N,)``."""
        images, classes = batch
        return self.loss(self.model(images), classes)

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        """Log the mean absolute error in classes."""
        images, classes = batch
        self.log("mae", (median(self.loss.log_probs(self.model(images))) - classes).abs().float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


lightning.seed_everything(0, verbose=False)
train, test = TensorDataset(*draw(640, seed=0)), TensorDataset(*draw(320, seed=1))
constant = (train.tensors[1].median() - test.tensors[1]).abs().float().mean()
net, test_batches = OrdinalNet("corn"), DataLoader(test, batch_size=320)
quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", enable_checkpointing=False, **quiet)

print(f"always the median class: MAE {constant:.2f} classes")
print(f"before training: MAE {trainer.validate(net, test_batches, verbose=False)[0]['mae']:.2f} classes")
trainer.fit(net, DataLoader(train, batch_size=32, shuffle=True))
print(f"after training: MAE {trainer.validate(net, test_batches, verbose=False)[0]['mae']:.2f} classes")
