"""The posterior of each datum through a frozen model: by optimisation, by Markov chains, on a grid."""
