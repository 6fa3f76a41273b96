"""Weights of other images: the stem for another kernel and for greyscale, position embeddings for other sides."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def adapt(name: str, weights: Tensor, shape: torch.Size, stem: bool) -> Tensor:
    """A tensor of a file in the shape that a model wants it in, where there is a way; else as it is.

    stem: whether it is the kernel, (out, in, height, width), of the first convolution.
    """
    if weights.shape == shape:
        return weights
    if stem and weights.ndim == 4 and len(weights) == shape[0]:
        return _stem(weights.float(), shape)
    if name.rpartition(".")[2] in ("pos_embedding", "pos_embed") and weights.ndim == len(shape) == 3:
        return _positions(weights.float(), shape)
    return weights


def _stem(kernel: Tensor, shape: torch.Size) -> Tensor:
    """The sum over all colours for greyscale, which answers a grey image as the colours did; then the new size."""
    if shape[1] == 1:
        kernel = kernel.sum(1, keepdim=True)
    rows, columns = _overlap(kernel.shape[2], shape[2]), _overlap(kernel.shape[3], shape[3])
    return rows @ kernel @ columns.T


def _overlap(old: int, new: int) -> Tensor:
    """(new, old): how much of each old pixel lies in each new one, when both fill the same side. Columns sum to 1, so
    that the sum of a kernel, its answer to a plain area, stays."""
    edges = torch.arange(new + 1, dtype=torch.float64) * old / new
    pixels = torch.arange(old, dtype=torch.float64)
    begin = torch.maximum(edges[:-1, None], pixels)
    end = torch.minimum(edges[1:, None], pixels + 1)
    return (end - begin).clamp(min=0).float()


def _positions(embeddings: Tensor, shape: torch.Size) -> Tensor:
    """(1, tokens, width), bicubic over the square of patches; the tokens before it, as of the class, stay as they are.
    Dosovitskiy et al. 2021, section 3.2."""
    old, new = math.isqrt(embeddings.shape[1]), math.isqrt(shape[1])
    before = embeddings.shape[1] - old**2
    if before != shape[1] - new**2 or embeddings.shape[2] != shape[2]:
        return embeddings
    square = embeddings[:, before:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    square = F.interpolate(square, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([embeddings[:, :before], square.permute(0, 2, 3, 1).reshape(1, new**2, -1)], dim=1)
