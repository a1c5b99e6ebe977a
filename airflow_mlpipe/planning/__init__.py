"""Pure decisions: what a step is made of, what is reused, and why."""
