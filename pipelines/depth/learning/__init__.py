"""Fine-tuning depth networks: one training, and what it asks of each family."""
