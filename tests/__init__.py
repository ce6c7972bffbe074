"""Each folder tests the package, or the topic, of its name."""
