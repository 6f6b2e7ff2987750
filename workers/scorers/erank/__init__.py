"""The scorer of LLMs that think about a document and answer from 0 to 10, on vLLM or transformers."""
