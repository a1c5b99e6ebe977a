"""Running a step on a compute target."""
