"""The networks, one file per system; `hdr_tf.systems` lists them.

A fusion network maps a dict of named images [B, H, W, C] to {"fused": [B, H, W, C]}. The files of the other networks say what
these take and return.
"""
