"""How often a verdict is right: problems, guides, planted faults, true errors, and the sums over them."""
