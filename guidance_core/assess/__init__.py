"""How good a classifier is at each noise level, and what that says about guiding with it."""
