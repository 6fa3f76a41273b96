"""What every model is: an encoder, which is normalisation and a backbone, then dropout and a linear head in float32."""

import torch
import torch.nn.functional as F
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


class Encoder(nn.Module):
    """Images (cases, channels, height, width), float32 from 0 to 1, to float32 features (cases, `width`).

    `mean` and `std`, (channels, 1, 1), are what the backbone wants its input normalised by.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, width: int, channels: int = 1) -> None:
        super().__init__()
        self.backbone, self.width = backbone, width
        self.register_buffer("mean", torch.full((channels, 1, 1), 0.5))
        self.register_buffer("std", torch.full((channels, 1, 1), 0.5))

    def features(self, images: Tensor) -> Tensor:
        return self.backbone((images - self.mean).div_(self.std)).float()

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)

    def normalise_by(self, mean: Tensor, std: Tensor) -> None:
        """From now on, `mean` and `std` of each channel; where the channels are not as many, their mean is taken."""
        channels = len(self.mean)
        for buffer, values in ((self.mean, mean.flatten()), (self.std, std.flatten())):
            buffer.copy_((values if len(values) == channels else values.mean()).reshape(-1, 1, 1))


class Classifier(Encoder):
    """Images to float32 logits (cases, classes).

    `hidden`: units of a dense ReLU layer before the head; 0: none. The head and the dense layer compute in float32
    under autocast too: bfloat16 has 8 bits, too few to rank probabilities by.
    """

    def __init__(
        self, backbone: nn.Module, width: int, classes: int, dropout: float, channels: int = 1, hidden: int = 0
    ) -> None:
        super().__init__(backbone, width, channels)
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(hidden or width, classes)
        self.hidden = nn.Linear(width, hidden) if hidden else None  # after the head: so are its weights drawn

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        with torch.autocast(images.device.type, enabled=False):
            if self.hidden is not None:
                features = F.relu(self.hidden(features))
            return self.head(self.dropout(features))
