"""The result of a collection, the judgement, and the state of every pipeline.  Pure."""
