"""The method: regions, losses, schedule and the continuous batch. No files, no clock, no Ray."""
