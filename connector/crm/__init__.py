"""Dataverse: client, batch, metadata, and the repository that turns rows into the domain through the mapping."""
