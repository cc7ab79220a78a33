"""What networks cost: parameters, multiply-adds and memory, by module and by network."""
