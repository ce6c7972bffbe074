"""One TOML file per data set: cameras, state, action, instruction, rate."""
