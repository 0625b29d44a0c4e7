"""Every family and method on every problem of posteriordb: accuracy against time, beside the peers."""
