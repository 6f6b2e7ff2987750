"""The networks of the embedded scorers: one file for each, which reads its weights and tokenizer as they are packed."""
