"""Pure renderings of plans, runs and findings."""
