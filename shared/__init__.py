"""What the four services share; nothing here imports a service."""
