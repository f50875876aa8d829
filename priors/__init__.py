"""Learned priors: what scanned people share, and the supervised data that networks are trained on. Those are to come."""
