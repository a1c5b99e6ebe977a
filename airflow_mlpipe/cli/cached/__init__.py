"""What ``mlpipe cache`` prints: for people as tables, for programs as plain data."""
