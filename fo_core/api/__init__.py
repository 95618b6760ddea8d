"""The public Python API; its names are those of :mod:`fo_core`."""
