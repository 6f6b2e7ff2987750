"""The scorer for LLMs that think about a document and answer with 0 to 10, on vLLM or transformers."""
