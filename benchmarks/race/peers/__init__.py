"""One file per peer; each job in it prepares a task and returns a block to be timed (see `race.worker`)."""
