"""Learned priors. Nothing is here yet: a fit works without them, and docs/roadmap.md says what is to come."""
