"""What was intended, sent and confirmed; leases; the run log."""
