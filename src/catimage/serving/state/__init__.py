"""What the replicas of the service share: a SQLite file, or a PostgreSQL database."""
