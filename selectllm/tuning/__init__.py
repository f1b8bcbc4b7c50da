"""Fine-tunes a causal model on annotated rows, scores it on held-out rows, and exports it for Ollama and llama.cpp."""
