"""Texture of a face in the atlas: unwrap, inpaint, realign, de-retouch and fuse (HRN §3.2 and §3.4)."""
