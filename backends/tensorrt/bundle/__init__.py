"""Deployment bundles: everything a device needs to build an engine of its own and to check it."""
