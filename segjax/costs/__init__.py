"""Costs of networks: parameters, multiply-adds and memory, by module and by network."""
