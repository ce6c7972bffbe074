"""eval: policies evaluated in a simulator, trial by trial."""
