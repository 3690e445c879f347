"""The answer: recall, rank and rerank for one request."""
