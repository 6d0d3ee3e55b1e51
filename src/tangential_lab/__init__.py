"""The laboratory: optimizers compared fairly, on real data, by one command."""
