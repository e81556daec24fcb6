"""Content-addressed results: blobs, trees, action records, ledger."""
