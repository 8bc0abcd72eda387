"""Noise-aware classifiers: files, networks, targets, gradients, training and evaluation."""
