"""What a training came to: comparisons, predicted depth, reports."""
