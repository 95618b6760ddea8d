"""Building blocks that the losses of several stages share."""
