"""The Partner Center adapter."""
