"""Noise-aware classifiers: the model, its card and its file."""
