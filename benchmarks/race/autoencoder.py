"""The autoencoder 784-400-20: networks shared by all peers, and Pyro's model and guide of it as modules."""

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

from race.workloads import images

PIXELS, HIDDEN, LATENTS = 784, 400, 20


class Decoder(PyroModule):
    """Logits of the pixels, shape (batch, 784), given codes of shape (batch, 20)."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(LATENTS, HIDDEN)
        self.output = nn.Linear(HIDDEN, PIXELS)

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        """Logits of the pixels."""
        return self.output(softplus(self.hidden(z)))

    def forward(self, x: torch.Tensor) -> None:
        """The model p(z) p(x | z) of a batch of images, shape (batch, 784)."""
        with pyro.plate("image", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(LATENTS), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.logits(z)).to_event(1), obs=x)


class Encoder(PyroModule):
    """Location and scale of the codes, shape (batch, 20) each, given images."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(PIXELS, HIDDEN)
        self.location = nn.Linear(HIDDEN, LATENTS)
        self.log_scale = nn.Linear(HIDDEN, LATENTS)

    def code(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Location and scale of the codes."""
        hidden = softplus(self.hidden(x))
        return self.location(hidden), self.log_scale(hidden).exp()

    def forward(self, x: torch.Tensor) -> None:
        """The guide q(z | x)."""
        with pyro.plate("image", len(x)):
            pyro.sample("z", dist.Normal(*self.code(x)).to_event(1))


def modules() -> tuple[Decoder, Encoder]:
    """Both networks with the same first weights in every process."""
    torch.manual_seed(1)
    return Decoder(), Encoder()


def batches(count: int, size: int) -> DataLoader:
    """A loader over batches that lie in memory, so that the data cost the same few microseconds for all."""
    return DataLoader([(torch.from_numpy(batch),) for batch in images(count, size)], batch_size=None)
