"""Running a step in a container of a Docker engine."""
