"""People rendered by the project, the generators trained on them, and their weights."""
