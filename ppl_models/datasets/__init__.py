"""Small real data: files shipped with the package, and scikit-learn's, as mappings from name to NumPy array."""

from ppl_models.datasets.loaders import breast_cancer, diabetes, digits, eight_schools, lynx, old_faithful, sleepstudy

__all__ = ["breast_cancer", "diabetes", "digits", "eight_schools", "lynx", "old_faithful", "sleepstudy"]
