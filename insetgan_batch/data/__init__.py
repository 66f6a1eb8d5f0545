"""The outside world: manifests, storage, commits, results."""
