"""QDepth-VLA: a vision-language-action model with quantised depth as auxiliary task."""
