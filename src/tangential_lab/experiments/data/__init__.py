"""Where the experiments' data come from, and what is done to them before a net sees them."""
