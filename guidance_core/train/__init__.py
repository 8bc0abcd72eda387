"""Training a noise-aware classifier: settings, data, state, and one flat loop."""
