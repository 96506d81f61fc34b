"""Who computes answers: the resident model, vLLM, lm-evaluation-harness."""
