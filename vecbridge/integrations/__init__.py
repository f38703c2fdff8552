"""Faces for frameworks that run vecbridge; each is imported only by those who use the framework."""
