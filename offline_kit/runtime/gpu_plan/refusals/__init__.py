"""Why vLLM would not start an engine, memory aside."""
