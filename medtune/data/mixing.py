"""MixUp and CutMix: every image of a batch is mixed with another one, and so are their targets."""

import math

import torch
from torch import Tensor

from medtune.config.trial import Augment


def mix(config: Augment, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images and targets, each mixed with those of its partner under one permutation of the batch.

    images: float (cases, channels, height, width); targets: float (cases, classes), probabilities or 0/1 labels. The
    share that an image keeps comes from Beta(alpha, alpha), anew for each. MixUp (Zhang et al. 2018) blends the two
    images; CutMix (Yun et al. 2019) puts a rectangle of the partner into the image, and the targets are mixed by the
    share of pixels that is truly kept. With both on, each image draws one of the two; with none, all stays as it is.
    """
    if not (config.mixup or config.cutmix):
        return images, targets
    partner = torch.randperm(len(images), generator=generator, device=images.device)
    kept = _kept(config, images, generator)
    share = kept.mean(dim=(1, 2, 3))[:, None]
    return torch.lerp(images[partner], images, kept), torch.lerp(targets[partner], targets, share)


def _kept(config: Augment, images: Tensor, generator: torch.Generator) -> Tensor:
    """How much of each pixel is kept: (cases, 1, height, width) from 0 to 1, or (cases, 1, 1, 1) for MixUp alone."""
    if not config.cutmix:
        return symmetric_beta(config.mixup, images, generator)
    outside = _outside(symmetric_beta(config.cutmix, images, generator), images, generator).to(images.dtype)
    if not config.mixup:
        return outside
    blended = symmetric_beta(config.mixup, images, generator)
    return torch.where(_uniform(images, generator) < 0.5, outside, blended)


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device)


def symmetric_beta(alpha: float, images: Tensor, generator: torch.Generator) -> Tensor:
    """(cases, 1, 1, 1) from Beta(alpha, alpha), for any alpha over 0 and without rejection. Devroye 1996."""
    exponent = torch.log(_uniform(images, generator)) / alpha
    power, rest = torch.exp(exponent), -torch.expm1(exponent)
    cosine = torch.cos(2 * math.pi * _uniform(images, generator))
    return ((1 + cosine * torch.sqrt(rest / (power + rest * cosine**2))) / 2).clamp_(0, 1)


def _outside(share: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
    """False in a rectangle of the area 1 - share about a point anywhere, cut off at the borders."""
    half = torch.sqrt(1 - share) / 2
    inside = torch.ones((), dtype=torch.bool, device=images.device)
    for dim in (2, 3):
        shape = [1, 1, 1, 1]
        shape[dim] = images.shape[dim]
        centres = (torch.arange(images.shape[dim], device=images.device) + 0.5).view(shape) / images.shape[dim]
        inside = inside & ((centres - _uniform(images, generator)).abs() < half)
    return ~inside
