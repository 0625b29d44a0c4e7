"""The parts of `benchmarks/monte_carlo.py`: each measures one thing and gives rows."""
