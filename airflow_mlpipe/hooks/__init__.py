"""What Airflow keeps for the project."""
