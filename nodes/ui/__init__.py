"""What nodes draw and say."""
