"""A small network for small images: three blocks and about 24,000 parameters."""

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """3x3 convolution, max pooling, batch norm, skip connection, ReLU; halves the side.

    The skip has no parameters: the input, average-pooled, with zeros for the new channels (He et al. 2016, option A).
    Pooling comes before batch norm, so that all that follows runs on a quarter of the pixels.
    """

    def __init__(self, channels_in: int, channels_out: int, skip: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)
        self.new_channels = channels_out - channels_in
        self.skip = skip

    def forward(self, images: Tensor) -> Tensor:
        out = self.norm(F.max_pool2d(self.conv(images), 2))
        if self.skip:
            out = out + F.pad(F.avg_pool2d(images, 2), (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(out)


def smallcnn(channels: int, skip: bool = True) -> tuple[nn.Module, int]:
    """The backbone for images of so many channels, and how many features it gives."""
    blocks = [Block(channels, 16, skip=False), Block(16, 32, skip=skip), Block(32, 64, skip=skip)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 64
