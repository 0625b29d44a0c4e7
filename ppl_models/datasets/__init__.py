"""Small real data as mappings from name to NumPy array: shipped here, in other packages' wheels, and the user's own."""

from ppl_models.datasets.loaders import breast_cancer, diabetes, digits, eight_schools, lynx, old_faithful, sleepstudy
from ppl_models.datasets.own import rows_of
from ppl_models.datasets.packaged import mnist_5k, pbmc
from ppl_models.datasets.splitting import Split, binarised, split

__all__ = [
    "Split",
    "binarised",
    "breast_cancer",
    "diabetes",
    "digits",
    "eight_schools",
    "lynx",
    "mnist_5k",
    "old_faithful",
    "pbmc",
    "rows_of",
    "sleepstudy",
    "split",
]
