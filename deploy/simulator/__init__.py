"""The people around the four services, played through their public HTTP APIs; all it makes up is synthetic."""
