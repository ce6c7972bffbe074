"""Sources of episodes: RLDS directories, read without TensorFlow."""
