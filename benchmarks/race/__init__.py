"""Speed of this library beside its peers: data, models, one process per peer, and what is made of the figures."""
