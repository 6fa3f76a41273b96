"""Augmentation of a whole batch on its device, with every image drawing its own numbers.

torchvision's transforms draw once for a batch; these draw a row of numbers per image from the trial's generator.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from medtune.config.trial import Distortions
from medtune.data.policies import apply_policy, grey, resample

ERASED_AREA = (0.02, 0.33)  # Zhong et al. 2020, as torchvision has it
ERASED_ASPECT = (0.3, 3.3)
BLURRED = 0.05  # of the side: the widest standard deviation of a blur, as SimCLR's at 224 px, but at least a pixel's
YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]]
)  # of red, green, blue


class Augmenter:
    """Applies `Distortions` to float images (cases, channels, height, width) from 0 to 1.

    Range, shape, dtype and memory layout are kept.
    """

    def __init__(self, config: Distortions, generator: torch.Generator) -> None:
        self.config = config
        self.generator = generator
        # on the device once: a copy at each step would wait for it
        self.to_yiq, self.from_yiq = (matrix.to(generator.device) for matrix in (YIQ, torch.linalg.inv(YIQ)))
        geometric = config.rotate_degrees or config.shift or config.crop
        steps = [
            (geometric, self._affine),
            (config.flip and not geometric, lambda images: self._flip(images, 3)),
            (config.flip_vertical and not geometric, lambda images: self._flip(images, 2)),
            (config.policy.name != "none", lambda images: apply_policy(config.policy, images, generator)),
            (config.brightness, self._brightness),
            (config.contrast, self._contrast),
            (config.saturation, self._saturation),
            (config.hue, self._hue),
            (config.grey, self._grey),
            (config.blur, self._blur),
            (config.noise, self._noise),
            (config.erase, self._erase),
        ]
        self.steps = [step for wanted, step in steps if wanted]

    def __call__(self, images: Tensor) -> Tensor:
        channels_last = images.is_contiguous(memory_format=torch.channels_last)
        for step in self.steps:
            images = step(images)
        # resampling does not keep it
        return images.contiguous(memory_format=torch.channels_last) if channels_last else images

    def _uniform(self, images: Tensor, low: float, high: float, shape: tuple[int, ...] = (1, 1, 1)) -> Tensor:
        """One number a case, shaped to be multiplied with the images."""
        drawn = torch.rand((len(images), *shape), generator=self.generator, device=images.device)
        return drawn * (high - low) + low

    def _signs(self, images: Tensor, wanted: bool) -> Tensor:
        signs = self._uniform(images, -1, 1, ()).sign() if wanted else torch.ones(len(images), device=images.device)
        return torch.where(signs == 0, 1.0, signs)

    def _flip(self, images: Tensor, dim: int) -> Tensor:
        return torch.where(self._uniform(images, 0, 1) < 0.5, images.flip(dim), images)

    def _affine(self, images: Tensor) -> Tensor:
        """Flip, rotation, crop and shift in one resampling, because each resampling blurs."""
        config = self.config
        angle = self._uniform(images, -config.rotate_degrees, config.rotate_degrees, ()) * (math.pi / 180)
        scale = 1 - self._uniform(images, 0, config.crop, ())
        room = 1 - scale + 2 * config.shift  # a crop may lie anywhere that the image covers; 2: the side is -1..1
        shift = self._uniform(images, -1, 1, (2,)) * room[:, None]
        across, down = self._signs(images, config.flip), self._signs(images, config.flip_vertical)
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        theta = torch.stack([cos * across, -sin * down, shift[:, 0], sin * across, cos * down, shift[:, 1]], dim=1)
        return resample(images, theta.view(-1, 2, 3))

    def _brightness(self, images: Tensor) -> Tensor:
        factor = self._uniform(images, 1 - self.config.brightness, 1 + self.config.brightness)
        return (images * factor).clamp_(0, 1)

    def _contrast(self, images: Tensor) -> Tensor:
        factor = self._uniform(images, 1 - self.config.contrast, 1 + self.config.contrast)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return (mean + (images - mean) * factor).clamp_(0, 1)

    def _saturation(self, images: Tensor) -> Tensor:
        if images.shape[1] != 3:
            return images
        factor = self._uniform(images, 1 - self.config.saturation, 1 + self.config.saturation)
        shades = grey(images)
        return (shades + (images - shades) * factor).clamp_(0, 1)

    def _hue(self, images: Tensor) -> Tensor:
        """The two coordinates of colour turned about that of brightness (ITU-R's YIQ)."""
        if images.shape[1] != 3:
            return images
        angle = self._uniform(images, -self.config.hue, self.config.hue, ()) * (2 * math.pi)
        cos, sin, nil = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
        turn = torch.stack([nil + 1, nil, nil, nil, cos, -sin, nil, sin, cos], dim=1).view(-1, 3, 3)
        mix = self.from_yiq @ turn @ self.to_yiq
        return torch.einsum("nij,njhw->nihw", mix, images).clamp_(0, 1)

    def _grey(self, images: Tensor) -> Tensor:
        if images.shape[1] != 3:
            return images
        return torch.where(self._uniform(images, 0, 1) < self.config.grey, grey(images), images)

    def _blur(self, images: Tensor) -> Tensor:
        """A share of the images moved towards the widest blur, by an amount of their own: a kernel for each would take
        many times as long."""
        width = max(1.0, BLURRED * images.shape[3])
        reach = min(round(2 * width), images.shape[3] - 1)
        steps = torch.arange(-reach, reach + 1, device=images.device)
        kernel = torch.exp(-((steps / width) ** 2) / 2)
        kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
        across = F.conv2d(F.pad(images, (reach, reach, 0, 0), "reflect"), kernel, groups=images.shape[1])
        down = F.pad(across, (0, 0, reach, reach), "reflect")
        blurred = F.conv2d(down, kernel.transpose(2, 3), groups=images.shape[1])
        drawn = self._uniform(images, 0, 1) < self.config.blur
        return images.lerp(blurred, self._uniform(images, 0, 1) * drawn)

    def _noise(self, images: Tensor) -> Tensor:
        noise = torch.randn(images.shape, generator=self.generator, device=images.device)
        return (images + noise * self.config.noise).clamp_(0, 1)

    def _erase(self, images: Tensor) -> Tensor:
        """A rectangle set to the middle grey (0 after normalising) in a share of the images."""
        area = self._uniform(images, *ERASED_AREA)
        aspect = torch.exp(self._uniform(images, math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1])))
        erased = self._uniform(images, 0, 1) < self.config.erase
        for dim, side in ((2, torch.sqrt(area * aspect)), (3, torch.sqrt(area / aspect))):
            side = side.clamp(max=1)
            start = self._uniform(images, 0, 1) * (1 - side)
            shape = [1, 1, 1, 1]
            shape[dim] = images.shape[dim]
            centres = (torch.arange(images.shape[dim], device=images.device) + 0.5).view(shape) / images.shape[dim]
            erased = erased & (centres >= start) & (centres < start + side)
        return torch.where(erased, 0.5, images)
