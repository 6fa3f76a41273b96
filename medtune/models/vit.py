"""A small vision transformer whose patches shrink with the image."""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

WIDTH = 384


def patch_side(size: int) -> int:
    """Pixels a side of a patch, for images of `size`: 49 patches at 28 px, 196 at 224."""
    return 4 if size <= 32 else 8 if size <= 64 else 16


class SmallViT(VisionTransformer):  # type: ignore[misc]
    """Twelve layers of six heads, 384 wide: the small one of Touvron et al. 2021 (DeiT), without a head.

    An image whose side is no multiple of the patch gets a margin of zeros, which is mid-grey, as wide on both sides as
    can be: its own pixels stay as they are.
    """

    def __init__(self, channels: int, size: int) -> None:
        patch = patch_side(size)
        missing = -size % patch
        super().__init__(size + missing, patch, num_layers=12, num_heads=6, hidden_dim=WIDTH, mlp_dim=4 * WIDTH)
        self.margin = (missing // 2, missing - missing // 2) * 2
        self.conv_proj = nn.Conv2d(channels, WIDTH, patch, stride=patch)
        self.heads = nn.Sequential()

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(F.pad(images, self.margin) if any(self.margin) else images)
