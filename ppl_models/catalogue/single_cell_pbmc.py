"""VAE of single blood cells: negative binomial counts with the cells' library sizes."""

import torch
from torch import nn

from guides.handwritten.single_cell_pbmc import NUM_HIDDEN, NUM_LATENTS, guide
from guides.networks import MLP
from ppl_models import datasets
from ppl_models.autoencoders import SingleCellVAE
from ppl_models.catalogue.problem import Problem
from ppl_models.catalogue.seeded import fixed_seed


def build() -> Problem:
    """The problem: 700 cells of the blood and 765 genes, which the extra `data` brings.

    z ~ Normal(0, I) with eight latents per cell; a gene's count is negative binomial, its mean the cell's total times
    the gene's share softmax(network(z)), with one dispersion for each gene.

    Raises:
        DataError: The extra is not installed.
    """
    table = datasets.pbmc()
    x = torch.tensor(table["counts"], dtype=torch.float64)
    num_cells, num_genes = x.shape
    with fixed_seed():
        decoder = MLP(NUM_LATENTS, num_genes, (NUM_HIDDEN,), nn.Softplus)
        model = SingleCellVAE(decoder, NUM_LATENTS, num_features=num_genes)
    return Problem(
        name="single_cell_pbmc",
        title="negative binomial variational autoencoder of 700 blood cells, eight latents per cell",
        model=model,
        data={"x": x, "num_rows": num_cells},
        coords={
            "datum": list(range(num_cells)),
            "latent": list(range(NUM_LATENTS)),
            "gene": table["gene"].tolist(),
        },
        dims={"z": ("datum", "latent"), "x": ("datum", "gene")},
        guides={"handwritten": guide},
        observed=("x",),
        fitting={"batch_size": 100, "max_epochs": 200, "step_size": 0.005},
        cite="Lopez et al. (2018), Deep generative modeling for single-cell transcriptomics, Nature Methods 15, "
        "1053-1058; Zheng et al. (2017), Massively parallel digital transcriptional profiling of single cells, Nature "
        "Communications 8, 14049 (data).",
        expected={
            "normal": "is slow, and serves no new cell: each cell has means and scales of its own to learn.",
            "handwritten": "does well; cells with few transcripts keep wide posteriors.",
        },
    )
