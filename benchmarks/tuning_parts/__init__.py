"""How well fits tune themselves, beside posteriordb's references, longer runs and runs tuned by hand."""
