"""One file per library, each run in a process of its own; a job returns a block that fits (see `race.worker`)."""
