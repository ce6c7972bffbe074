"""What a codebook loses: metrics, report, gate."""
