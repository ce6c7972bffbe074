"""Video-Depth-Anything: network, clip algorithm, weights, fine-tuning."""
