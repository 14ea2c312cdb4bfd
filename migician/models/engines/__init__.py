"""Ways to run a model: transformers, vLLM, a server."""
