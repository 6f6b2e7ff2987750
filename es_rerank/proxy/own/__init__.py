"""Everything below `/_es_rerank`: one file for each path or family of paths, and how their answers are written."""
