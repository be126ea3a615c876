"""How many samples a second, of networks on trees, chains, lattices and graphs: inference and training."""
