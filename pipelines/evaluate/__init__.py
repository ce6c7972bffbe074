"""eval: policies judged in a simulator, trial by trial."""
