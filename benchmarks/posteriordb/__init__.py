"""Models of posteriordb as Pyro functions, to be compared with its reference draws (Magnusson et al. 2024).

problem = posteriordb.load("arK-arK", folder)   # .model .data .reference .summary .multimodal .cite .sampling
"""

from benchmarks.posteriordb.problem import Problem
from benchmarks.posteriordb.registry import find_folder, load, names

__all__ = ["Problem", "find_folder", "load", "names"]
