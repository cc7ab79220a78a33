"""Training runs: step, update and loss terms; run, loop and checkpoints; optimizer, schedules, state, memory, log."""
