"""The rerank API: what clients of Cohere, Jina, Voyage, vLLM and text-embeddings-inference send and expect."""
