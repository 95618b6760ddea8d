"""Reports: what a page says (``document``), written (``writer``) as ``html`` with ``plots``."""
