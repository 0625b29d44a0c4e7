"""Labels of models of handwritten digits with latents in each image."""

from typing import Any

NUM_PIXELS, SIDE = 64, 8


def labels_of_images(num_images: int, num_latents: int) -> dict[str, Any]:
    """`coords` and `dims` of a problem with latents z, shape (image, latent), and data x, shape (image, 64)."""
    return {
        "coords": {
            "datum": list(range(num_images)),
            "latent": list(range(num_latents)),
            "pixel": [f"row {pixel // SIDE} column {pixel % SIDE}" for pixel in range(NUM_PIXELS)],
        },
        "dims": {"z": ("datum", "latent"), "x": ("datum", "pixel")},
    }
