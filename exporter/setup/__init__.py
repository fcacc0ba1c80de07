"""What a config needs of a database: proposed, and checked."""
