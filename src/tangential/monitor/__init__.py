"""What a step does to the weights of a model: the monitor."""
