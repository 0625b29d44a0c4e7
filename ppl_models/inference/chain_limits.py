"""What the chains of one posterior must reach for their draws to stand for it: R-hat and effective numbers of draws.

Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), Rank-normalization, folding, and localization.
"""

RHAT_LIMIT = 1.01
ESS_LIMIT = 400.0
