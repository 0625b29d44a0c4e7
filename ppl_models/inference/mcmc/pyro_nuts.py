"""Pyro's own NUTS, on the same compiled log density as every other kernel."""

import numpy as np
import pyro
import torch
from pyro.infer import MCMC, NUTS

from ppl_models.engine import CompiledDensity
from ppl_models.inference.mcmc.chains import Chains, ChainSettings
from ppl_models.inference.mcmc.starts import start_point
from ppl_models.progress import Update
from ppl_models.seeds import child_seed


class _RecordingNUTS(NUTS):
    """Keeps the energy at the start of each transition, which Pyro computes and forgets."""

    energy: float | None = None

    def sample(self, params):
        self.energy = None
        return super().sample(params)

    def _kinetic_energy(self, r_unscaled):
        kinetic = super()._kinetic_energy(r_unscaled)
        if self.energy is None and self._potential_energy_last is not None:
            self.energy = float(kinetic + self._potential_energy_last)
        return kinetic


def run_pyro_nuts(density: CompiledDensity, settings: ChainSettings, update: Update) -> Chains:
    """Run Pyro's NUTS, one chain after the other."""
    flat, lp, energy, diverging = [], [], [], []
    per_chain = settings.warmup + settings.draws
    for chain in range(settings.chains):
        seed = child_seed(settings.seed, f"chain {chain}")
        start = torch.as_tensor(start_point(density, seed, settings.starts), dtype=density.program.dtype)
        pyro.set_rng_seed(seed)
        energies: list[float] = []

        def hook(kernel, _, stage, index, done=chain * per_chain, energies=energies):
            if stage == "Sample":
                energies.append(kernel.energy if kernel.energy is not None else np.nan)
            update(done + index + 1 + (settings.warmup if stage == "Sample" else 0), "")

        kernel = _RecordingNUTS(
            potential_fn=lambda z: -_Density.apply(z["flat"], density), target_accept_prob=settings.target_accept
        )
        mcmc = MCMC(
            kernel,
            num_samples=settings.draws,
            warmup_steps=settings.warmup,
            initial_params={"flat": start},
            disable_progbar=True,
            hook_fn=hook,
        )
        mcmc.run()
        draws = mcmc.get_samples()["flat"]
        flat.append(draws.numpy())
        lp.append([density(draw)[0] for draw in draws.numpy()])
        energy.append(energies)
        marks = np.zeros(settings.draws, dtype=bool)
        marks[mcmc.diagnostics()["divergences"]["chain 0"]] = True
        diverging.append(marks)
    stats = {"diverging": np.stack(diverging), "lp": np.asarray(lp), "energy": np.asarray(energy)}
    return Chains(np.stack(flat), stats)


class _Density(torch.autograd.Function):
    """The compiled log density as a differentiable function, so that Pyro can ask for its gradient."""

    @staticmethod
    def forward(ctx, flat: torch.Tensor, density: CompiledDensity) -> torch.Tensor:
        value, gradient = density.gradient(flat.detach())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx, *grad_outputs):
        (gradient,) = ctx.saved_tensors
        return grad_outputs[0] * gradient, None
