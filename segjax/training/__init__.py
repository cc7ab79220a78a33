"""Training: optimizer and schedules, crop schedule, state, step, loop, checkpoints, logging."""
