"""Networks for encoders and decoders: plain modules that broadcast over leading axes, as of particles."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

KERNEL, STRIDE, PADDING = 4, 2, 1
"""Of every convolution: each halves the image (rounded down)."""

Activation = Callable[[], nn.Module]
"""A class of activations, as `nn.ReLU`, or a function without arguments that makes one."""


class MLP(nn.Module):
    """A multilayer perceptron: linear layers with an activation between each two.

    Weights begin so that signals keep their size from layer to layer (He et al. 2015, Delving deep into rectifiers, for
    the hidden layers; Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural
    networks, for the last one); biases begin at zero.

    Args:
        num_inputs: Length of the input vectors.
        num_outputs: Length of the output vectors; no activation follows them.
        hidden: Widths of the hidden layers; none makes it linear.
        activation: Class of the activations.
    """

    def __init__(
        self, num_inputs: int, num_outputs: int, hidden: Sequence[int] = (200,), activation: Activation = nn.ReLU
    ):
        super().__init__()
        widths = [num_inputs, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [_hidden(nn.Linear(before, after)), activation()]
        self.layers = nn.Sequential(*layers, _last(nn.Linear(widths[-1], num_outputs)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors of shape (..., num_inputs) to vectors of shape (..., num_outputs)."""
        return self.layers(x)


class ConvEncoder(nn.Module):
    """Convolutions that halve an image at each layer, then a linear layer to a vector.

    Args:
        image: Side of square images of one channel, or (channels, height, width).
        num_outputs: Length of the output vectors; no activation follows them.
        channels: Channels behind each convolution; at most as many as the image can be halved.
        activation: Class of the activations.

    Raises:
        ValueError: The image is too small for so many convolutions.
    """

    def __init__(
        self,
        image: int | Sequence[int],
        num_outputs: int,
        channels: Sequence[int] = (32, 64),
        activation: Activation = nn.ReLU,
    ):
        super().__init__()
        self.image = image_shape(image)
        sizes = halved(self.image[1:], len(channels))
        widths = [self.image[0], *channels]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [_hidden(nn.Conv2d(before, after, KERNEL, STRIDE, PADDING)), activation()]
        self.convolutions = nn.Sequential(*layers)
        self.last = _last(nn.Linear(widths[-1] * sizes[-1][0] * sizes[-1][1], num_outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Flat images (..., pixel), or images (..., channel, height, width), to vectors (..., num_outputs)."""
        lead = leading_shape(x, self.image)
        features = self.convolutions(x.reshape(-1, *self.image))
        return self.last(features.flatten(1)).reshape(*lead, -1)


class ConvDecoder(nn.Module):
    """A linear layer from a vector, then transposed convolutions that double the image: a `ConvEncoder` backwards.

    Args:
        num_inputs: Length of the input vectors.
        image: Side of square images of one channel, or (channels, height, width).
        channels: Channels in front of each convolution.
        activation: Class of the activations.
        flat: Whether images are returned as vectors of pixels.

    Raises:
        ValueError: The image is too small for so many convolutions.
    """

    def __init__(
        self,
        num_inputs: int,
        image: int | Sequence[int],
        channels: Sequence[int] = (64, 32),
        activation: Activation = nn.ReLU,
        flat: bool = True,
    ):
        super().__init__()
        self.image, self.flat = image_shape(image), flat
        sizes = halved(self.image[1:], len(channels))[::-1]
        self.start = (channels[0] if channels else self.image[0], *sizes[0])
        self.first = _hidden(nn.Linear(num_inputs, torch.Size(self.start).numel()))
        widths = [*channels, self.image[0]]
        layers: list[nn.Module] = []
        for index in range(len(channels)):
            small, large = sizes[index], sizes[index + 1]
            odd = (large[0] - 2 * small[0], large[1] - 2 * small[1])
            layer = nn.ConvTranspose2d(widths[index], widths[index + 1], KERNEL, STRIDE, PADDING, output_padding=odd)
            layers += [activation(), _last(layer)]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Vectors (..., num_inputs) to flat images (..., pixel), or images (..., channel, height, width)."""
        start = self.first(z).reshape(-1, *self.start)
        images = self.convolutions(start)
        return images.reshape(*z.shape[:-1], *((-1,) if self.flat else self.image))


def image_shape(image: int | Sequence[int]) -> tuple[int, int, int]:
    """Channels, height and width of an image given as such, or as the side of a square of one channel."""
    channels, height, width = (1, image, image) if isinstance(image, int) else image
    return channels, height, width


def halved(size: Sequence[int], times: int) -> list[tuple[int, int]]:
    """The sizes (height, width) that an image has before and behind each of a few convolutions.

    Raises:
        ValueError: Nothing would be left of it.
    """
    sizes = [(size[0] // 2**n, size[1] // 2**n) for n in range(times + 1)]
    if min(sizes[-1]) < 1:
        raise ValueError(
            f"image: found {size[0]} x {size[1]} pixels and {times} convolutions that halve them, which leave none. "
            "Give fewer channels."
        )
    return sizes


def leading_shape(x: torch.Tensor, image: tuple[int, int, int]) -> torch.Size:
    """The axes in front of images, flat or not.

    Raises:
        ValueError: They are no such images.
    """
    if tuple(x.shape[-3:]) == image:
        return x.shape[:-3]
    if x.shape[-1:] == (torch.Size(image).numel(),):
        return x.shape[:-1]
    if image[0] == 1 and tuple(x.shape[-2:]) == image[1:]:
        return x.shape[:-2]
    raise ValueError(
        f"images: found shape {tuple(x.shape)}, wanted (..., {torch.Size(image).numel()}) or (..., "
        f"{', '.join(map(str, image))}). Give the network the shape of your images (channels, height, width)."
    )


@torch.no_grad()
def _hidden(layer: Any) -> Any:
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


@torch.no_grad()
def _last(layer: Any) -> Any:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
