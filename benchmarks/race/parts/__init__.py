"""The parts of the benchmark; each asks the peers for its measurements and returns rows."""
