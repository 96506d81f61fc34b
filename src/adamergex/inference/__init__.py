"""Items → predictions: prompts, choices by log-likelihood, generation, journals, by whichever engine."""
