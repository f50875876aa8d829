"""Learned priors: the supervised data they are trained on. The networks are to come; a fit works without them."""
