"""Expectations by Monte Carlo: one method a file."""
