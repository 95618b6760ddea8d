"""Reports: what a page says (``document``), how it looks (``html``), its pictures (``plots``)."""
