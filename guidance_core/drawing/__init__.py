"""Pictures: line plots and contact sheets."""
