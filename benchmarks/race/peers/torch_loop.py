"""The autoencoder's training loop as one would write it by hand in torch, with the ELBO that `Trace_ELBO` estimates."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from race import autoencoder
from race.timing import block_of_steps

Block = Callable[[int], dict[str, Any]]


def negative_elbo(decoder: autoencoder.Decoder, encoder: autoencoder.Encoder, x: torch.Tensor) -> torch.Tensor:
    """One-sample negative ELBO of a batch in nats, log q - log p at the sampled codes, as in Pyro."""
    location, scale = encoder.code(x)
    noise = torch.randn_like(location)
    z = location + scale * noise
    fit = binary_cross_entropy_with_logits(decoder.logits(z), x, reduction="sum")
    return fit + 0.5 * (z.square() - noise.square()).sum() - scale.log().sum()


def autoencoder_steps(batch: int, batches: int, target: float, fused: bool) -> Block:
    """Blocks of steps in float32, with Adam as torch gives it or with its fused form."""
    torch.set_default_dtype(torch.float32)
    decoder, encoder = autoencoder.modules()
    loader = autoencoder.batches(batches, batch)
    adam = torch.optim.Adam([*decoder.parameters(), *encoder.parameters()], lr=1e-3, fused=fused or None)

    def run(count: int) -> tuple[float, int]:
        made, started = 0, time.perf_counter()
        while made < count:
            for (x,) in loader:
                loss = negative_elbo(decoder, encoder, x)
                adam.zero_grad()
                loss.backward()
                adam.step()
                loss.item()  # every peer hands each loss to Python
                made += 1
                if made == count:
                    break
        return time.perf_counter() - started, made

    return block_of_steps(run, target)
