"""What every model is: a backbone, dropout and a linear head in float32."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout whose mask comes from a generator of the trial, not from torch's global one."""

    def __init__(self, probability: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.probability = probability
        self.generator = generator

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return features
        kept = torch.rand(features.shape, generator=self.generator, device=features.device) >= self.probability
        return features * kept / (1 - self.probability)


class Classifier(nn.Module):
    """Images (cases, channels, height, width) to float32 logits (cases, classes).

    The head computes in float32 under autocast too: bfloat16 has 8 bits, too few to rank probabilities by.
    """

    def __init__(self, backbone: nn.Module, features: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        with torch.autocast(images.device.type, enabled=False):
            return self.head(self.dropout(features.float()))
