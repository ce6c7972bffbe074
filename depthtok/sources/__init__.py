"""Where episodes come from: RLDS directories read without TensorFlow."""
