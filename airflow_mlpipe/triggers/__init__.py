"""What tasks wait for without a worker: JSON arguments, and nothing that blocks the event loop."""
