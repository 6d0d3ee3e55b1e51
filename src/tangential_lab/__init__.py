"""The laboratory: it compares optimizers fairly, on real data, with one command."""
