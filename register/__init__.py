"""What people enter and decide, kept for good: the register of exclusions. Imports nothing but `warehouse`."""
