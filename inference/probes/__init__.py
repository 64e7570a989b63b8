"""Probes of a latent space: what its coordinates and its geometry say of the texts."""
