"""What is added to a guided prediction: what to steer to, its gradient, and the terms, one kind a file."""
