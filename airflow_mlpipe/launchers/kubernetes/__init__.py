"""Running a step in a pod: its manifest (`pod`), and the short-lived Secrets it uses (`secrets`)."""
