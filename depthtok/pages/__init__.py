"""Self-contained HTML reports, and the same numbers as JSON."""
