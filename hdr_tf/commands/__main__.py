"""`python -m hdr_tf.commands fuse ...` is `hdr-tf fuse ...`."""

from hdr_tf.commands import run

if __name__ == "__main__":  # processes that the command starts import this too
    run()
