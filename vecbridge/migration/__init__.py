"""Moving a collection from one database to another, and proving that nothing was lost."""
