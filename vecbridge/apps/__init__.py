"""What can be built on stores and embedders."""
