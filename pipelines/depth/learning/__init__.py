"""What fine-tuning asks of each family of depth networks."""
