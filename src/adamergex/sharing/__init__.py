"""What is made of an adapter for others to use."""
