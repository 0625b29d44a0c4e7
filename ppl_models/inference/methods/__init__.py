"""Methods that fit a guide without SVI, on the model's log density."""

from ppl_models.inference.methods.approximations import Approximation, Mixture, Normal, Points, as_normal
from ppl_models.inference.methods.method import Arrival, Found, Method, Work
from ppl_models.inference.methods.registry import METHODS, OWN_METHOD, SVI, check_options, choose

__all__ = [
    "METHODS",
    "OWN_METHOD",
    "SVI",
    "Approximation",
    "Arrival",
    "Found",
    "Method",
    "Mixture",
    "Normal",
    "Points",
    "Work",
    "as_normal",
    "check_options",
    "choose",
]
