"""One file over HTTP into the store: requests, retries, byte ranges, resuming, rate limits."""
