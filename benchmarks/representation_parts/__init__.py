"""Parts of the benchmark of representation learning."""
