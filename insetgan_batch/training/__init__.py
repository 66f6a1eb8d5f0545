"""Networks are learnt: one loop, its checkpoints, and the tasks that it does."""
