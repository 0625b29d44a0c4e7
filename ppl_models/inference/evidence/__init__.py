"""Evidence of a model, log p(data), each method with its own health."""
