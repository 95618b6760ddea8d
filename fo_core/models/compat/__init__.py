"""Published checkpoints' own behaviour, as subclasses of our parts (``compat: official``)."""
