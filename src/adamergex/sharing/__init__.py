"""What is made of an adapter for others to use: whole models, cards, publications on the Hugging Face hub."""
