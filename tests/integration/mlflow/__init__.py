"""A pipeline tells a real MLflow server of its runs."""
