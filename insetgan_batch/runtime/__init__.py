"""The run: leases, workers, actors, driver."""
