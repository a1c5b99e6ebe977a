"""What planning needs from outside: code, data, environments, records."""
